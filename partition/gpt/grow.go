package gpt

import (
	"fmt"
	"slices"
)

// Grow returns old for a disk of newSize bytes: the backup copy moves to its
// end and, with growLast, the partition that starts last is extended to the
// last whole MiB. Nothing else changes, and no partition ever gets smaller:
// a newSize that does not hold them all is an error.
func Grow(old Table, newSize int64, growLast bool) (Table, error) {
	t := old
	t.Size = newSize
	t.Partitions = slices.Clone(old.Partitions)
	if growLast && len(t.Partitions) > 0 {
		last := t.last()
		end := t.UsableEnd() / Align * Align
		last.Size = max(last.Size, end-last.Start)
	}
	if err := t.Validate(); err != nil {
		return Table{}, fmt.Errorf("grow table to %d bytes: %w", newSize, err)
	}
	return t, nil
}

func (t Table) last() *Partition {
	at := 0
	for i, p := range t.Partitions {
		if p.Start > t.Partitions[at].Start {
			at = i
		}
	}
	return &t.Partitions[at]
}
