package measure

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/ingot-os/ingot/attest/predict"
	"github.com/ingot-os/ingot/boot"
	"github.com/ingot-os/ingot/boot/pe"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/fat"
	"github.com/ingot-os/ingot/partition/tree"
)

// maxLoader bounds in bytes what is taken for a boot loader; a UKI is larger.
const maxLoader = 4 << 20

// Loader finds the boot loader that an ingot disk starts its UKI with, and its
// loader.conf; nil for a disk on which the firmware starts the UKI itself.
func Loader(disk io.ReaderAt, size int64) (*predict.Program, []byte, error) {
	l, err := partition.Read(disk, size)
	if errors.Is(err, partition.ErrForeign) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	p, ok := l.Part(partition.ESP)
	if !ok {
		return nil, nil, nil
	}
	volume, err := fat.Open(p.Section(disk), p.Size)
	if err != nil {
		return nil, nil, fmt.Errorf("partition %s: %w", partition.ESP, err)
	}
	files, err := volume.Tree()
	if err != nil {
		return nil, nil, fmt.Errorf("partition %s: %w", partition.ESP, err)
	}
	return LoaderIn(files)
}

// LoaderIn is Loader for the files of an EFI system partition.
func LoaderIn(files *tree.Tree) (*predict.Program, []byte, error) {
	for _, arch := range []string{boot.AMD64, boot.ARM64} {
		b, err := content(files, boot.FallbackPath(arch))
		if err != nil {
			return nil, nil, err
		}
		if b == nil || isUKI(b) {
			continue
		}
		conf, err := content(files, "loader/loader.conf")
		return &predict.Program{Image: bytes.NewReader(b), Size: int64(len(b))}, conf, err
	}
	return nil, nil, nil
}

func isUKI(b []byte) bool {
	f, err := pe.Parse(bytes.NewReader(b), int64(len(b)))
	return err == nil && f.Section(".linux") != nil
}

// content is a small file, nil when there is none.
func content(files *tree.Tree, path string) ([]byte, error) {
	n := files.Get(path)
	if n == nil || n.Content == nil || n.Content.Size() > maxLoader {
		return nil, nil
	}
	r, err := n.Open()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	b, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}
