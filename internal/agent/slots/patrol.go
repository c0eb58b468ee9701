package slots

import (
	"errors"

	"github.com/ingot-os/ingot/boot/slot"
)

// Patrol compares each slot that should be whole with its digests, and its root
// partition too, by what the medium gives now: nothing writes them between
// updates, so every other byte is damage. A slot that differs is damaged in the
// journal from then on: it is no way back any more, and the server is told. It
// reads slowly, and writes nothing when all is well.
func (k *Keeper) Patrol() {
	for _, x := range letters {
		if err := k.patrol(x); err != nil {
			k.o.Problem("compare %s with its digest: %v", x, err)
		}
	}
}

// patrol looks at a slot twice before it calls it damaged: an update may have
// begun to write it during the first look. None begins during the second.
func (k *Keeper) patrol(x slot.Slot) error {
	want, ok := k.toPatrol(x)
	if !ok {
		return nil
	}
	if detail, err := k.damage(x, want, lowPriority); err != nil || detail == "" {
		return err
	}
	k.turn.Lock()
	defer k.turn.Unlock()
	if now, ok := k.toPatrol(x); !ok || now != want {
		return nil
	}
	detail, err := k.damage(x, want, 0)
	if err != nil || detail == "" {
		return err
	}
	defer k.handled()
	return k.handle(slot.Event{Kind: slot.Drifted, Slot: x, Detail: detail})
}

// damage is what is wrong with a slot; "" when it is whole. A slot of which the
// medium does not give all is damaged, too.
func (k *Keeper) damage(x slot.Slot, want slot.Content, rest int) (detail string, err error) {
	got, err := k.digests(x, rest)
	switch {
	case errors.Is(err, errMedium):
		return err.Error(), nil
	case err != nil:
		return "", err
	case got.Image != want.Image:
		return "its bytes are not those that were written", nil
	case got.Root != want.Root:
		return "the bytes of its root partition are not those that were written", nil
	}
	return "", nil
}

// toPatrol is what a slot should hold; false when nobody knows, when it is being
// written, or when its damage is known. A trial is left alone: its watchdog counts
// on events that are not kept waiting.
func (k *Keeper) toPatrol(x slot.Slot) (slot.Content, bool) {
	s := k.State()
	c := s.Of(x)
	return c, !s.Unjournalled && s.Phase != slot.Trying && c.Image != (slot.Digest{}) && (c.Condition == slot.Good || c.Condition == slot.Ready)
}
