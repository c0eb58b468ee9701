package verify_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/verify"
)

// patched is an image with other bytes at an offset.
type patched struct {
	io.ReaderAt
	data []byte
	off  int64
}

func (p patched) ReadAt(b []byte, off int64) (int, error) {
	n, err := p.ReaderAt.ReadAt(b, off)
	if from, to := max(off, p.off), min(off+int64(n), p.off+int64(len(p.data))); from < to {
		copy(b[from-off:to-off], p.data[from-p.off:])
	}
	return n, err
}

// FuzzImage puts arbitrary bytes anywhere into an image. As its manifest says,
// they are refused; with a manifest that vouches for them, all readers of
// contents see them, and must not panic. Neither may say verified for an image
// whose bytes changed.
func FuzzImage(f *testing.F) {
	set := makeSet(f, fixture(f, full), nil)
	image, err := os.Open(set.Image())
	if err != nil {
		f.Fatal(err)
	}
	defer image.Close()
	m := *set.Manifest
	dir := f.TempDir()
	for _, p := range m.Disk.Partitions {
		f.Add([]byte{0xff}, uint32(p.Start+600))
		f.Add(make([]byte, 64), uint32(p.Start+11))
		f.Add([]byte("MZ\x00\x00PE\x00\x00"), uint32(p.Start+9<<20))
	}
	f.Add([]byte("EFI PART"), uint32(4096))
	f.Add([]byte{}, uint32(0))
	f.Fuzz(func(t *testing.T, data []byte, off uint32) {
		at := int64(off) % m.Disk.Size
		r := patched{image, data[:min(int64(len(data)), m.Disk.Size-at, 1<<16)], at}
		before := make([]byte, len(r.data))
		if _, err := image.ReadAt(before, at); err != nil {
			t.Fatal(err)
		}
		o := verify.Options{Path: filepath.Join(dir, "x"), Manifest: set.Dir, Unsigned: true}.WithImage(r, m.Disk.Size)
		write(t, o.Path, nil)
		changed := string(before) != string(r.data)
		if got := run(t, o); (got.Verdict == verify.Refused) != changed {
			t.Errorf("%d bytes at %d, changed %v: %s", len(r.data), at, changed, got.Verdict)
		}
		vouch := m
		vouch.Disk.Partitions = append([]release.Partition{}, m.Disk.Partitions...)
		for i, p := range m.Disk.Partitions {
			if at < p.Start+p.Size && p.Start < at+int64(len(r.data)) {
				h := sha256.New()
				if _, err := io.Copy(h, io.NewSectionReader(r, p.Start, p.Size)); err != nil {
					t.Fatal(err)
				}
				vouch.Disk.Partitions[i].SHA256 = hex.EncodeToString(h.Sum(nil))
			}
		}
		manifest, err := vouch.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		o.Manifest = filepath.Join(dir, release.ManifestName)
		write(t, o.Manifest, manifest)
		run(t, o)
		o.Disk = true
		run(t, o)
	})
}

// FuzzManifest verifies an image against arbitrary manifests.
func FuzzManifest(f *testing.F) {
	set := makeSet(f, fixture(f, full), nil)
	manifest, err := set.Manifest.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(manifest)
	f.Add([]byte(`{"format": 1}`))
	dir := f.TempDir()
	write(f, filepath.Join(dir, "x"), make([]byte, 1<<20))
	f.Fuzz(func(t *testing.T, data []byte) {
		write(t, filepath.Join(dir, release.ManifestName), data)
		if r := run(t, verify.Options{Path: filepath.Join(dir, "x"), Unsigned: true}); r.Verdict != verify.Refused {
			t.Errorf("verdict %s", r.Verdict)
		}
	})
}
