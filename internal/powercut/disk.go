// Package powercut is a model of a machine's disk, firmware and init, in memory,
// for the proof that an update survives a power cut at any moment (D5, P0-P24).
//
// A Machine runs one update on a Disk whose writes, flushes and variable changes
// are recorded as a History. From it come the states that a cut could have left:
// every prefix in sectors of 512 bytes, and between two flushes other subsets of
// the sectors as well, because a disk writes in the order it likes. Each state
// is started again by firmware that follows the rules of UEFI 2.10 section
// 3.1.2 and 3.5.1.1: BootNext is deleted and tried, then BootOrder, options that
// do not load are skipped, and the removable media path comes last. Whether a
// slot loads is asked of its bytes by package fat.
//
// What is real: the state machine and journal of boot/slot, the regions of
// partition/state, the slot writer, FAT volumes of partition/fat. What is a
// model: firmware, kernel, and variables, which change as a whole (measured with
// EDK2: each of 3,830 cuts inside SetVariable left the old value or the new).
//
//	h, err := powercut.Record(old, new)
//	err = h.States(func(s powercut.State) error { ... s.Row, s.Machine() ... })
package powercut

import (
	"fmt"
	"io"

	"github.com/ingot-os/ingot/partition/state"
)

// Area is one partition of the model's disk.
type Area int

// The areas, in order on the disk.
const (
	SlotA Area = iota
	SlotB
	RootA
	RootB
	StateArea
	areas
)

// Disk holds two slots, their verity roots and the state partition.
type Disk struct {
	slot     int64 // bytes of one slot
	root     int64 // bytes of one root, 0 = none
	store    store
	versions [areas]*int // identity of each area's content: a new pointer with each write
	history  *History    // records, when set
	counts   Counts
}

// Counts are what was done to a disk.
type Counts struct{ Writes, Flushes int }

// NewDisk returns a disk of zeros with slots and roots of so many bytes.
func NewDisk(slot, root int64) *Disk {
	d := &Disk{slot: wholePages(slot), root: wholePages(root)}
	d.store = newStore(2*d.slot + 2*d.root + state.Size)
	for a := range d.versions {
		d.versions[a] = new(int)
	}
	return d
}

func wholePages(n int64) int64 { return (n + pageSize - 1) / pageSize * pageSize }

// Clone returns a disk with the same bytes that does not record.
func (d *Disk) Clone() *Disk {
	return &Disk{slot: d.slot, root: d.root, store: d.store.clone(), versions: d.versions}
}

// Part is one area as a device.
type Part struct {
	d    *Disk
	area Area
}

// Part returns an area of the disk.
func (d *Disk) Part(a Area) Part { return Part{d, a} }

// Size returns the bytes of the area.
func (p Part) Size() int64 {
	switch p.area {
	case StateArea:
		return state.Size
	case RootA, RootB:
		return p.d.root
	}
	return p.d.slot
}

func (p Part) base() (at int64) {
	for a := range p.area {
		at += Part{p.d, a}.Size()
	}
	return at
}

// ReadAt implements io.ReaderAt.
func (p Part) ReadAt(b []byte, off int64) (int, error) {
	n := max(min(int64(len(b)), p.Size()-off), 0)
	p.d.store.read(b[:n], p.base()+off)
	if n < int64(len(b)) {
		return int(n), io.EOF
	}
	return len(b), nil
}

// WriteAt implements io.WriterAt; writes are whole sectors, as a disk's.
func (p Part) WriteAt(b []byte, off int64) (int, error) {
	if off%sector != 0 || len(b)%sector != 0 || off+int64(len(b)) > p.Size() {
		return 0, fmt.Errorf("write %d bytes at %d of %d: not whole sectors", len(b), off, p.Size())
	}
	if p.d.history != nil {
		p.d.history.write(p.area, off, b)
	}
	p.d.counts.Writes++
	p.d.versions[p.area] = new(int)
	p.d.store.write(b, p.base()+off)
	return len(b), nil
}

// Sync implements slot.Device and state.Syncer.
func (p Part) Sync() error {
	p.d.counts.Flushes++
	if p.d.history != nil {
		p.d.history.add(Op{Kind: Flush})
	}
	return nil
}
