// Package stick makes the folder by which a machine without a network is
// updated: on a stick of its own, or beside other files on a medium that is
// mounted.
//
//	NAME-VERSION/root.zst            the root partition, when there is one
//	NAME-VERSION/slot.zst            the slot
//	NAME-VERSION/manifest.dsse.json  the signed manifest
//
// A part is the bytes of its partition without the zeros at the end as one zstd
// stream (RFC 8878) with a window of at most 8 MiB. A machine looks at folders
// that hold a manifest, and believes its signatures, not the medium: the manifest
// is written last, so that half a folder is none.
package stick

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"

	"github.com/ingot-os/ingot/internal/dsse"
	"github.com/ingot-os/ingot/internal/regular"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/slotdisk"
)

// Names of the files in a folder.
const (
	SlotName = "slot.zst"
	RootName = "root.zst"
)

// window is that of the streams, in bytes: what every decoder has to have.
const window = 8 << 20

// ErrUnsigned means that a set has no signed manifest.
var ErrUnsigned = errors.New("the image set is not signed")

// DiffersError says that an image is not what its manifest says.
type DiffersError struct {
	Path, Part string
	Got, Want  string // SHA-256 in hex
}

// Error implements error.
func (e *DiffersError) Error() string {
	return fmt.Sprintf("read %s: the %s is not what the manifest says: digest %s, want %s", e.Path, e.Part, e.Got, e.Want)
}

// File is one file of a folder.
type File struct {
	Name string `json:"name"`
	Size int64  `json:"size"` // bytes

	path string // where it lies now
}

// Folder is a release that was made ready in a temporary directory.
type Folder struct {
	Name  string `json:"name"` // NAME-VERSION
	Files []File `json:"files"`

	epoch int64
	temp  string
}

// Prepare reads an image set, holds it against its manifest, and compresses it.
// told is given the bytes that were read and are to be read; it may be nil.
func Prepare(ctx context.Context, dir string, told func(done, total int64)) (*Folder, error) {
	set, err := release.Open(dir)
	if err != nil {
		return nil, err
	}
	envelope, err := regular.Read(filepath.Join(dir, release.EnvelopeName), dsse.MaxEnvelope)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read %s: %w", dir, ErrUnsigned)
	}
	if err != nil {
		return nil, err
	}
	manifest, err := regular.Read(filepath.Join(dir, release.ManifestName), dsse.MaxEnvelope)
	if err != nil {
		return nil, err
	}
	if err := dsse.Carries(envelope, manifest); err != nil {
		return nil, fmt.Errorf("read %s: %w: %s beside %s: %w", dir, ErrUnsigned, release.EnvelopeName, release.ManifestName, err)
	}
	parts, err := slotdisk.OpenParts(dir)
	if err != nil {
		return nil, err
	}
	defer parts.Close()
	f := &Folder{Name: set.Manifest.Stem(), epoch: set.Manifest.Epoch}
	if f.temp, err = os.MkdirTemp("", "ingot-stick-"); err != nil {
		return nil, err
	}
	at := &progress{ctx: ctx, told: told}
	if err := f.fill(at, dir, parts, envelope); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// fill makes the files, the manifest last.
func (f *Folder) fill(at *progress, dir string, parts *slotdisk.Parts, envelope []byte) error {
	at.total = parts.Slot.Size()
	if parts.Root != nil {
		at.total += parts.Root.Size()
		if err := f.pack(at, dir, "root", RootName, parts.Root, parts.RootSHA256); err != nil {
			return err
		}
	}
	if err := f.pack(at, dir, "slot", SlotName, parts.Slot, parts.SlotSHA256); err != nil {
		return err
	}
	path := filepath.Join(f.temp, release.EnvelopeName)
	f.Files = append(f.Files, File{release.EnvelopeName, int64(len(envelope)), path})
	return os.WriteFile(path, envelope, 0o644)
}

// Close removes what Prepare has made.
func (f *Folder) Close() error { return os.RemoveAll(f.temp) }

// pack compresses one part.
func (f *Folder) pack(at *progress, dir, part, name string, r *io.SectionReader, want string) error {
	path := filepath.Join(f.temp, name)
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer out.Close()
	z, err := zstd.NewWriter(out, zstd.WithWindowSize(window), zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedBetterCompression))
	if err != nil {
		return err
	}
	sum := sha256.New()
	w := &trimmed{w: z}
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(sum, w)}, at.of(r), make([]byte, 1<<20)); err != nil {
		_ = z.Close() // the first error is the one to tell
		return fmt.Errorf("compress %s of %s: %w", part, dir, err)
	}
	if err := errors.Join(z.Close(), out.Sync()); err != nil {
		return fmt.Errorf("compress %s of %s: %w", part, dir, err)
	}
	if got := fmt.Sprintf("%x", sum.Sum(nil)); got != want {
		return &DiffersError{dir, part, got, want}
	}
	info, err := out.Stat()
	if err != nil {
		return err
	}
	f.Files = append(f.Files, File{name, info.Size(), path})
	return nil
}

// trimmed passes on what is written but the zeros at the end.
type trimmed struct {
	w     io.Writer
	zeros int64 // not passed on yet
}

// Write implements io.Writer.
func (t *trimmed) Write(b []byte) (int, error) {
	end := len(b)
	for end > 0 && b[end-1] == 0 {
		end--
	}
	if end > 0 {
		blank := make([]byte, min(t.zeros, 1<<20))
		for ; t.zeros > 0; t.zeros -= min(t.zeros, int64(len(blank))) {
			if _, err := t.w.Write(blank[:min(t.zeros, int64(len(blank)))]); err != nil {
				return 0, err
			}
		}
		if _, err := t.w.Write(b[:end]); err != nil {
			return 0, err
		}
	}
	t.zeros += int64(len(b) - end)
	return len(b), nil
}

// progress counts what is read, and ends it when the operator interrupts.
type progress struct {
	ctx         context.Context
	told        func(done, total int64)
	done, total int64
	r           io.Reader
}

func (p *progress) of(r io.Reader) io.Reader { p.r = r; return p }

// Read implements io.Reader.
func (p *progress) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := p.r.Read(b)
	if p.done += int64(n); p.told != nil {
		p.told(p.done, p.total)
	}
	return n, err
}
