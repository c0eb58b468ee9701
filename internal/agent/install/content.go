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
	Installed                 // a system that has run, or may have: its state or its data say so
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

// The names of partitions in tables that tell whether a system has run.
const (
	stateName = "state"
	dataName  = "data"
)

// DataEdge is how much of a data partition is erased at its beginning, in bytes: a file
// system of another day must not be found there. A system that keeps data has written
// in it: the superblock of its file system, or the header of its encryption.
const DataEdge = 16 << 20

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
			return system(r, p, table), nil
		}
	}
	return Foreign, nil
}

// typeState is the type of p6 (package partition, which init does not link; a test
// compares them).
var typeState = gpt.MustGUID("ff3540cc-f274-8577-9fa1-76e2bb491831")

// system tells a system that has run from one that has not. An empty journal is not
// enough: a system has none when systemd-boot chooses its slot, or when it goes on from
// the ESP because firmware variables cannot be written, and keeps data all the same. So
// all of the state but machine.yaml, which may be flashed with it, and the beginning of
// data must be empty. What is damaged, or cannot be read, counts as there.
func system(r io.ReaderAt, p gpt.Partition, t gpt.Table) Content {
	for _, c := range state.Scan(io.NewSectionReader(r, p.Start, p.Size)) {
		empty := errors.Is(c.Err, state.ErrEmpty) && !errors.Is(c.Err, state.ErrDamaged)
		if c.Region != state.Machine && !empty {
			return Installed
		}
	}
	for _, p := range t.Partitions {
		if p.Name == dataName && !isErased(io.NewSectionReader(r, p.Start, min(p.Size, DataEdge))) {
			return Installed
		}
	}
	return Unused
}

// isErased says that there are zeros only; what cannot be read is none.
func isErased(r io.Reader) bool {
	b := make([]byte, mib)
	for {
		n, err := io.ReadFull(r, b)
		if !isZero(b[:n]) {
			return false
		}
		if err != nil {
			return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		}
	}
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
