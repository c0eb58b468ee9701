package partition

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/ingot-os/ingot/partition/tree"
)

// Target is the disk that Write writes to: all zeros and, when it is a file,
// already as long as the Layout says (Truncate keeps it sparse). It is synced
// where the partition table asks for it when it also has Sync() error.
type Target interface {
	io.WriterAt
}

// Content is what a partition holds.
type Content interface {
	// Fill writes the partition; offset 0 of w is its first byte. w reads as
	// zeros before, and refuses writes beyond size bytes.
	Fill(w io.WriterAt, size int64) error
}

// ContentFunc is a function as Content.
type ContentFunc func(w io.WriterAt, size int64) error

// Fill implements Content.
func (f ContentFunc) Fill(w io.WriterAt, size int64) error { return f(w, size) }

// Blob is Content that is copied from the start of the partition. Blocks of
// 4096 zero bytes are not written, so a sparse target stays sparse.
func Blob(b tree.Blob) Content {
	return ContentFunc(func(w io.WriterAt, size int64) error {
		if b.Size() > size {
			return fmt.Errorf("content of %d bytes is larger than the partition of %d", b.Size(), size)
		}
		r, err := b.Open()
		if err != nil {
			return err
		}
		return errors.Join(copySparse(w, r, b.Size()), r.Close())
	})
}

// copySparse copies exactly size bytes, leaving out blocks of zeros.
func copySparse(w io.WriterAt, r io.Reader, size int64) error {
	const block = 4096
	zero := make([]byte, block)
	buf := make([]byte, min(size, 1<<20))
	for off := int64(0); off < size; {
		b := buf[:min(size-off, int64(len(buf)))]
		if _, err := io.ReadFull(r, b); err != nil {
			return fmt.Errorf("read content at offset %d of %d: %w", off, size, err)
		}
		for at := 0; at < len(b); {
			n := at
			for n < len(b) && !bytes.Equal(b[n:min(n+block, len(b))], zero[:min(block, len(b)-n)]) {
				n = min(n+block, len(b))
			}
			if n > at {
				if _, err := w.WriteAt(b[at:n], off+int64(at)); err != nil {
					return err
				}
			}
			at = n + block
		}
		off += int64(len(b))
	}
	return nil
}

// Write puts a planned disk on f: the contents by role in order, then the
// partition table, so that a target that was not finished has none. Roles
// without content stay zero.
func Write(f Target, l Layout, contents map[string]Content) error {
	if err := Fill(f, l, contents, nil); err != nil {
		return err
	}
	return l.Table().Write(f)
}

// Fill is Write without the partition table: for a file that nobody sees
// before it is whole, where the table may as well come first. done, if not nil,
// is called after each partition, with content or without, in order on the
// disk: nothing before its end is written any more.
func Fill(f Target, l Layout, contents map[string]Content, done func(Part)) error {
	if err := l.Table().Validate(); err != nil {
		return err
	}
	for role := range contents {
		if _, ok := l.Part(role); !ok {
			return fmt.Errorf("write disk: layout %s has no partition %q", l.ID, role)
		}
	}
	for _, p := range l.Parts {
		if c := contents[p.Role]; c != nil {
			if err := c.Fill(p.Window(f), p.Size); err != nil {
				return fmt.Errorf("write partition %d (%s): %w", p.Index, p.Role, err)
			}
		}
		if done != nil {
			done(p)
		}
	}
	return nil
}

// Window returns a writer of the partition's bytes alone: offset 0 is its
// first byte, and a write beyond its last one is refused as a whole.
func (p Part) Window(w io.WriterAt) io.WriterAt { return window{w, p} }

// Section returns a reader of the partition's bytes alone.
func (p Part) Section(r io.ReaderAt) *io.SectionReader {
	return io.NewSectionReader(r, p.Start, p.Size)
}

type window struct {
	w    io.WriterAt
	part Part
}

// WriteAt implements io.WriterAt.
func (w window) WriteAt(b []byte, off int64) (int, error) {
	if off < 0 || off > w.part.Size || int64(len(b)) > w.part.Size-off {
		return 0, fmt.Errorf("write %d bytes at offset %d: partition %s ends at %d", len(b), off, w.part.Role, w.part.Size)
	}
	return w.w.WriteAt(b, w.part.Start+off)
}
