package qemu

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// sparse makes an image with data at both ends and in the middle of a hole.
func sparse(t *testing.T, size int64, at ...int64) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "x.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := rand.New(rand.NewPCG(1, 2))
	for _, off := range at {
		b := make([]byte, 4096)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		if _, err := f.WriteAt(b, off); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

func allocated(t *testing.T, f *os.File) int64 {
	t.Helper()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Blocks * 512
}

func TestCopyKeepsBytesAndHoles(t *testing.T) {
	const size = 64<<20 + 512
	for name, at := range map[string][]int64{"data": {0, 32 << 20, 64<<20 - 4096}, "hole": nil, "end": {64<<20 - 4096}} {
		image := sparse(t, size, at...)
		m := Machine{Arch: AMD64, Image: image}
		if err := m.defaults(); err != nil {
			t.Fatal(err)
		}
		f, err := m.openDisk(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		want, err := os.ReadFile(image)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, size)
		if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: copy differs, %v", name, err)
		}
		if n := allocated(t, f); n > 1<<20 {
			t.Errorf("%s: copy takes %d bytes", name, n)
		}
	}
}

func TestDiskGrowsInWholeSectors(t *testing.T) {
	image := sparse(t, 1<<20+512, 0)
	for _, c := range []struct {
		sector     int
		size, want int64
	}{{512, 0, 1<<20 + 512}, {4096, 0, 1<<20 + 4096}, {512, 8 << 20, 8 << 20}, {512, 4096, 1<<20 + 512}} {
		m := Machine{Image: image, SectorSize: c.sector, DiskSize: c.size}
		f, err := m.openDisk(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if info, _ := f.Stat(); info.Size() != c.want {
			t.Errorf("%+v: got %d bytes", c, info.Size())
		}
	}
}

func TestThrowawayDiskHasNoName(t *testing.T) {
	dir := t.TempDir()
	m := Machine{Image: sparse(t, 1<<20), SectorSize: 512}
	f, err := m.openDisk(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if names, _ := os.ReadDir(dir); len(names) != 0 {
		t.Errorf("left %v", names)
	}
}

func TestPersistentDiskIsCopiedOnce(t *testing.T) {
	dir := t.TempDir()
	m := Machine{Image: sparse(t, 1<<20, 0), SectorSize: 512, Disk: filepath.Join(dir, "kept.img")}
	hooked := 0
	m.State = func(f *os.File) error {
		hooked++
		_, err := f.WriteAt([]byte{byte(hooked)}, int64(hooked))
		return err
	}
	for range 2 {
		f, err := m.openDisk(dir)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	b, err := os.ReadFile(m.Disk)
	if err != nil || b[1] != 1 || b[2] != 2 {
		t.Errorf("second start lost what the first wrote: % x, %v", b[:4], err)
	}
	if names, _ := os.ReadDir(dir); len(names) != 1 {
		t.Errorf("left %v", names)
	}
}

func TestDiskFaultsLeaveNothing(t *testing.T) {
	broken := errors.New("no state partition")
	image := sparse(t, 1<<20, 0)
	cases := map[string]struct {
		m    Machine
		want error
	}{
		"image missing":   {Machine{Image: image + ".not"}, os.ErrNotExist},
		"hook fails":      {Machine{Image: image, State: func(*os.File) error { return broken }}, broken},
		"image directory": {Machine{Image: filepath.Dir(image)}, nil},
		"disk elsewhere":  {Machine{Image: image, Disk: filepath.Join(t.TempDir(), "no", "dir", "d.img")}, os.ErrNotExist},
		"kept, no image":  {Machine{Image: image + ".not", Disk: filepath.Join(t.TempDir(), "d.img")}, os.ErrNotExist},
	}
	for name, c := range cases {
		dir := t.TempDir()
		c.m.SectorSize = 512
		f, err := c.m.openDisk(dir)
		if f != nil || err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
		if names, _ := os.ReadDir(dir); len(names) != 0 {
			t.Errorf("%s: left %v", name, names)
		}
		if c.m.Disk != "" {
			if names, _ := os.ReadDir(filepath.Dir(c.m.Disk)); len(names) != 0 {
				t.Errorf("%s: left %v beside the disk", name, names)
			}
		}
	}
}
