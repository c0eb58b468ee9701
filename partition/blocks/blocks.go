// Package blocks cuts a disk into blocks of one size and leaves out those that
// are zero: what all containers for virtual disks have in common.
//
// Whether a block is left out depends on its bytes alone. Where the file system
// of the builder has put holes only saves reading, so the same disk gives the
// same container from any file system. Packing, where a format compresses, runs
// on any number of workers; blocks come out in order.
//
//	err := blocks.Disk{R: f, Size: size, Data: runs}.Each(64<<10, func(i int64, b []byte) error { … })
//
// Readers of such containers answer reads of any range with ReadAt.
package blocks

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Range is a part of a disk, in bytes.
type Range struct{ Off, End int64 }

// Disk is what goes into a container.
type Disk struct {
	R    io.ReaderAt
	Size int64 // bytes
	// Data lists what may be something else than zeros, in order and without
	// overlap; nil stands for the whole disk.
	Data []Range
}

// Each calls emit for every block of size bytes that is not all zeros, in
// order. The last block is filled up with zeros. The bytes are valid until
// emit returns.
func (d Disk) Each(size int, emit func(index int64, b []byte) error) error {
	buf := make([]byte, size)
	return d.indexes(int64(size), func(i int64) error {
		if err := d.read(buf, i); err != nil {
			return err
		}
		if IsZero(buf) {
			return nil
		}
		return emit(i, buf)
	})
}

// indexes calls f for every block that touches Data.
func (d Disk) indexes(size int64, f func(int64) error) error {
	data := d.Data
	if data == nil {
		data = []Range{{0, d.Size}}
	}
	next := int64(0)
	for _, r := range data {
		if r.Off < 0 || r.End > d.Size {
			return fmt.Errorf("cut disk: range %d to %d is not within %d bytes", r.Off, r.End, d.Size)
		}
		for i := max(next, r.Off/size); i*size < r.End; i++ {
			if err := f(i); err != nil {
				return err
			}
			next = i + 1
		}
	}
	return nil
}

// read fills b with block i.
func (d Disk) read(b []byte, i int64) error {
	off := i * int64(len(b))
	n := int(min(int64(len(b)), d.Size-off))
	got, err := d.R.ReadAt(b[:n], off)
	if got < n {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read disk at offset %d: %w", off+int64(got), err)
	}
	clear(b[n:])
	return nil
}

var zeros [64 << 10]byte

// IsZero says whether all bytes are zero.
func IsZero(b []byte) bool {
	for len(b) > 0 {
		n := min(len(b), len(zeros))
		if !bytes.Equal(b[:n], zeros[:n]) {
			return false
		}
		b = b[n:]
	}
	return true
}

// ReadFull fills b from offset off of a container. Its end before that is
// io.ErrUnexpectedEOF: what a table there names is in no file.
func ReadFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	switch {
	case n == len(b):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	return err
}

// ReadAt implements io.ReaderAt for a disk of total bytes that is stored in
// blocks of size bytes: read fills b from byte within of block index.
func ReadAt(b []byte, off, total, size int64, read func(index, within int64, b []byte) error) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read disk: offset %d is negative", off)
	}
	n := 0
	for n < len(b) && off < total {
		within := off % size
		k := int(min(int64(len(b)-n), size-within, total-off))
		if err := read(off/size, within, b[n:n+k]); err != nil {
			return n, err
		}
		n, off = n+k, off+int64(k)
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}
