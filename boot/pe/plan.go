package pe

import (
	"cmp"
	"fmt"
	"io"
	"slices"

	"github.com/ingot-os/ingot/partition/tree"
)

// Plan is the layout of an image that can be written again and again. The
// appended content is streamed: an image is never in memory as a whole.
type Plan struct {
	Sections []SectionHeader // all sections, in order of the section table

	size   int64
	pieces []piece
}

// Size returns the number of bytes that WriteTo writes; a multiple of 8.
func (p *Plan) Size() int64 { return p.size }

// piece is content at a place in the file. What lies between pieces is zero.
type piece struct {
	name string
	off  int64
	data tree.Blob
}

func (p *Plan) add(name string, off int64, data tree.Blob) {
	p.pieces = append(p.pieces, piece{name, off, data})
}

func (p *Plan) addBytes(off int64, b []byte) { p.add("stub", off, tree.Bytes(b)) }

// WriteTo implements io.WriterTo. It fails when a section's content is not as
// long as its Size said.
func (p *Plan) WriteTo(w io.Writer) (int64, error) {
	pieces := slices.SortedStableFunc(slices.Values(p.pieces), func(a, b piece) int { return cmp.Compare(a.off, b.off) })
	var at int64
	for _, c := range pieces {
		n, err := writeZeros(w, c.off-at)
		at += n
		if err != nil {
			return at, err
		}
		n, err = c.writeTo(w)
		at += n
		if err != nil {
			return at, fmt.Errorf("write section %q: %w", c.name, err)
		}
	}
	n, err := writeZeros(w, p.size-at)
	return at + n, err
}

// Open writes the image into a pipe, so that a Plan is a tree.Blob. The reader
// must be closed; that ends the writer even if not all was read.
func (p *Plan) Open() (io.ReadCloser, error) {
	r, w := io.Pipe()
	go func() {
		_, err := p.WriteTo(w)
		w.CloseWithError(err)
	}()
	return r, nil
}

func (c piece) writeTo(w io.Writer) (n int64, err error) {
	r, err := c.data.Open()
	if err != nil {
		return 0, err
	}
	n, err = io.CopyN(w, r, c.data.Size())
	if err == io.EOF {
		err = fmt.Errorf("content ends after %d of %d bytes", n, c.data.Size())
	}
	if err == nil {
		if extra, _ := r.Read(make([]byte, 1)); extra > 0 {
			err = fmt.Errorf("content is longer than %d bytes", c.data.Size())
		}
	}
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	return n, err
}

// zeros is written between pieces; one FileAlignment is the usual gap.
var zeros [4096]byte

func writeZeros(w io.Writer, n int64) (int64, error) {
	var done int64
	for done < n {
		k, err := w.Write(zeros[:min(n-done, int64(len(zeros)))])
		done += int64(k)
		if err != nil {
			return done, err
		}
	}
	return done, nil
}
