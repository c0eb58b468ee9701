package powercut

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/partition/state"
)

// fill writes a slot from the release that the server has.
func (m *Machine) fill(a slot.Action) {
	i := slices.IndexFunc(m.releases, func(r *Release) bool { return r.Image == a.Release.Image })
	if i < 0 {
		return
	}
	r := m.releases[i]
	m.row("P1")
	write := m.write
	if m.writer != nil {
		write = func(x slot.Slot, r *Release) error { return m.writer(m, x, r) }
	}
	err := write(a.Slot, r)
	e := slot.Event{Kind: slot.Written, OK: err == nil}
	if err != nil {
		e.Detail = err.Error()
	}
	if a.Do == slot.Recover && err == nil {
		e = slot.Event{Kind: slot.Restored, Slot: a.Slot}
	}
	m.pending = append(m.pending, e)
}

// Writer writes a release into a slot of a machine and its root.
type Writer func(m *Machine, x slot.Slot, r *Release) error

// Part returns the partition of a role: "slot-b", "root-b".
func (m *Machine) Part(role string) Part {
	switch role {
	case "root-a", "root-b":
		return m.root(slot.Slot(role[len("root-")]))
	}
	return m.part(slot.Slot(role[len("slot-")]))
}

// SaveProgress keeps a JSON value of the update client over resets.
func (m *Machine) SaveProgress(b []byte) error {
	return state.Store(m.Disk.Part(StateArea), state.Update, fmt.Appendf(nil, `{"progress":%s}`, b))
}

// write puts a release into a slot as the update client does
// (internal/agent/updater): the slot is no file system before its root changes,
// and becomes one when root and slot were read back. How far it is is kept each
// time that so many bytes were flushed.
func (m *Machine) write(x slot.Slot, r *Release) error {
	if err := m.keep(r, x, "null"); err != nil {
		return err
	}
	p := m.part(x)
	if _, err := p.WriteAt(make([]byte, slot.HeaderSize), 0); err != nil {
		return err
	}
	if err := p.Sync(); err != nil {
		return err
	}
	save := func() error { return m.keep(r, x, "null") }
	if r.root != nil {
		root := medium{m.root(x), new(int), save}
		if err := (slot.Writing{Size: int64(len(r.root)), Digest: r.Root}).Write(root, bytes.NewReader(r.root)); err != nil {
			return err
		}
		if err := save(); err != nil {
			return err
		}
	}
	d := medium{p, new(int), save}
	if err := (slot.Writing{Size: int64(len(r.bytes)), Digest: r.Image}).Write(d, bytes.NewReader(r.bytes)); err != nil {
		return err
	}
	return save()
}

// medium flushes what is written each time that it is so much.
type medium struct {
	Part
	since *int
	save  func() error
}

const checkpoint = 16 << 20

// WriteAt implements io.WriterAt.
func (d medium) WriteAt(b []byte, off int64) (int, error) {
	n, err := d.Part.WriteAt(b, off)
	if *d.since += n; err != nil || *d.since < checkpoint {
		return n, err
	}
	*d.since = 0
	return n, errors.Join(d.Part.Sync(), d.save())
}
