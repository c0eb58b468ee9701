package slot

import "fmt"

// maxListed bounds the rejected versions that Why names.
const maxListed = 5

// Why explains the machine in at most 20 lines: what runs and why, how far an
// update is, what failed last, and what the next reset will do.
func (s State) Why() []string {
	lines := []string{s.whyRuns(), s.whyPhase()}
	if s.Cause != NoCause {
		line := fmt.Sprintf("last failure: %s, version %s: %s (%s)", s.Culprit, named(s.Of(s.Culprit).Version), s.Cause.Text(), s.Cause)
		if s.Detail != "" {
			line += ": " + s.Detail
		}
		lines = append(lines, line)
	}
	lines = append(lines, "next reset: "+s.nextReset(), s.whyFallback(), s.whyMeans())
	lines = append(lines, fmt.Sprintf("floor: releases below security epoch %d are refused", s.Floor))
	for _, x := range []Slot{A, B} {
		if c := s.Of(x); c.Condition == Damaged {
			lines = append(lines, fmt.Sprintf("damaged: %s, version %s: its bytes are not those that were written", x, named(c.Version)))
		}
	}
	if s.Guarded {
		lines = append(lines, "boot.polluted: another program ran first; one cold reset was made")
	}
	if s.Unjournalled {
		lines = append(lines, "the slot journal was lost: no update until an operator adopts the running slot")
	}
	for i := len(s.Rejections) - 1; i >= max(0, len(s.Rejections)-maxListed); i-- {
		lines = append(lines, fmt.Sprintf("rejected: version %s (%s)", s.Rejections[i].Version, s.Rejections[i].Cause))
	}
	if n := len(s.Rejections) - maxListed; n > 0 {
		lines = append(lines, fmt.Sprintf("rejected: %d more", n))
	}
	return lines
}

func named(version string) string {
	if version == "" {
		return "unknown"
	}
	return version
}

func (s State) whyRuns() string {
	v := named(s.Of(s.Running).Version)
	switch {
	case s.Running == None && s.Means == Netboot:
		return "runs: asked over the network"
	case s.Running == None:
		return "runs: the selector, because the firmware started no slot"
	case s.Running == s.Good:
		return fmt.Sprintf("runs: %s, version %s, because it is the last blessed slot", s.Running, v)
	case s.Running == s.Candidate && s.Phase == Trying:
		return fmt.Sprintf("runs: %s, version %s, on trial %d", s.Running, v, s.Attempt)
	}
	return fmt.Sprintf("runs: %s, version %s, although %s is the good one", s.Running, v, s.Good)
}

func (s State) whyPhase() string {
	v := named(s.Of(s.Candidate).Version)
	switch s.Phase {
	case Staging:
		return fmt.Sprintf("STAGING: version %s is being written to %s", v, s.Candidate)
	case Staged:
		return fmt.Sprintf("STAGED: version %s is on %s and waits for approval", v, s.Candidate)
	case Armed:
		return fmt.Sprintf("ARMED: version %s is tried at the next boot (start %d)", v, s.Arms)
	case Trying:
		return fmt.Sprintf("TRYING: version %s has to stay healthy before it is blessed", v)
	case Blessed:
		return fmt.Sprintf("BLESSED: version %s is good; the floor may rise when it has run for a while", named(s.Of(s.Good).Version))
	case Failed:
		return fmt.Sprintf("FAILED: version %s may be tried again, failures left: %d", v, s.TriesLeft)
	case Rejected:
		return fmt.Sprintf("REJECTED: version %s is not tried again unless an operator overrides that", v)
	case RolledBack:
		return fmt.Sprintf("ROLLBACK: an operator went back to version %s", named(s.Of(s.Good).Version))
	case CrashLoop:
		return fmt.Sprintf("CRASHLOOP: the machine went back to version %s by itself", named(s.Of(s.Good).Version))
	}
	return "IDLE: no update is under way"
}

func (s State) nextReset() string {
	good := fmt.Sprintf("starts %s, version %s", s.Good, named(s.Of(s.Good).Version))
	switch {
	case s.Recovering:
		return "ends in the selector again: no slot can be started"
	case s.Phase == Armed && !s.Launched:
		return fmt.Sprintf("starts %s once; the one after it %s", s.Candidate, good)
	case s.Phase == Trying && s.Running == s.Candidate:
		return good + ", unless the trial is blessed before"
	}
	return good
}

func (s State) whyFallback() string {
	other := s.Good.Other()
	if err := s.usable(other); err != nil {
		return fmt.Sprintf("fallback: none: %v", err)
	}
	return fmt.Sprintf("fallback: version %s on %s", s.Of(other).Version, other)
}

func (s State) whyMeans() string {
	line := fmt.Sprintf("chosen by: %s", s.Means)
	switch {
	case s.Means == Selector && s.Deaf:
		line += ", because the firmware does not use BootNext"
	case s.Means == Selector:
		line += ", because the firmware does not keep its variables"
	case s.Heals > 0:
		line += fmt.Sprintf(", its entries were repaired %d times since the last update", s.Heals)
	}
	return line
}
