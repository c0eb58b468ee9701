package fat

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/fat32"

	"github.com/ingot-os/ingot/internal/golden"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/partition/tree"
)

// tool runs a program of a Debian package and returns what it prints.
func tool(t testing.TB, pkg, name string, args ...string) (string, error) {
	t.Helper()
	out, err := oracle.Command(oracle.Need(t, pkg, name), args...).CombinedOutput()
	return string(out), err
}

// fsck wants no complaint at all: only the version line and the summary.
func fsck(t *testing.T, name string) {
	t.Helper()
	out, err := tool(t, "dosfstools", "fsck.fat", "-n", name)
	if err != nil || strings.Count(strings.TrimSpace(out), "\n") != 1 {
		t.Errorf("fsck.fat: %v\n%s", err, out)
	}
}

func TestFsckManySizes(t *testing.T) {
	tr := sampleTree(t)
	for _, mib := range []int64{34, 63, 64, 65, 100, 127, 128, 129, 256, 260, 300, 512, 513, 1 << 10, 4 << 10, 9 << 10, 33 << 10} {
		t.Run(fmt.Sprint(mib, "MiB"), func(t *testing.T) {
			name := writeImage(t, tr, options(mib<<20))
			fsck(t, name)
			f, err := os.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			v, err := Open(f, mib<<20)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := v.Tree(); err != nil || got.Len() != tr.Len() {
				t.Errorf("read back: %v", err)
			}
		})
	}
}

// TestFsckComplains shows that the oracle sees the faults that this writer could make.
func TestFsckComplains(t *testing.T) {
	for _, c := range []struct {
		name string
		off  int64
	}{{"backup boot sector", 6*512 + 67}, {"free count", 512 + 488}, {"second FAT", (32+536)*512 + 9*4}, {"dot-dot", 0}} {
		t.Run(c.name, func(t *testing.T) {
			tr := sampleTree(t)
			m, err := Plan(tr, options(34<<20))
			if err != nil {
				t.Fatal(err)
			}
			name := writeImage(t, tr, options(34<<20))
			off := c.off
			if off == 0 {
				// The first directory below the root is the first that begins with a dot entry.
				for off = m.clusterOff(3); !bytes.Equal(readAt(t, name, off, 2), []byte(". ")); off += 512 {
				}
				off += 32 + 26
			}
			flip(t, name, off)
			out, _ := tool(t, "dosfstools", "fsck.fat", "-n", name)
			if strings.Count(strings.TrimSpace(out), "\n") == 1 {
				t.Errorf("fsck.fat saw nothing:\n%s", out)
			}
		})
	}
}

func readAt(t *testing.T, name string, off int64, n int) []byte {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, n)
	if _, err := f.ReadAt(b, off); err != nil {
		t.Fatal(err)
	}
	return b
}

func flip(t *testing.T, name string, off int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{readAt(t, name, off, 1)[0] ^ 2}, off); err != nil {
		t.Fatal(err)
	}
}

// TestMtools copies everything out with another implementation and compares.
func TestMtools(t *testing.T) {
	tr := sampleTree(t)
	name := writeImage(t, tr, options(100<<20))
	out, err := tool(t, "mtools", "minfo", "-i", name)
	if err != nil || !strings.Contains(out, "disk label=\"INGOT") && !strings.Contains(out, "serial number: 1234ABCD") {
		t.Errorf("minfo: %v\n%s", err, out)
	}
	dir := t.TempDir()
	if out, err := tool(t, "mtools", "mcopy", "-snmi", name, "::/", dir+"/"); err != nil {
		t.Fatalf("mcopy: %v\n%s", err, out)
	}
	for _, n := range tr.Nodes() {
		if strings.HasPrefix(n.Path, "beyond") {
			continue // mtools 4.0 has no surrogate pairs
		}
		st, err := os.Stat(filepath.Join(dir, n.Path))
		if err != nil {
			t.Error(err)
			continue
		}
		if n.Mode.IsDir() {
			continue
		}
		got, err := os.ReadFile(filepath.Join(dir, n.Path))
		if err != nil || !bytes.Equal(got, read(t, n)) {
			t.Errorf("%q differs (%v)", n.Path, err)
		}
		if st.ModTime().Unix() != testEpoch&^1 {
			t.Errorf("%q: time %d, want %d", n.Path, st.ModTime().Unix(), testEpoch&^1)
		}
	}
}

// TestMdirListing is a golden of names, aliases, sizes and times.
func TestMdirListing(t *testing.T) {
	var tr tree.Tree
	add(t, &tr, "EFI/BOOT/BOOTX64.EFI", content(1, 1000))
	add(t, &tr, "loader.conf", tree.Bytes("x"))
	name := writeImage(t, &tr, options(34<<20))
	got, err := tool(t, "mtools", "mdir", "-/", "-i", name, "::")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, l := range strings.Split(strings.TrimSpace(got), "\n") {
		lines = append(lines, strings.TrimRight(l, " "))
	}
	got = strings.Join(lines, "\n") + "\n"
	golden.Equal(t, "testdata/mdir.txt", got)
}

// TestGoDiskfs reads with a third implementation. Its reads are right only with
// buffers of at least one cluster.
func TestGoDiskfs(t *testing.T) {
	tr := sampleTree(t)
	const size = 100 << 20
	f, err := os.Open(writeImage(t, tr, options(size)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	v, err := fat32.Read(file.New(f, true), size, 0, 512)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range tr.Nodes() {
		if !n.Mode.IsRegular() || n.Size() == 0 || strings.ContainsFunc(n.Path, func(r rune) bool { return r > 0x7f }) {
			continue // go-diskfs 1.9.4 cannot read files without a cluster and takes long names for ASCII
		}
		r, err := v.OpenFile("/"+n.Path, os.O_RDONLY)
		if err != nil {
			t.Errorf("open %q: %v", n.Path, err)
			continue
		}
		var got bytes.Buffer
		if _, err := io.CopyBuffer(struct{ io.Writer }{&got}, struct{ io.Reader }{r}, make([]byte, 32<<10)); err != nil {
			t.Errorf("read %q: %v", n.Path, err)
		}
		if !bytes.Equal(got.Bytes(), read(t, n)) {
			t.Errorf("%q differs", n.Path)
		}
	}
}

// TestBigDirectory: thousands of names with one beginning, up to the limit of a directory.
func TestBigDirectory(t *testing.T) {
	var tr tree.Tree
	for i := range 21_000 { // three entries each
		add(t, &tr, fmt.Sprintf("d/same beginning %05d", i), nil)
	}
	fsck(t, writeImage(t, &tr, options(64<<20)))
	for i := range 1_000 {
		add(t, &tr, fmt.Sprintf("d/too much in here %05d", i), nil)
	}
	if _, err := Plan(&tr, options(64<<20)); err == nil || !strings.Contains(err.Error(), "FAT has room for 65536") {
		t.Errorf("66000 entries: %v", err)
	}
}
