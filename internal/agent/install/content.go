package install

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/ingot-os/ingot/partition/gpt"
	"github.com/ingot-os/ingot/partition/state"
)

// Content is what a disk holds.
type Content int

// The kinds of content.
const (
	Foreign    Content = iota // something that nobody here knows
	Blank                     // nothing where tables and file systems begin
	Unfinished                // an install that was cut
	Unused                    // a release that has never started from it
	Installed                 // a system that has run: its journal is there, or may be
)

// String says it for people.
func (c Content) String() string {
	return [...]string{"something that is not ingot's", "nothing", "an install that was cut", "a release that never ran", "an installed system"}[c]
}

const (
	mib = 1 << 20
	// edge is how much is looked at, and erased, at both ends of a disk: tables,
	// boot sectors, superblocks of RAID and LVM, all of which lie within 1 MiB.
	edge = mib
	head = 4096 // written last, in one request
)

// mark begins a disk whose install was not finished. It is no boot sector and no
// partition table of any kind.
var mark = []byte("ingot: this disk is being installed\n")

// stateName is the name of the partition with the journal in partition tables.
const stateName = "state"

// Look says what a disk of size bytes holds. A disk that cannot be read is an error.
func Look(r io.ReaderAt, size int64) (Content, error) {
	first, last := make([]byte, edge), make([]byte, edge)
	_, err := r.ReadAt(first, 0)
	if err == nil {
		_, err = r.ReadAt(last, size-edge)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return Foreign, fmt.Errorf("look what is on the disk: %w", err)
	}
	switch {
	case bytes.HasPrefix(first, mark):
		return Unfinished, nil
	case isZero(first) && isZero(last):
		return Blank, nil
	}
	table, _, err := gpt.Read(r, size)
	if err != nil {
		return Foreign, nil // another table, or none
	}
	for _, p := range table.Partitions {
		if p.Name == stateName && p.Type == typeState && p.Size == state.Size {
			return system(r, p), nil
		}
	}
	return Foreign, nil
}

// typeState is the type of p6 (package partition, which init does not link; a test
// compares them).
var typeState = gpt.MustGUID("ff3540cc-f274-8577-9fa1-76e2bb491831")

// system tells a system that has run from one that has not: its journal is not empty.
// A damaged one counts as there.
func system(r io.ReaderAt, p gpt.Partition) Content {
	_, _, err := state.Load(io.NewSectionReader(r, p.Start, p.Size), state.Journal)
	if errors.Is(err, state.ErrEmpty) && !errors.Is(err, state.ErrDamaged) {
		return Unused
	}
	return Installed
}

func isZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// Policy is what may be overwritten beside a disk that is empty, or that ingot left
// unfinished or unused.
type Policy struct {
	Wipe  bool // of the recipe: foreign content
	Force bool // of the ticket: an installed system
}

// Allow says why a disk may not be written.
func Allow(c Content, p Policy) error {
	switch {
	case c == Foreign && !p.Wipe:
		return fmt.Errorf("it holds %s: install.wipe of the recipe would let it go", c)
	case c == Installed && !p.Force:
		return fmt.Errorf("it holds %s: the ticket does not force it", c)
	}
	return nil
}
