package updater

import (
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/accept"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// restore answers Recover: it copies the other slot when that holds the same,
// and otherwise waits for somebody to send it.
func (u *Updater) restore(a slot.Action) {
	u.writing.Lock()
	defer u.writing.Unlock()
	s := u.m.Keeper.State()
	c, other := a.Release, s.Of(a.Slot.Other())
	if c.Image == (slot.Digest{}) || other.Condition != slot.Good || other.Image != c.Image || other.Root != c.Root || s.Running == a.Slot {
		u.m.Problem("%s is to be restored: version %s is wanted from the server, an operator or a USB stick", a.Slot, c.Version)
		return
	}
	if err := u.mirror(a.Slot, c); err != nil {
		u.m.Problem("copy %s to %s: %v", a.Slot.Other(), a.Slot, err)
		return
	}
	u.m.Logf("update: version %s was copied to %s", c.Version, a.Slot)
	if err := u.m.Keeper.Handle(slot.Event{Kind: slot.Restored, Slot: a.Slot, Release: c}); err != nil {
		u.m.Problem("restore %s: %v", a.Slot, err)
	}
}

// mirror copies what the other slot holds into a slot, in the order of an update.
func (u *Updater) mirror(target slot.Slot, c slot.Content) error {
	if err := u.clearHeader(&update{target: target}); err != nil {
		return err
	}
	if c.Root != (slot.Digest{}) {
		if err := u.copyPart(updateapi.PartRoot, target, c.Root); err != nil {
			return err
		}
	}
	return u.copyPart(updateapi.PartSlot, target, c.Image)
}

func (u *Updater) copyPart(part string, target slot.Slot, sum slot.Digest) error {
	from, to := accept.Role(part, target.Other()), accept.Role(part, target)
	_, size, err := u.m.Partition(from)
	if err != nil {
		return fmt.Errorf("find partition %s: %w", from, err)
	}
	src, err := u.device(from, size, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer src.close()
	dst, err := u.device(to, size, os.O_RDWR)
	if err != nil {
		return err
	}
	defer dst.close()
	r, w := newMedium(src, nil), newMedium(dst, nil)
	defer r.close()
	defer w.close()
	return slot.Writing{Size: size, Digest: sum}.Write(w, io.NewSectionReader(r, 0, size))
}

// beginRestore is for an offer when no slot starts: only what the journal names
// is taken, or anything when it names nothing.
func (u *Updater) beginRestore(s slot.State, r *accept.Release) error {
	want := s.Of(s.Good)
	if want.Image != (slot.Digest{}) && (want.Image != r.Content.Image || want.Root != r.Content.Root) {
		return refuse(updateapi.NotAllowed, "offer version "+want.Version, "%s must be restored first, with version %s", s.Good, want.Version)
	}
	p := &update{target: s.Good, content: r.Content, parts: slices.Clone(r.Parts), recover: true}
	p.resume(u.m.Keeper.Progress())
	return u.open(p)
}

// restored tells the state machine that the good slot is right again. That resets the
// machine, so who has sent the release is answered before.
func (u *Updater) restored(p *update) updateapi.Progress {
	u.mu.Lock()
	u.resets = true
	u.mu.Unlock()
	time.AfterFunc(u.grace, func() {
		u.guard("restore", func() {
			defer u.settle()
			if err := u.m.Keeper.Handle(slot.Event{Kind: slot.Restored, Slot: p.target, Release: p.content}); err != nil {
				u.m.Problem("restore %s: %v", p.target, err)
			}
		})
	})
	answer := u.answer()
	answer.Version, answer.Slot, answer.Wants = p.content.Version, letter(p.target), nil
	return answer
}
