package slot

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// HeaderSize is how much of a slot is written last, in bytes: without it the
// slot is no file system, and no firmware starts half of one.
const HeaderSize = 4096

// chunk is the size of one write, in bytes.
const chunk = 1 << 20

// ErrDigest means that the slot does not hold the release's bytes.
var ErrDigest = errors.New("digest differs")

// Device is the partition of a slot. Reads after Sync must come from the medium
// and not from a cache (O_DIRECT, or BLKFLSBUF).
type Device interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

// Writing is one slot to be written.
type Writing struct {
	Size   int64  // of the image in bytes, at least HeaderSize
	Digest Digest // of the image
	From   int64  // bytes that an earlier, cut Write wrote already; 0 = none
}

// Write writes an image to a slot so that at every moment the slot holds no
// file system, or all of it: it zeroes the first 4 KiB, writes the rest, reads
// it back, and writes the first 4 KiB when the digest of everything is right.
// image gives the first HeaderSize bytes, then goes on at From when that is
// more. Memory is two chunks of 1 MiB.
func (w Writing) Write(d Device, image io.Reader) error {
	from := max(w.From, HeaderSize)
	if w.Size < from {
		return fmt.Errorf("write slot: image of %d bytes, want at least %d", w.Size, from)
	}
	head := make([]byte, HeaderSize)
	if _, err := io.ReadFull(image, head); err != nil {
		return fmt.Errorf("read image, offset 0: %w", err)
	}
	if err := flushed(d, make([]byte, HeaderSize)); err != nil {
		return fmt.Errorf("clear slot header: %w", err)
	}
	if err := w.stream(d, image, from); err != nil {
		return err
	}
	if err := w.verify(d, head); err != nil {
		return err
	}
	if err := flushed(d, head); err != nil {
		return fmt.Errorf("write slot header: %w", err)
	}
	got := make([]byte, HeaderSize)
	if _, err := d.ReadAt(got, 0); err != nil || !bytes.Equal(got, head) {
		return fmt.Errorf("read back slot header: %w", errors.Join(ErrDigest, err))
	}
	return nil
}

func flushed(d Device, head []byte) error {
	if _, err := d.WriteAt(head, 0); err != nil {
		return err
	}
	return d.Sync()
}

func (w Writing) stream(d Device, image io.Reader, from int64) error {
	buf := make([]byte, chunk)
	for off := from; off < w.Size; {
		b := buf[:min(chunk-off%chunk, w.Size-off)]
		if _, err := io.ReadFull(image, b); err != nil {
			return fmt.Errorf("read image, offset %d: %w", off, err)
		}
		if _, err := d.WriteAt(b, off); err != nil {
			return fmt.Errorf("write slot, offset %d: %w", off, err)
		}
		off += int64(len(b))
	}
	if err := d.Sync(); err != nil {
		return fmt.Errorf("flush slot: %w", err)
	}
	return nil
}

// verify reads back all but the header, which is zero still.
func (w Writing) verify(d Device, head []byte) error {
	sum := sha256.New()
	sum.Write(head)
	buf := make([]byte, chunk)
	if _, err := io.CopyBuffer(sum, io.NewSectionReader(d, HeaderSize, w.Size-HeaderSize), buf); err != nil {
		return fmt.Errorf("read back slot: %w", err)
	}
	if Digest(sum.Sum(nil)) != w.Digest {
		return fmt.Errorf("read back slot: %w", ErrDigest)
	}
	return nil
}
