package partition

import (
	"errors"
	"fmt"
	"io"

	"github.com/ingot-os/ingot/partition/gpt"
	"github.com/ingot-os/ingot/partition/state"
)

// ErrForeign is wrapped by the error of Read and FromTable for a disk that has
// a partition table, but not ingot's.
var ErrForeign = errors.New("not an ingot disk")

// Read finds the layout of a disk of size bytes. Use gpt.Read and FromTable to
// learn which copy of the partition table it came from. The error wraps
// gpt.ErrNoTable or ErrForeign where one of them is the reason.
func Read(r io.ReaderAt, size int64) (Layout, error) {
	t, _, err := gpt.Read(r, size)
	if err != nil {
		return Layout{}, err
	}
	return FromTable(t)
}

// FromTable recognises a partition table by numbers, names and types, not by
// GUIDs, which may be a machine's own. The error wraps ErrForeign and says
// everything that does not fit.
func FromTable(t gpt.Table) (Layout, error) {
	var errs []error
	l := Layout{SectorSize: t.SectorSize, Size: t.Size, Disk: t.Disk}
	size := map[string]int64{}
	for _, p := range t.Partitions {
		if p.Index < 1 || p.Index > len(kinds) {
			errs = append(errs, fmt.Errorf("partition %d is none of 1..%d", p.Index, len(kinds)))
			continue
		}
		k := kinds[p.Index-1]
		errs = append(errs, checkKind(p, k)...)
		size[k.role] = p.Size
		l.Parts = append(l.Parts, Part{p.Index, k.role, p.Name, p.Type, p.GUID, p.Start, p.Size})
	}
	errs = append(errs, checkSet(size)...)
	if err := t.Validate(); err != nil {
		errs = append(errs, err)
	}
	for i := 1; i < len(l.Parts); i++ {
		if l.Parts[i].Start < l.Parts[i-1].Start {
			errs = append(errs, fmt.Errorf("partition %d lies before partition %d", l.Parts[i].Index, l.Parts[i-1].Index))
		}
	}
	if len(errs) > 0 {
		return Layout{}, fmt.Errorf("%w: %w", ErrForeign, errors.Join(errs...))
	}
	l.ID = LayoutID(Spec{ESP: size[ESP], Slot: size[SlotA], Root: size[RootA], State: size[State]})
	return l, nil
}

// checkKind compares one entry with what its number stands for.
func checkKind(p gpt.Partition, k kind) []error {
	var errs []error
	if p.Name != k.role {
		errs = append(errs, fmt.Errorf("partition %d is named %q, want %q", p.Index, p.Name, k.role))
	}
	if p.Type != k.typ {
		errs = append(errs, fmt.Errorf("partition %d has type %s, want %s", p.Index, p.Type, k.typ))
	}
	if k.role != Data && p.Size%mib != 0 {
		errs = append(errs, fmt.Errorf("partition %d has %d bytes, want whole MiB", p.Index, p.Size))
	}
	return errs
}

// checkSet looks at which roles there are; pairs must be of one size.
func checkSet(size map[string]int64) []error {
	var errs []error
	for _, role := range []string{ESP, SlotA, SlotB, State} {
		if size[role] == 0 {
			errs = append(errs, fmt.Errorf("there is no partition %s", role))
		}
	}
	if size[SlotA] != size[SlotB] {
		errs = append(errs, fmt.Errorf("slots have %d and %d bytes", size[SlotA], size[SlotB]))
	}
	if size[RootA] != size[RootB] {
		errs = append(errs, fmt.Errorf("roots have %d and %d bytes", size[RootA], size[RootB]))
	}
	if s := size[State]; s > 0 && s < state.Size {
		errs = append(errs, fmt.Errorf("state has %d bytes, want at least %d", s, state.Size))
	}
	return errs
}
