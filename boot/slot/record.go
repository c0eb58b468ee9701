package slot

import (
	"fmt"
	"slices"
	"time"
)

// Digest is a SHA-256.
type Digest [32]byte

// Content is what a slot holds, or what a release offers for one.
type Content struct {
	Version   string // at most MaxVersion bytes of printable ASCII
	Image     Digest // of the whole slot partition
	Root      Digest // of the root partition that switches with it; zero without one
	Epoch     uint32 // security epoch
	Schema    uint16 // format of the data partition that it writes
	Accepts   uint16 // newest format that it reads
	Condition Condition
}

// Record is the journal: all that a boot has to know of those before it.
type Record struct {
	Good      Slot // the last blessed slot
	Candidate Slot // the slot of the update under way; None
	Phase     Phase
	Means     Means
	Launched  bool // Selector, Netboot: the armed try was started
	Guarded   bool // one cold reset was made because of a polluted boot (S7)
	Deaf      bool // the firmware does not use BootNext

	Cause   Cause // of the last failure
	Culprit Slot  // the slot that failed
	Detail  string

	TriesLeft uint8 // evidenced failures that the candidate may still have
	Attempt   uint8 // trials whose init ran
	Arms      uint8 // trials started
	Lost      uint8 // trials of which nothing was seen
	Failures  uint8 // evidenced, of the good slot
	Bounces   uint8 // boots that ended in another slot than the wanted one
	Heals     uint16

	Floor      uint32 // lowest security epoch that may run
	Schema     uint16 // format of the data partition
	Generation uint64 // counts updates
	Seen       uint64 // ID of the last evidence that was counted
	Slots      [2]Content
}

// Of returns the content of a slot; of None an empty one.
func (r *Record) Of(s Slot) Content {
	if s == None {
		return Content{}
	}
	return r.Slots[s.index()]
}

func (r *Record) set(s Slot, c Condition) { r.Slots[s.index()].Condition = c }

// Rejection is one version that may not be tried again.
type Rejection struct {
	Version string
	Image   Digest
	Cause   Cause
}

// State is the record and what only this boot knows.
type State struct {
	Record
	Rejections []Rejection

	Running      Slot
	Pinned       Slot          // what the firmware starts by default, whatever is good
	Unjournalled bool          // the journal was lost and could not be rebuilt: no updates
	Since        time.Duration // uptime at which checks began to hold
	Began        time.Duration // uptime of the first check of this boot's trial
	Checks       int
	Healthy      bool // checks hold since Since
	Trusted      bool // the server's verdict
	FloorTried   bool // the TPM refused in this boot
	Recovering   bool // no slot can be started
	Notice       string
}

// IsRejected says whether a release was rejected, by its bytes or its version.
func (s *State) IsRejected(c Content) bool {
	if last, ok := s.refused(); ok && c.isSame(Rejection{Version: last.Version, Image: last.Image}) {
		return true
	}
	return slices.ContainsFunc(s.Rejections, c.isSame)
}

func (c Content) isSame(r Rejection) bool { return r.Image == c.Image || r.Version == c.Version }

// refused is the version that the journal itself says is rejected, whether or
// not the list has it yet.
func (r *Record) refused() (Content, bool) {
	switch {
	case r.Phase == Rejected:
		return r.Of(r.Candidate), r.Candidate != None
	case r.Phase == RolledBack, r.Phase == CrashLoop && r.Cause == Crashes:
		return r.Of(r.Culprit), r.Culprit != None && r.Culprit != r.Good
	}
	return Content{}, false
}

// usable says whether a slot may become the default without a trial, and if
// not, why.
func (s *State) usable(x Slot) error {
	c := s.Of(x)
	switch {
	case c.Condition != Good:
		return fmt.Errorf("%s is %s", x, c.Condition)
	case c.Epoch < s.Floor:
		return fmt.Errorf("%s has security epoch %d, the floor is %d", x, c.Epoch, s.Floor)
	case s.IsRejected(c):
		return fmt.Errorf("%s holds version %s, which is rejected", x, c.Version)
	case c.Accepts < s.Schema:
		return fmt.Errorf("%s reads data up to format %d, the data partition has %d", x, c.Accepts, s.Schema)
	}
	return nil
}
