package updater

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/accept"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// Write implements updates.Client.
func (u *Updater) Write(part string, from int64, coding string, body io.Reader) (updateapi.Progress, error) {
	if err := u.able(); err != nil {
		return updateapi.Progress{}, err
	}
	if err := u.take(); err != nil {
		return updateapi.Progress{}, err
	}
	defer u.writing.Unlock()
	p, err := u.next(part, from)
	if err != nil {
		return updateapi.Progress{}, err
	}
	image, stop, err := u.decode(p, from, coding, body)
	if err != nil {
		return updateapi.Progress{}, err
	}
	defer stop()
	if err := u.write(p, from, image); err != nil {
		return updateapi.Progress{}, err
	}
	return u.written(p)
}

// next is the update whose turn this part is.
func (u *Updater) next(part string, from int64) (*update, error) {
	s := u.m.Keeper.State()
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.update != nil && !u.update.holds(s) {
		u.update = nil
	}
	p := u.update
	switch {
	case p == nil:
		return nil, refuse(updateapi.NotAllowed, "offer the release first", "no update is under way")
	case p.parts[0].Name != part:
		return nil, refuse(updateapi.NotAllowed, "send what the machine wants, in its order", "part %.40q: the machine waits for %s", part, p.parts[0].Name)
	case from < 0 || from > p.from || from%align != 0:
		return nil, refuse(updateapi.NotAllowed, "send from where the machine says", "bytes from %d: the machine has the first %d", from, p.from)
	}
	return p, nil
}

// holds says whether the state machine still wants this update. What is good or
// runs is never written.
func (p *update) holds(s slot.State) bool {
	if p.target == s.Running {
		return false
	}
	if p.recover {
		return s.Recovering && p.target == s.Good
	}
	return s.Phase == slot.Staging && s.Candidate == p.target && p.target != s.Good
}

// write streams a part into its partition and compares what is there then with
// what was signed.
func (u *Updater) write(p *update, from int64, image io.Reader) error {
	part := p.parts[0]
	d, err := u.device(accept.Role(part.Name, p.target), part.Size, os.O_RDWR)
	if err != nil {
		return refuse(updateapi.Failed, "", "%v", err)
	}
	defer d.close()
	head := &header{image: io.MultiReader(bytes.NewReader(u.goFrom(p, from)), image)}
	m := newMedium(d, func(end int64) { u.flushed(p, end, head) })
	defer m.close()
	err = slot.Writing{Size: part.Size, Digest: part.SHA256, From: from}.Write(m, head)
	if err == nil {
		return nil
	}
	return u.judge(p, part, head, err, m.Sync())
}

// goFrom forgets what is there of a part behind an offset, and returns what is
// not sent again of its first bytes.
func (u *Updater) goFrom(p *update, from int64) []byte {
	u.mu.Lock()
	defer u.mu.Unlock()
	if from == 0 {
		p.head = nil
	}
	p.from, p.saved = from, min(p.saved, from)
	return p.head
}

// header notes the first 4 KiB that pass, and why the image ended.
type header struct {
	image io.Reader
	first []byte
	err   error
}

// Read implements io.Reader.
func (h *header) Read(b []byte) (int, error) {
	n, err := h.image.Read(b)
	if left := slot.HeaderSize - len(h.first); left > 0 {
		h.first = append(h.first, b[:min(n, left)]...)
	}
	if err != nil && h.err == nil {
		h.err = err
	}
	return n, err
}

// flushed is told how far a part is durable.
func (u *Updater) flushed(p *update, end int64, head *header) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if end <= max(p.from, slot.HeaderSize) || end > p.parts[0].Size {
		return // the header itself
	}
	p.from, p.head = end, head.first
	if end-p.saved < checkpoint && end < p.parts[0].Size {
		return
	}
	u.keep(p)
}

// keep remembers how far the update is. It is called with mu held.
func (u *Updater) keep(p *update) {
	p.saved = p.from
	if err := u.m.Keeper.SaveProgress(p.keep()); err != nil {
		u.m.Logf("update: remember how far it is: %v", err)
	}
}

// judge says what a failed write was.
func (u *Updater) judge(p *update, part accept.Part, head *header, err, flush error) error {
	role := accept.Role(part.Name, p.target)
	var refused *updateapi.Error
	switch {
	case errors.As(err, &refused):
		return refused
	case errors.Is(err, slot.ErrDigest):
		u.goFrom(p, 0)
		u.mu.Lock()
		u.keep(p)
		u.mu.Unlock()
		u.m.Logf("update: %s: what was written is not what was signed", role)
		return refuse(updateapi.WrongBytes, "send the whole part again", "%s does not hold what was signed", role)
	case head.err != nil && head.err != io.EOF && flush == nil:
		u.mu.Lock()
		defer u.mu.Unlock()
		if p.saved < p.from {
			u.keep(p)
		}
		return refuse(updateapi.Failed, "send the rest", "the transfer was cut after %d bytes: %v", p.from, head.err)
	}
	u.m.Problem("update: write %s: %v", role, err)
	return refuse(updateapi.Failed, "", "write %s: %v", role, err)
}

// written goes on to the next part, or tells the state machine of the last one.
func (u *Updater) written(p *update) (updateapi.Progress, error) {
	u.mu.Lock()
	p.parts, p.from, p.head, p.saved = p.parts[1:], 0, nil, 0
	u.keep(p)
	more := len(p.parts) > 0
	if !more {
		u.update = nil
	}
	u.mu.Unlock()
	if more {
		return u.answer(), nil
	}
	u.m.Logf("update: version %s is on %s", p.content.Version, p.target)
	if p.recover {
		return u.restored(p), nil
	}
	if err := u.m.Keeper.Handle(slot.Event{Kind: slot.Written, OK: true}); err != nil {
		return updateapi.Progress{}, refuse(updateapi.Failed, "", "%v", err)
	}
	if p.approve {
		u.tryIt(p.by)
	}
	return u.answer(), nil
}

// clearHeader zeroes the first 4 KiB of the slot that is to be written.
func (u *Updater) clearHeader(p *update) error {
	role := p.target.Role()
	_, size, err := u.m.Partition(role)
	if err != nil {
		return err
	}
	d, err := u.device(role, size, os.O_RDWR)
	if err != nil {
		return err
	}
	defer d.close()
	if err := d.write(buffer(slot.HeaderSize), 0); err != nil {
		return err
	}
	return d.sync()
}

// device opens the partition of a role.
func (u *Updater) device(role string, size int64, flag int) (*device, error) {
	node, _, err := u.m.Partition(role)
	if err != nil {
		return nil, fmt.Errorf("find partition %s: %w", role, err)
	}
	d, err := openDevice(node, size, flag)
	if err == nil && u.tap != nil {
		d.tap = func(off int64, b []byte) { u.tap(role, off, b) }
	}
	return d, err
}
