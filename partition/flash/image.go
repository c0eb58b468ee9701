package flash

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/ingot-os/ingot/partition/blockmap"
	"github.com/ingot-os/ingot/partition/frames"
)

// packedSuffix ends the name of an image in compressed frames; without it and
// with mapSuffix in its place it is the name of the image's block map.
const (
	packedSuffix = ".zst"
	mapSuffix    = ".bmap"
	zstdMagic    = "\x28\xb5\x2f\xfd"
)

// source is an image: a raw file, or one in compressed frames.
type source struct {
	io.ReaderAt
	file   *os.File
	size   int64 // of the disk
	packed *frames.Image
	blocks *blockmap.Map
}

// openSource opens an image by what it is. Of a packed one no byte is handed
// out that its block map does not know.
func openSource(f *os.File) (*source, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open image: %w", err)
	}
	head := make([]byte, len(zstdMagic))
	if n, _ := f.ReadAt(head, 0); n < len(head) || string(head) != zstdMagic {
		return &source{ReaderAt: f, file: f, size: info.Size()}, nil
	}
	s := &source{file: f}
	if s.blocks, err = readMap(f.Name()); err != nil {
		return nil, err
	}
	s.packed, err = frames.Open(f, info.Size(), frames.Options{Check: s.blocks.Check})
	if err != nil {
		return nil, &RefusedError{f.Name(), []Refusal{{Foreign, fmt.Sprintf("not an ingot disk image: %v", err), "decompress it first (zstd -d) and flash the .img"}}}
	}
	s.ReaderAt, s.size = s.packed, s.packed.Size()
	if s.size != s.blocks.Size || s.packed.FrameSize() > blockmap.Step {
		return nil, &RefusedError{f.Name(), []Refusal{{NoMap, fmt.Sprintf("the image has %d bytes, its block map is for %d", s.size, s.blocks.Size), ""}}}
	}
	return s, nil
}

// damaged says whether an error comes from the bytes of a packed image: another
// try would read the same.
func damaged(err error) bool {
	return errors.Is(err, blockmap.ErrMismatch) || errors.Is(err, frames.ErrDamaged)
}

const damagedHint = "the image was changed, or the block map beside it is of another: copy both again"

// refuseDamaged turns what was found in a packed image before anything was
// written into a refusal.
func refuseDamaged(image string, err error) error {
	if !damaged(err) {
		return err
	}
	return &RefusedError{image, []Refusal{{Damaged, err.Error(), damagedHint}}}
}

// readMap reads the block map beside a packed image.
func readMap(image string) (*blockmap.Map, error) {
	name := strings.TrimSuffix(image, packedSuffix) + mapSuffix
	m, err := parseMap(name)
	if err == nil {
		return m, nil
	}
	return nil, &RefusedError{image, []Refusal{{NoMap, fmt.Sprintf("nothing to check it with: %v", err),
		"ingot build writes NAME.img.zst and NAME.img.bmap: keep the two together"}}}
}

// parseMap reads one byte more than is allowed, so that Parse refuses it.
func parseMap(name string) (*blockmap.Map, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, blockmap.MaxFile+1))
	if err != nil {
		return nil, err
	}
	return blockmap.Parse(data)
}

// hole says whether the packed image has nothing but zeros at off, and where
// that ends. A frame of zeros is not decompressed, but checked like any other.
func (s *source) hole(off int64) (bool, int64, error) {
	hole, until := s.packed.Hole(off)
	if !hole {
		return false, until, nil
	}
	from := off / s.packed.FrameSize() * s.packed.FrameSize()
	if s.blocks.Empty(from, until-from) {
		return true, until, nil
	}
	return true, until, s.blocks.Check(from, noBytes[:until-from])
}

// noBytes is a frame of zeros.
var noBytes = make([]byte, blockmap.Step)
