package stick

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/fat"
	"github.com/ingot-os/ingot/partition/flash"
	"github.com/ingot-os/ingot/partition/tree"
)

const mib = 1 << 20

// label is the volume's; a person sees it when the stick is plugged in.
const label = "INGOT"

// CopyTo puts the folder into a directory: that of a stick that is mounted, or any
// other. A folder of that name is replaced. Everything is on the medium when it
// returns.
func (f *Folder) CopyTo(dir string) error {
	to := filepath.Join(dir, f.Name)
	if err := os.Mkdir(to, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := os.Remove(filepath.Join(to, release.EnvelopeName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, x := range f.Files { // the manifest is the last
		if err := copyFile(filepath.Join(to, x.Name), x.path); err != nil {
			return fmt.Errorf("write %s: %w", filepath.Join(to, x.Name), err)
		}
	}
	return errors.Join(syncDir(to), syncDir(dir))
}

func copyFile(to, from string) (err error) {
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if _, err := io.Copy(w, r); err != nil {
		return err
	}
	return w.Sync()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Flash makes a device a stick that holds the folder and nothing else: a partition
// table and one FAT32 volume just as large as is needed.
func (f *Folder) Flash(ctx context.Context, device string, o flash.Options) (flash.Result, error) {
	volume, size, err := f.volume()
	if err != nil {
		return flash.Result{}, err
	}
	defer volume.Close()
	id := func(role string) [16]byte { return partition.GUID(f.Name, "stick", role) }
	return flash.WriteVolume(ctx, flash.Volume{
		ReaderAt: volume, Size: size, Name: "ingot update", Type: flash.BasicData, Disk: id("disk"), Part: id("volume"),
	}, device, o)
}

// NewImage makes the file of a stick, empty and as large as Flash needs it.
func (f *Folder) NewImage(name string) error {
	img, err := f.plan()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(out.Truncate(img.Size()+3*mib), out.Close())
}

// volume writes the file system into a temporary file.
func (f *Folder) volume() (*os.File, int64, error) {
	img, err := f.plan()
	if err != nil {
		return nil, 0, err
	}
	out, err := os.Create(filepath.Join(f.temp, "volume"))
	if err == nil {
		err = errors.Join(out.Truncate(img.Size()), img.Write(out))
	}
	if err != nil {
		return nil, 0, fmt.Errorf("write volume: %w", err)
	}
	return out, img.Size(), nil
}

// plan makes the volume as small as it may be: tables and directories come on top
// of the files.
func (f *Folder) plan() (*fat.Image, error) {
	t := new(tree.Tree)
	size := int64(34 * mib) // below it a FAT is not FAT32
	for _, x := range f.Files {
		if err := t.Add(tree.Node{Path: path.Join(f.Name, x.Name), Mode: 0o644, Content: blob{x}}); err != nil {
			return nil, err
		}
		size += x.Size
	}
	for {
		size = (size + size/100 + mib) / mib * mib
		img, err := fat.Plan(t, fat.Options{Size: size, Label: label, Epoch: f.epoch, Serial: partition.FATSerial(f.Name, "stick", "volume")})
		var small *fat.SpaceError
		switch {
		case err == nil:
			return img, nil
		case !errors.As(err, &small):
			return nil, fmt.Errorf("plan volume: %w", err)
		}
	}
}

// blob is a file as content.
type blob struct{ f File }

// Size implements tree.Blob.
func (b blob) Size() int64 { return b.f.Size }

// Open implements tree.Blob.
func (b blob) Open() (io.ReadCloser, error) { return os.Open(b.f.path) }
