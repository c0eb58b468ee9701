package powercut

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/agent/slots"
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
	return m.keep(func(k *slots.Kept) { k.Progress = b })
}

// progress is how far the update client is with a release, as it remembers that
// over resets (internal/agent/updater).
type progress struct {
	Slot     byte        `json:"slot"`
	Image    slot.Digest `json:"image"`
	Root     slot.Digest `json:"root"`
	Part     string      `json:"part,omitempty"` // those before it are complete
	From     int64       `json:"from,omitempty"`
	Head     []byte      `json:"head,omitempty"`
	Approved bool        `json:"approved,omitempty"`
}

// upload is a release on its way into a slot.
type upload struct {
	m     *Machine
	r     *Release
	p     progress
	saved int64 // From as it is kept
}

// The parts of a release.
const (
	partRoot = "root"
	partSlot = "slot"
)

// write puts a release into a slot as the update client does: the slot is no file
// system before its root changes, and becomes one when root and slot were read
// back. It goes on from what was kept.
func (m *Machine) write(x slot.Slot, r *Release) error {
	u := m.upload(x, r)
	p := m.part(x)
	if _, err := p.WriteAt(make([]byte, slot.HeaderSize), 0); err != nil {
		return err
	}
	if err := errors.Join(p.Sync(), u.save()); err != nil {
		return err
	}
	for u.p.Part != "" {
		if err := u.put(); err != nil {
			return err
		}
		next := map[string]string{partRoot: partSlot}[u.p.Part]
		u.p.Part, u.p.From, u.p.Head, u.saved = next, 0, nil, 0
		if err := u.save(); err != nil {
			return err
		}
	}
	return nil
}

// upload begins a release, or goes on with it.
func (m *Machine) upload(x slot.Slot, r *Release) *upload {
	u := &upload{m: m, r: r, p: progress{Slot: byte(x), Image: r.Image, Root: r.Root, Part: partRoot, Approved: true}}
	if r.root == nil {
		u.p.Part = partSlot
	}
	k := m.readRegions().progress
	if k.Slot == u.p.Slot && k.Image == r.Image && k.Root == r.Root && k.Part != "" {
		u.p.Part, u.p.From, u.p.Head, u.saved = k.Part, k.From, k.Head, k.From
	}
	return u
}

func (u *upload) save() error {
	u.saved = u.p.From
	b, err := json.Marshal(u.p)
	if err != nil {
		return err
	}
	return u.m.SaveProgress(b)
}

// put writes the part whose turn it is. What differs from what was signed comes
// again from its begin.
func (u *upload) put() error {
	part, image, sum := u.m.root(slot.Slot(u.p.Slot)), u.r.root, u.r.Root
	if u.p.Part == partSlot {
		part, image, sum = u.m.part(slot.Slot(u.p.Slot)), u.r.bytes, u.r.Image
	}
	from := u.p.From
	d := &medium{Part: part, flushed: func(end int64) error { return u.flushed(end, image) }}
	rest := io.MultiReader(bytes.NewReader(u.p.Head), bytes.NewReader(image[from:]))
	err := slot.Writing{Size: int64(len(image)), Digest: sum, From: from}.Write(d, rest)
	if from == 0 || !errors.Is(err, slot.ErrDigest) {
		return err
	}
	u.p.From, u.p.Head = 0, nil
	if err := u.save(); err != nil {
		return err
	}
	return u.put()
}

// checkpoint is how much is written between two flushes, in bytes.
const checkpoint = 16 << 20

// flushed is told how far a part is durable.
func (u *upload) flushed(end int64, image []byte) error {
	if end <= max(u.p.From, slot.HeaderSize) {
		return nil // the header itself
	}
	u.p.From, u.p.Head = end, image[:slot.HeaderSize]
	if end-u.saved < checkpoint && end < int64(len(image)) {
		return nil
	}
	return u.save()
}

// medium flushes what is written each time that it is so much.
type medium struct {
	Part
	flushed    func(end int64) error
	since, end int64
}

// WriteAt implements io.WriterAt.
func (d *medium) WriteAt(b []byte, off int64) (int, error) {
	n, err := d.Part.WriteAt(b, off)
	d.since, d.end = d.since+int64(n), off+int64(n)
	if err == nil && d.since >= checkpoint {
		err = d.Sync()
	}
	return n, err
}

// Sync implements slot.Device.
func (d *medium) Sync() error {
	d.since = 0
	return errors.Join(d.Part.Sync(), d.flushed(d.end))
}
