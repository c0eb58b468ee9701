package delta

import (
	"bytes"
	"crypto/sha256"
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
// Memory is both images without the zeros at their ends and the encoder's tables
// and history: 192 MB in all for two of 25 MB.
func Make(w io.Writer, old, new Image) (Info, error) {
	a, err := scan(old)
	if err != nil {
		return Info{}, fmt.Errorf("read old image: %w", err)
	}
	b, err := scan(new)
	if err != nil {
		return Info{}, fmt.Errorf("read new image: %w", err)
	}
	i := Info{OldSize: old.Size, OldUsed: int64(len(a.bytes)), NewSize: new.Size, NewUsed: int64(len(b.bytes)), OldPrefix: sha256.Sum256(a.bytes), Old: a.digest, New: b.digest}
	if i.OldUsed+i.NewUsed > maxWindow {
		return Info{}, fmt.Errorf("make delta of %d and %d bytes: %w", i.OldUsed, i.NewUsed, ErrTooLarge)
	}
	if _, err := w.Write(i.encode()); err != nil {
		return Info{}, fmt.Errorf("write patch: %w", err)
	}
	return i, compress(w, i, a.bytes, b.bytes)
}

func compress(w io.Writer, i Info, old, new []byte) error {
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
	defer e.Close()
	if _, err := w.Write(e.EncodeAll(new, nil)); err != nil {
		return fmt.Errorf("write patch: %w", err)
	}
	return nil
}

type scanned struct {
	bytes  []byte // without the zeros at the end
	digest Digest
}

// scan reads an image into memory, but not the zeros at its end.
func scan(m Image) (scanned, error) {
	s := scanned{}
	sum := sha256.New()
	zeros := int64(0) // since the last byte that was kept
	buf := make([]byte, 1<<20)
	for off := int64(0); off < m.Size; {
		b := buf[:min(int64(len(buf)), m.Size-off)]
		if n, err := m.ReadAt(b, off); n < len(b) {
			return s, fmt.Errorf("offset %d: %w", off+int64(n), err)
		}
		sum.Write(b)
		off += int64(len(b))
		kept := bytes.TrimRight(b, "\x00")
		if len(kept) == 0 {
			zeros += int64(len(b))
			continue
		}
		if int64(len(s.bytes))+zeros+int64(len(kept)) > maxWindow {
			return s, ErrTooLarge
		}
		s.bytes = append(append(s.bytes, make([]byte, zeros)...), kept...)
		zeros = int64(len(b) - len(kept))
	}
	s.digest = finish(sum)
	return s, nil
}

func finish(h hash.Hash) Digest { return Digest(h.Sum(nil)) }
