package delta

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"
)

// Image is an image file or slot.
type Image struct {
	io.ReaderAt
	Size int64 // bytes
}

// Make writes the patch from old to new. The same images give the same patch.
// Memory is twice what old uses, once what new uses (bytes before the zeros at
// the end), and 75 MB for the encoder's tables: 150 MB in all for two of 25 MB in
// slots of 256 MiB. Each image is read twice.
func Make(w io.Writer, old, new Image) (Info, error) {
	a, err := scan(old)
	if err != nil {
		return Info{}, fmt.Errorf("read old image: %w", err)
	}
	b, err := scan(new)
	if err != nil {
		return Info{}, fmt.Errorf("read new image: %w", err)
	}
	i := Info{OldSize: old.Size, OldUsed: a.used, NewSize: new.Size, NewUsed: b.used, OldPrefix: a.prefix, Old: a.whole, New: b.whole}
	if i.OldUsed+i.NewUsed > maxWindow {
		return Info{}, fmt.Errorf("make delta of %d and %d bytes: %w", i.OldUsed, i.NewUsed, ErrTooLarge)
	}
	base := make([]byte, i.OldUsed)
	if n, err := old.ReadAt(base, 0); n < len(base) {
		return Info{}, fmt.Errorf("read old image, offset %d: %w", n, err)
	}
	if sha256.Sum256(base) != i.OldPrefix {
		return Info{}, fmt.Errorf("read old image: %w", errChanged)
	}
	if _, err := w.Write(i.encode()); err != nil {
		return Info{}, fmt.Errorf("write patch: %w", err)
	}
	return i, compress(w, i, base, new)
}

var errChanged = errors.New("it changed while it was read")

func compress(w io.Writer, i Info, old []byte, new Image) error {
	options := []zstd.EOption{
		zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithWindowSize(i.window()),
		zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithSingleSegment(false), zstd.WithZeroFrames(true),
	}
	if len(old) > 0 {
		options = append(options, zstd.WithEncoderDictRaw(dictionary, old))
	}
	e, err := zstd.NewWriter(nil, options...)
	if err != nil {
		return fmt.Errorf("make delta: %w", err)
	}
	e.ResetContentSize(w, i.NewUsed)
	sum := sha256.New()
	if _, err := io.CopyBuffer(struct{ io.Writer }{e}, io.TeeReader(io.NewSectionReader(new, 0, i.NewUsed), sum), make([]byte, 1<<20)); err != nil {
		_ = e.Close() // the first error is the one to tell
		return fmt.Errorf("make delta: %w", err)
	}
	if err := e.Close(); err != nil {
		return fmt.Errorf("write patch: %w", err)
	}
	if addZeros(sum, i.NewSize-i.NewUsed); Digest(sum.Sum(nil)) != i.New {
		return fmt.Errorf("read new image: %w", errChanged)
	}
	return nil
}

// scanned is what is known of an image after it was read once.
type scanned struct {
	used          int64 // bytes before the zeros at the end
	prefix, whole Digest
}

// scan reads an image and hashes it. Zeros are hashed only when something follows
// them, so that one hash gives the digest with and without those at the end.
func scan(m Image) (scanned, error) {
	s := scanned{}
	sum := sha256.New()
	buf := make([]byte, 1<<20)
	for off := int64(0); off < m.Size; {
		b := buf[:min(int64(len(buf)), m.Size-off)]
		if n, err := m.ReadAt(b, off); n < len(b) {
			return s, fmt.Errorf("offset %d: %w", off+int64(n), err)
		}
		if kept := bytes.TrimRight(b, "\x00"); len(kept) > 0 {
			addZeros(sum, off-s.used)
			sum.Write(kept)
			s.used = off + int64(len(kept))
		}
		off += int64(len(b))
	}
	s.prefix = finish(sum)
	addZeros(sum, m.Size-s.used)
	s.whole = finish(sum)
	return s, nil
}

// addZeros hashes n zeros.
func addZeros(h hash.Hash, n int64) {
	zeros := make([]byte, 64<<10)
	for ; n > 0; n -= min(n, int64(len(zeros))) {
		h.Write(zeros[:min(n, int64(len(zeros)))])
	}
}

func finish(h hash.Hash) Digest { return Digest(h.Sum(nil)) }
