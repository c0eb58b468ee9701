// Package partition decides what sits where on an ingot disk and writes it:
//
//	p1 esp  p2 slot-a  p3 slot-b  p4 root-a  p5 root-b  p6 state  p7 data
//
// The numbers are fixed; p4 and p5 exist only with a root payload, p7 only
// with a data partition. Everything is in MiB steps, so the bytes of every
// partition and its place on the disk do not depend on the sector size, and
// flash can rewrite the table for a disk of the other kind. A disk is larger
// than its partitions by 1 MiB before them and 1 MiB behind them, for the two
// copies of the partition table.
//
// All ids are hashes of appliance name, layout id and role, never of the
// version: an update changes no GUID, so neither boot entries nor the measured
// partition table change with it.
//
// Plan, then write: Plan turns a Spec into a Layout, a value that can be
// printed (Picture), compared and handed to Write. Read recognises a Layout on
// a disk. The formats inside the partitions are the packages below this one.
package partition

import (
	"errors"
	"fmt"

	"github.com/ingot-os/ingot/partition/gpt"
	"github.com/ingot-os/ingot/partition/state"
)

// Roles of partitions; also their names in the partition table.
const (
	ESP   = "esp"
	SlotA = "slot-a"
	SlotB = "slot-b"
	RootA = "root-a"
	RootB = "root-b"
	State = "state"
	Data  = "data"
)

// Partition types of ingot's own partitions: version 8 UUIDs from the first 16
// bytes of SHA-256("ingot partition type " + word). The slots are FAT file
// systems but deliberately not EFI system partitions: firmware makes boot
// entries of its own for every one of those. The root partitions do not use
// the types of the Discoverable Partitions Specification either, as nothing
// but ingot-init may mount them.
var (
	TypeSlot  = gpt.MustGUID("a97b4c07-7c10-8155-a328-cb32661b1690")
	TypeRoot  = gpt.MustGUID("eb9eaa97-6172-832b-92e6-317d8f5b75e2")
	TypeState = gpt.MustGUID("ff3540cc-f274-8577-9fa1-76e2bb491831")
)

const (
	mib = 1 << 20
	// maxPart keeps every sum of sizes far from overflow, in bytes: 64 PiB.
	maxPart = 1 << 56
)

// Spec says how large the partitions are, in bytes and whole MiB.
type Spec struct {
	Name       string // of the appliance; enters every id
	SectorSize int    // logical sector of the disk: 512 (also when 0) or 4096
	ESP        int64
	Slot       int64 // each of two
	Root       int64 // each of two; 0 = no root partitions
	State      int64 // 0 = 16 MiB, the size of package state's region map
	Data       int64 // 0 = no data partition; not part of the layout id
}

// Layout is a disk, planned or found.
type Layout struct {
	ID         string   `json:"id"`         // see LayoutID
	SectorSize int      `json:"sectorSize"` // bytes
	Size       int64    `json:"size"`       // bytes
	Disk       gpt.GUID `json:"disk"`
	Parts      []Part   `json:"parts"` // in order on the disk
}

// Part is one partition of a Layout.
type Part struct {
	Index int      `json:"index"` // number in the partition table, from 1
	Role  string   `json:"role"`
	Name  string   `json:"name"` // as in the partition table: the role
	Type  gpt.GUID `json:"type"`
	GUID  gpt.GUID `json:"guid"`
	Start int64    `json:"start"` // bytes from the start of the disk
	Size  int64    `json:"size"`  // bytes
}

// End returns the byte offset just behind the partition.
func (p Part) End() int64 { return p.Start + p.Size }

// kind is the fixed part of a partition; the place in kinds is its number less one.
type kind struct {
	role string
	typ  gpt.GUID
	size func(Spec) int64
}

var kinds = [...]kind{
	{ESP, gpt.TypeESP, func(s Spec) int64 { return s.ESP }},
	{SlotA, TypeSlot, func(s Spec) int64 { return s.Slot }},
	{SlotB, TypeSlot, func(s Spec) int64 { return s.Slot }},
	{RootA, TypeRoot, func(s Spec) int64 { return s.Root }},
	{RootB, TypeRoot, func(s Spec) int64 { return s.Root }},
	{State, TypeState, func(s Spec) int64 { return s.State }},
	{Data, gpt.TypeLinuxData, func(s Spec) int64 { return s.Data }},
}

// withDefaults fills what a zero field stands for.
func (s Spec) withDefaults() Spec {
	if s.SectorSize == 0 {
		s.SectorSize = 512
	}
	if s.State == 0 {
		s.State = state.Size
	}
	return s
}

// LayoutID names the sizes that all disks of a release share, in MiB:
// "esp128-slot256-root1024-state16", without the root part when there is none.
// An update to an image of another layout id is refused.
func LayoutID(s Spec) string {
	s = s.withDefaults()
	id := fmt.Sprintf("esp%d-slot%d", s.ESP/mib, s.Slot/mib)
	if s.Root > 0 {
		id += fmt.Sprintf("-root%d", s.Root/mib)
	}
	return id + fmt.Sprintf("-state%d", s.State/mib)
}

// Plan computes the whole disk. The error names every impossible size.
func Plan(s Spec) (Layout, error) {
	s = s.withDefaults()
	if err := s.validate(); err != nil {
		return Layout{}, fmt.Errorf("plan disk: %w", err)
	}
	id := LayoutID(s)
	l := Layout{ID: id, SectorSize: s.SectorSize, Disk: GUID(s.Name, id, "disk")}
	at := int64(mib)
	for i, k := range kinds {
		size := k.size(s)
		if size == 0 {
			continue
		}
		l.Parts = append(l.Parts, Part{
			Index: i + 1, Role: k.role, Name: k.role, Type: k.typ, GUID: GUID(s.Name, id, k.role), Start: at, Size: size,
		})
		at += size
	}
	l.Size = at + mib
	return l, l.Table().Validate()
}

func (s Spec) validate() error {
	var errs []error
	if s.Name == "" {
		errs = append(errs, errors.New("name is empty"))
	}
	if s.SectorSize != 512 && s.SectorSize != 4096 {
		errs = append(errs, fmt.Errorf("sector size %d, want 512 or 4096", s.SectorSize))
	}
	for _, k := range kinds {
		size := k.size(s)
		optional := k.role == RootA || k.role == RootB || k.role == Data
		switch {
		case size == 0 && !optional:
			errs = append(errs, fmt.Errorf("size of %s is missing", k.role))
		case size < 0 || size > maxPart || size%mib != 0:
			errs = append(errs, fmt.Errorf("size of %s is %d bytes, want whole MiB", k.role, size))
		}
	}
	if s.State > 0 && s.State < state.Size {
		errs = append(errs, fmt.Errorf("size of state is %d bytes, its region map needs %d", s.State, state.Size))
	}
	return errors.Join(errs...)
}

// Part returns the partition of a role.
func (l Layout) Part(role string) (Part, bool) {
	for _, p := range l.Parts {
		if p.Role == role {
			return p, true
		}
	}
	return Part{}, false
}

// Table returns the layout as a partition table.
func (l Layout) Table() gpt.Table {
	t := gpt.Table{SectorSize: l.SectorSize, Size: l.Size, Disk: l.Disk}
	for _, p := range l.Parts {
		t.Partitions = append(t.Partitions, gpt.Partition{
			Index: p.Index, Name: p.Name, Type: p.Type, GUID: p.GUID, Start: p.Start, Size: p.Size,
		})
	}
	return t
}
