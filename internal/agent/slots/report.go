package slots

import (
	"encoding/hex"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// Brief describes the slots without the firmware's entries: nothing is read for
// it.
func (k *Keeper) Brief() updateapi.Slots {
	k.mu.Lock()
	s, found, view, v := k.state, k.found, k.view, k.kept.Verdict
	k.mu.Unlock()
	out := Describe(s, found)
	if v.Generation == s.Generation && v.Arms == s.Arms {
		out.Judged = v.Seconds
	}
	if !k.o.Sealed {
		out.Why = append(out.Why, "floor: kept by the journal alone, because the data is not sealed to a counter of the TPM")
	}
	for _, x := range view.Order {
		out.Order = append(out.Order, letter(x))
	}
	out.Next = letter(view.Next)
	if f := k.o.Hooks.HasLog; out.Cause != "" && f != nil && f() {
		out.Why = append(out.Why, LogLine)
	}
	if f := k.o.Hooks.Notes; f != nil {
		notes := f()
		out.Why = append(out.Why, notes[:min(len(notes), max(maxWhy-len(out.Why), 0))]...)
	}
	return out
}

// LogLine of an explanation says where the log of a failure is: not each leaves one.
const LogLine = "log of the last failure that left one: ingot slots HOST --log"

// maxWhy bounds the explanation, in lines.
const maxWhy = 20

// Slots describes the slots for people and servers.
func (k *Keeper) Slots() updateapi.Slots {
	entries := k.look()
	out := k.Brief()
	out.Entries = entries
	return out
}

// Describe puts a state into the words of the API.
func Describe(s slot.State, journal slot.JournalState) updateapi.Slots {
	out := updateapi.Slots{
		Running: letter(s.Running), Good: letter(s.Good), Candidate: letter(s.Candidate),
		Phase: s.Phase.String(), Means: s.Means.String(), TriesLeft: int(s.TriesLeft), Attempt: int(s.Attempt), Floor: int(s.Floor),
		Journal: []string{"read", "empty", "lost"}[journal], Why: s.Why(),
	}
	if s.Cause != slot.NoCause {
		out.Cause, out.Culprit, out.Detail = s.Cause.String(), letter(s.Culprit), s.Detail
	}
	for _, x := range letters {
		c := s.Of(x)
		out.Slots = append(out.Slots, updateapi.Slot{Name: letter(x), Version: c.Version, Condition: c.Condition.String(),
			Epoch: int(c.Epoch), Image: digest(c.Image), Root: digest(c.Root)})
	}
	for _, r := range s.Rejections {
		out.Rejected = append(out.Rejected, updateapi.Rejected{Version: r.Version, Cause: r.Cause.String()})
	}
	return out
}

func letter(x slot.Slot) string {
	if x == slot.A || x == slot.B {
		return string(rune(x))
	}
	return ""
}

func digest(d slot.Digest) string {
	if d == (slot.Digest{}) {
		return ""
	}
	return hex.EncodeToString(d[:])
}
