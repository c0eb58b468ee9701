package disk

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// tool finds a program of a Debian package or skips.
func tool(t testing.TB, name, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	for _, dir := range []string{"/sbin", "/usr/sbin"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return filepath.Join(dir, name)
		}
	}
	if os.Getenv("INGOT_REQUIRE_TOOLS") == "1" {
		t.Fatalf("%s is missing: install %s", name, pkg)
	}
	t.Skipf("%s is missing: install %s", name, pkg)
	return ""
}

// partitionFile is a partition whose first MiB is zero and the rest noise, as
// a used disk is where only the start was cleared.
func partitionFile(t testing.TB, size int64, noise bool) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "p7"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if noise {
		if _, err := io.CopyN(io.NewOffsetWriter(f, blankSize), rand.Reader, size-blankSize); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func TestFormatIsCleanForE2fsck(t *testing.T) {
	e2fsck := tool(t, "e2fsck", "e2fsprogs")
	for _, c := range []struct {
		size  int64
		noise bool
	}{{MinData, true}, {64 << 20, true}, {100<<20 + 12345, true}, {300 << 20, false}, {formatSize, false}, {3 << 30, false}, {100 << 30, false}, {5 << 40, false}} {
		t.Run(fmt.Sprint(c.size), func(t *testing.T) {
			f := partitionFile(t, c.size, c.noise)
			if content, _, err := Probe(f); content != Blank || err != nil {
				t.Fatalf("Probe() before = %v, %v", content, err)
			}
			if err := Format(Device{f}, c.size); err != nil {
				t.Fatal(err)
			}
			content, super, err := Probe(f)
			want := min(c.size/blockSize*blockSize, formatSize)
			if content != Ext4 || super.Size != want || super.Dirty || super.Errored || err != nil {
				t.Errorf("Probe() = %v, %+v, %v; want a clean ext4 of %d bytes", content, super, err, want)
			}
			if out, err := exec.Command(e2fsck, "-fn", f.Name()).CombinedOutput(); err != nil {
				t.Errorf("e2fsck: %v\n%s", err, out)
			}
		})
	}
}

// cutter is a partition that loses power after a number of writes.
type cutter struct {
	Device
	left int
}

var errCut = errors.New("power cut")

func (c *cutter) WriteAt(b []byte, off int64) (int, error) {
	if c.left--; c.left < 0 {
		return 0, errCut
	}
	return c.Device.WriteAt(b, off)
}

func (c *cutter) Zero(off, n int64) error {
	if c.left--; c.left < 0 {
		return errCut
	}
	return c.Device.Zero(off, n)
}

func TestFormatThatWasCutIsBlank(t *testing.T) {
	e2fsck := tool(t, "e2fsck", "e2fsprogs")
	f := partitionFile(t, 64<<20, true)
	writes := 0
	for ; ; writes++ {
		err := Format(&cutter{Device{f}, writes}, 64<<20)
		if err == nil {
			break
		}
		if !errors.Is(err, errCut) {
			t.Fatal(err)
		}
		if content, _, err := Probe(f); content != Blank || err != nil {
			t.Fatalf("after %d writes: Probe() = %v, %v; want blank", writes, content, err)
		}
	}
	if writes < 5 {
		t.Errorf("only %d writes", writes)
	}
	if out, err := exec.Command(e2fsck, "-fn", f.Name()).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
}

func TestProbeLeavesForeignAlone(t *testing.T) {
	mke2fs := tool(t, "mke2fs", "e2fsprogs")
	f := partitionFile(t, 64<<20, false)
	if _, err := f.WriteAt([]byte("XFSB"), 0); err != nil {
		t.Fatal(err)
	}
	if content, _, err := Probe(f); content != Foreign || err != nil {
		t.Errorf("Probe() of XFS = %v, %v", content, err)
	}
	for _, at := range []int64{blockSize, 65536 + 64, blankSize - 8} {
		f := partitionFile(t, MinData, false)
		if _, err := f.WriteAt([]byte("_BHRfS_M"), at); err != nil {
			t.Fatal(err)
		}
		if content, _, err := Probe(f); content != Foreign || err != nil {
			t.Errorf("Probe() of something at %d = %v, %v", at, content, err)
		}
	}
	if out, err := exec.Command(mke2fs, "-q", "-F", "-t", "ext4", f.Name()).CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v\n%s", err, out)
	}
	content, super, err := Probe(f)
	if content != Ext4 || super != (Super{Size: 64 << 20}) || err != nil {
		t.Errorf("Probe() of mke2fs = %v, %+v, %v", content, super, err)
	}
	// s_state 0: not cleanly unmounted; 2: errors; then needs_recovery.
	for _, c := range []struct {
		off  int64
		b    byte
		want Super
	}{{superAt + 0x3A, 0, Super{64 << 20, true, false}}, {superAt + 0x3A, 3, Super{64 << 20, false, true}}, {superAt + 0x60, 0x4 | 0x40 | 0x2, Super{64 << 20, true, true}}} {
		f.WriteAt([]byte{c.b}, c.off)
		if _, got, err := Probe(f); err != nil || got.Dirty != c.want.Dirty || got.Errored != c.want.Errored {
			t.Errorf("Probe() with byte %#x = %#x: %+v, want %+v", c.off, c.b, got, c.want)
		}
	}
	if _, _, err := Probe(bytes.NewReader(nil)); err == nil {
		t.Error("Probe() of nothing succeeds")
	}
}

func TestFormatRefusesTooSmall(t *testing.T) {
	if err := Format(nil, MinData-1); err == nil || !strings.Contains(err.Error(), "less than") {
		t.Errorf("Format() = %v", err)
	}
}

func TestSparseReadsBack(t *testing.T) {
	s := &sparse{size: 10 * blockSize, pages: map[int64][]byte{}}
	want := make([]byte, s.size)
	rand.Read(want[5000:9000])
	if _, err := s.WriteAt(want[4000:12000], 4000); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(io.NewSectionReader(s, 0, s.size))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("read back differs, %v", err)
	}
	if _, err := s.WriteAt([]byte{1}, s.size); err == nil {
		t.Error("a write past the end succeeds")
	}
}

func FuzzProbe(f *testing.F) {
	f.Add(make([]byte, blockSize))
	f.Add(make([]byte, blankSize))
	f.Add(begun())
	huge := make([]byte, blockSize)
	copy(huge[superAt+0x38:], []byte{0x53, 0xEF})              // the magic number
	copy(huge[superAt+0x60:], []byte{0x80})                    // 64 bits
	copy(huge[superAt+0x150:], []byte{0xFF, 0xFF, 0xFF, 0xFF}) // of blocks
	f.Add(huge)
	f.Fuzz(func(t *testing.T, b []byte) {
		_, super, err := Probe(bytes.NewReader(b))
		if err == nil && super.Size < 0 {
			t.Errorf("a size of %d bytes", super.Size)
		}
	})
}

func BenchmarkFormat(b *testing.B) {
	f := partitionFile(b, formatSize, false)
	for b.Loop() {
		if err := Format(Device{f}, formatSize); err != nil {
			b.Fatal(err)
		}
	}
}
