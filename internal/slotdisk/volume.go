package slotdisk

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/ingot-os/ingot/boot"
	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/rig"
	"github.com/ingot-os/ingot/partition/fat"
)

// ErrNoBootFile means that a volume has no boot file of ingot's.
var ErrNoBootFile = errors.New("no boot file")

// maxBootFile bounds a boot file, in bytes: firmware reads it into memory.
const maxBootFile = 1 << 30

// Spec reads what the boot file of a slot says of itself: appliance, version,
// security epoch, formats of data.
func Spec(slot io.ReaderAt, size int64) (*appliance.Spec, error) {
	volume, err := fat.Open(slot, size)
	if err != nil {
		return nil, err
	}
	t, err := volume.Tree()
	if err != nil {
		return nil, err
	}
	for _, arch := range []string{boot.AMD64, boot.ARM64} {
		n := t.Get(boot.FallbackPath(arch))
		if n == nil || !n.Mode.IsRegular() {
			continue
		}
		if n.Size() > maxBootFile {
			return nil, fmt.Errorf("%s has %d bytes", n.Path, n.Size())
		}
		r, err := n.Open()
		if err != nil {
			return nil, err
		}
		defer r.Close()
		uki := make([]byte, n.Size())
		if _, err := io.ReadFull(r, uki); err != nil {
			return nil, fmt.Errorf("read %s: %w", n.Path, err)
		}
		return SpecOf(bytes.NewReader(uki), int64(len(uki)))
	}
	return nil, ErrNoBootFile
}

// SpecOf reads it from a boot file.
func SpecOf(uki io.ReaderAt, size int64) (*appliance.Spec, error) {
	info, err := boot.Inspect(uki, size)
	if err != nil {
		return nil, err
	}
	for _, s := range info.Sections {
		if s.Name == ".initrd" {
			return rig.SpecIn(io.NewSectionReader(uki, s.Offset, s.Size))
		}
	}
	return nil, ErrNoBootFile
}
