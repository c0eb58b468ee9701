package slots

import (
	"github.com/ingot-os/ingot/boot/slot"
)

// lowPriority is what is slept between two pieces of background work, as a
// multiple of the time that one takes.
const lowPriority = 3

// Identify finds out the digests of the running slot when the journal does not
// have them: a disk that was just flashed. It reads 256 MiB and writes the
// journal once in the life of a disk, so it is for a machine that is healthy and
// has time.
func (k *Keeper) Identify() {
	s := k.State()
	if !nameless(s) {
		return
	}
	c, err := k.digests(s.Running, lowPriority)
	if err == nil {
		err = k.Handle(slot.Event{Kind: slot.Identified, Slot: s.Running, Release: c})
	}
	if err != nil {
		k.o.Problem("find out the digest of %s: %v", s.Running, err)
	}
}

// identifyNow is for an update that begins before Identify has ended: the slot
// that runs is what a patch could start from, and what the machine falls back to.
func (k *Keeper) identifyNow() {
	s := k.State()
	if !nameless(s) {
		return
	}
	c, err := k.digests(s.Running, 0)
	if err == nil {
		err = k.handle(slot.Event{Kind: slot.Identified, Slot: s.Running, Release: c})
	}
	if err != nil {
		k.o.Problem("find out the digest of %s: %v", s.Running, err)
	}
}

// nameless says that the digest of what runs is not known.
func nameless(s slot.State) bool {
	c := s.Of(s.Running)
	return !s.Unjournalled && c.Condition == slot.Good && c.Image == slot.Digest{}
}

// digests are those of a slot, and of the root partition that belongs to it.
func (k *Keeper) digests(x slot.Slot, rest int) (c slot.Content, err error) {
	if c.Image, err = k.sum(x.Role(), rest); err != nil || !k.o.Root {
		return c, err
	}
	c.Root, err = k.sum("root-"+letter(x), rest)
	return c, err
}
