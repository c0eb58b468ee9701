package gpt

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Validate returns every reason why the table must not be written, joined, or nil.
func (t Table) Validate() error {
	if t.SectorSize != 512 && t.SectorSize != 4096 {
		return fmt.Errorf("validate partition table: sector size %d, want 512 or 4096", t.SectorSize)
	}
	var errs []error
	if t.Size%int64(t.SectorSize) != 0 {
		errs = append(errs, fmt.Errorf("disk size %d is not a multiple of the sector size %d", t.Size, t.SectorSize))
	}
	if t.UsableEnd() <= t.UsableStart() {
		errs = append(errs, fmt.Errorf("disk of %d bytes has no room behind the two table copies", t.Size))
	}
	if t.Disk.IsZero() {
		errs = append(errs, errors.New("disk guid is zero"))
	}
	for _, p := range t.Partitions {
		errs = append(errs, t.checkPartition(p)...)
	}
	errs = append(errs, t.checkUnique()...)
	errs = append(errs, t.checkOverlap()...)
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("validate partition table: %w", errors.Join(errs...))
}

// checkPartition looks at one entry alone.
func (t Table) checkPartition(p Partition) []error {
	var errs []error
	add := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("partition %d (%s): "+format, append([]any{p.Index, p.Name}, args...)...))
	}
	if p.Index < 1 || p.Index > MaxEntries {
		add("index is not in 1..%d", MaxEntries)
	}
	if msg := checkName(p.Name); msg != "" {
		add("%s", msg)
	}
	if p.Type.IsZero() {
		add("type guid is zero")
	}
	if p.GUID.IsZero() {
		add("guid is zero")
	}
	if p.Start%Align != 0 {
		add("start %d is not a multiple of 1 MiB", p.Start)
	}
	if p.Size <= 0 || p.Size%int64(t.SectorSize) != 0 {
		add("size %d is not a positive multiple of the sector size %d", p.Size, t.SectorSize)
	}
	// Written so that no sum can overflow.
	if p.Start < t.UsableStart() || p.Start > t.UsableEnd() || p.Size > t.UsableEnd()-p.Start {
		add("bytes %d+%d lie outside the usable area %d..%d", p.Start, p.Size, t.UsableStart(), t.UsableEnd())
	}
	return errs
}

func checkName(s string) string {
	switch {
	case s == "":
		return "name is empty"
	case !utf8.ValidString(s) || strings.ContainsRune(s, 0):
		return "name is not text"
	case len(utf16.Encode([]rune(s))) > MaxName:
		return fmt.Sprintf("name is longer than %d UTF-16 units", MaxName)
	}
	return ""
}

// checkUnique compares indexes, names and GUIDs of all partitions.
func (t Table) checkUnique() []error {
	var errs []error
	indexes, names, guids := map[int]bool{}, map[string]bool{}, map[GUID]bool{t.Disk: true}
	for _, p := range t.Partitions {
		if indexes[p.Index] {
			errs = append(errs, fmt.Errorf("partition %d (%s): index is used twice", p.Index, p.Name))
		}
		if names[p.Name] {
			errs = append(errs, fmt.Errorf("partition %d (%s): name is used twice", p.Index, p.Name))
		}
		if guids[p.GUID] {
			errs = append(errs, fmt.Errorf("partition %d (%s): guid %s is used twice", p.Index, p.Name, p.GUID))
		}
		indexes[p.Index], names[p.Name], guids[p.GUID] = true, true, true
	}
	return errs
}

// checkOverlap compares each partition with the furthest one before it.
func (t Table) checkOverlap() []error {
	var errs []error
	sorted := t.byStart()
	for i := 1; i < len(sorted); i++ {
		prev, p := sorted[i-1], sorted[i]
		if p.Start < 0 || p.Size < 0 || prev.Size <= p.Start-prev.Start {
			continue
		}
		errs = append(errs, fmt.Errorf("partition %d (%s): starts at %d inside partition %d (%s)", p.Index, p.Name, p.Start, prev.Index, prev.Name))
		if p.Size <= prev.Size-(p.Start-prev.Start) { // p lies wholly inside prev: prev stays the furthest
			sorted[i] = prev
		}
	}
	return errs
}

// byStart returns the partitions in order of their offset.
func (t Table) byStart() []Partition {
	s := slices.Clone(t.Partitions)
	slices.SortStableFunc(s, func(a, b Partition) int { return cmp.Compare(a.Start, b.Start) })
	return s
}
