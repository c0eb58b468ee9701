package delta

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"
)

// Limits bound what a patch may ask for.
type Limits struct {
	Size int64 // of the new image in bytes: the size of the slot
}

// Reader gives the new image.
type Reader struct {
	Info Info
	zstd *zstd.Decoder
	sum  hash.Hash
	left int64 // bytes before the zeros that are to come
	pad  int64 // zeros that are to come
	err  error
}

// Open checks that the patch fits the old image, and starts to apply it. Memory
// is the old image without the zeros at its end, and at most the window beside
// it: 55 MB in all for images of 25 MB. An error wraps ErrBase when the image is another one; *FormatError when
// the patch is none. Close releases the memory.
func Open(old io.ReaderAt, patch io.Reader, l Limits) (*Reader, error) {
	head := make([]byte, HeaderSize)
	if _, err := io.ReadFull(patch, head); err != nil {
		return nil, fmt.Errorf("read patch header: %w", err)
	}
	i, err := ParseHeader(head)
	if err != nil {
		return nil, err
	}
	if i.NewSize > l.Size || i.OldSize > l.Size {
		return nil, &FormatError{24, "size", fmt.Sprintf("images of %d and %d bytes, the slot has %d", i.OldSize, i.NewSize, l.Size)}
	}
	base := make([]byte, i.OldUsed)
	if n, err := old.ReadAt(base, 0); n < len(base) {
		return nil, fmt.Errorf("read old image, offset %d: %w", n, errors.Join(ErrBase, err))
	}
	if sha256.Sum256(base) != i.OldPrefix {
		return nil, fmt.Errorf("apply patch: %w", ErrBase)
	}
	options := []zstd.DOption{
		zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(uint64(i.window())), // what is given out is bounded by Read
	}
	if len(base) > 0 {
		options = append(options, zstd.WithDecoderDictRaw(dictionary, base))
	}
	d, err := zstd.NewReader(patch, options...)
	if err != nil {
		return nil, fmt.Errorf("open patch: %w", err)
	}
	return &Reader{Info: i, zstd: d, sum: sha256.New(), left: i.NewUsed, pad: i.NewSize - i.NewUsed}, nil
}

// Close ends the use of the reader.
func (r *Reader) Close() { r.zstd.Close() }

// Read implements io.Reader. It returns io.EOF after the last byte of an image
// whose digest is right, and another error in its place otherwise.
func (r *Reader) Read(b []byte) (int, error) {
	if r.err != nil || len(b) == 0 {
		return 0, r.err
	}
	n := 0
	switch {
	case r.left > 0:
		n = r.fromPatch(b)
	case r.pad > 0:
		n = int(min(int64(len(b)), r.pad))
		clear(b[:n])
		r.pad -= int64(n)
	}
	r.sum.Write(b[:n])
	if r.err == nil && r.left == 0 && r.pad == 0 {
		r.err = r.end()
	}
	if n > 0 {
		return n, nil
	}
	return 0, r.err
}

func (r *Reader) fromPatch(b []byte) int {
	n, err := r.zstd.Read(b[:min(int64(len(b)), r.left)])
	r.left -= int64(n)
	switch {
	case err == io.EOF && r.left > 0:
		r.err = fmt.Errorf("read patch: %d bytes are missing: %w", r.left, io.ErrUnexpectedEOF)
	case err != nil && err != io.EOF:
		r.err = fmt.Errorf("read patch: %w", err)
	}
	return n
}

// end is what the last Read returns.
func (r *Reader) end() error {
	switch n, err := r.zstd.Read(make([]byte, 1)); {
	case n > 0:
		return fmt.Errorf("read patch: more than the %d bytes that it names", r.Info.NewUsed)
	case err != io.EOF:
		return fmt.Errorf("read patch: %w", err)
	case finish(r.sum) != r.Info.New:
		return errors.New("apply patch: the result is not the new image: digest differs")
	}
	return io.EOF
}
