// Package sparse reads files with holes without reading the holes: lseek(2)
// defines them as ranges that read as zeros, so zeros are given in their place.
// Where the file system cannot tell where its holes are, everything is data.
//
// An image is mostly hole: of the 757 MB of examples/hello 97 MB are data.
// Reading the rest through the page cache took longer than all other work of a
// build together (docs/benchmarks.md).
package sparse

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Run is a range that holds data, in bytes.
type Run struct{ Off, End int64 }

// Data lists what is not a hole among the n bytes at off. The runs count from
// off, are in order and do not touch. What is written meanwhile may be missed.
func Data(f *os.File, off, n int64) ([]Run, error) {
	var out []Run
	for at := off; at < off+n; {
		start, err := f.Seek(at, unix.SEEK_DATA)
		switch {
		case errors.Is(err, unix.ENXIO): // nothing but a hole up to the end of the file
			return out, nil
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
			return append(out, Run{at - off, n}), nil
		case err != nil:
			return nil, err
		case start >= off+n:
			return out, nil
		}
		end, err := f.Seek(start, unix.SEEK_HOLE)
		if err != nil {
			return nil, err
		}
		at = min(end, off+n)
		out = append(out, Run{start - off, at - off})
	}
	return out, nil
}

// Step is how much is read at a time, in bytes: small enough to be hashed or
// compared while it is still in the second cache of a processor.
const Step = 256 << 10

// zeros stands for holes; it stays in the first cache.
var zeros [16 << 10]byte

// Copy writes the n bytes at off to w, in order. A file that ends before them
// is an error where data was expected, and reads as zeros in a hole.
func Copy(w io.Writer, f *os.File, off, n int64) error {
	runs, err := Data(f, off, n)
	if err != nil {
		return err
	}
	at, buf := int64(0), make([]byte, min(n, Step))
	for _, r := range runs {
		if err := writeZeros(w, r.Off-at); err != nil {
			return err
		}
		src := struct{ io.Reader }{io.NewSectionReader(f, off+r.Off, r.End-r.Off)}
		got, err := io.CopyBuffer(struct{ io.Writer }{w}, src, buf)
		if err == nil && got != r.End-r.Off {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return fmt.Errorf("at offset %d: %w", off+r.Off+got, err)
		}
		at = r.End
	}
	return writeZeros(w, n-at)
}

func writeZeros(w io.Writer, n int64) error {
	for ; n > 0; n -= int64(len(zeros)) {
		if _, err := w.Write(zeros[:min(n, int64(len(zeros)))]); err != nil {
			return err
		}
	}
	return nil
}
