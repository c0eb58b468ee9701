package initramfs

import (
	"bytes"
	"io/fs"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/partition/tree"
)

// stored writes the archive into a file that held random bytes before.
func stored(t *testing.T, a *Archive) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "initramfs")
	junk := make([]byte, a.Size())
	rand.New(rand.NewSource(9)).Read(junk)
	if err := os.WriteFile(path, junk, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := a.WriteTo(f); err != nil {
		t.Fatal(err)
	}
	return path
}

func run(t *testing.T, dir string, stdin []byte, argv ...string) string {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, errs.String())
	}
	return out.String()
}

// lstat is the tree found in dir, as dump writes it, without owners. GNU cpio
// sets times on regular files only.
func lstat(t *testing.T, dir string) []string {
	t.Helper()
	out := &tree.Tree{}
	first := map[uint64]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().IsRegular() && info.ModTime().Unix() != epoch {
			t.Errorf("%s: modified %v, want %d", rel, info.ModTime(), epoch)
		}
		n := tree.Node{Path: rel, Mode: info.Mode()}
		ino := info.Sys().(*syscall.Stat_t).Ino
		switch {
		case n.Mode&fs.ModeSymlink != 0:
			n.Target, err = os.Readlink(p)
		case n.Mode.IsRegular() && first[ino] != "":
			n.Link = first[ino]
		case n.Mode.IsRegular():
			var b []byte
			b, err = os.ReadFile(p)
			n.Content, first[ino] = tree.Bytes(b), rel
		}
		if rel == "." {
			n.Mode = fs.ModeDir | 0o755
		}
		if err != nil {
			return err
		}
		return out.Add(n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return dump(t, canonical(t, out))
}

func withoutOwners(t *testing.T, tr *tree.Tree) *tree.Tree {
	out := &tree.Tree{}
	for _, n := range tr.Nodes() {
		c := *n
		c.UID, c.GID = 0, 0
		if err := out.Add(c); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestGNUcpioLists(t *testing.T) {
	cpio := oracle.Need(t, "cpio", "cpio")
	segs := sample(t)
	a := plan(t, segs, Options{})
	raw, err := os.ReadFile(stored(t, a))
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, n := range union(t, segs).Nodes() {
		want = append(want, n.Path)
	}
	got := strings.Split(strings.TrimSuffix(run(t, t.TempDir(), raw, cpio, "-t", "--quiet"), "\n"), "\n")
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("cpio -t (-want +got)\n%s", d)
	}
	// -tv shows nlink: setuid files need 1, the three names of one file 3.
	long := run(t, t.TempDir(), raw, cpio, "-tvn", "--quiet")
	for _, want := range []string{"-rwsr-xr-x   1 0        0 ", "-rw-r-----   3 12       34 "} {
		if !strings.Contains(long, want) {
			t.Errorf("cpio -tv: no line with %q in\n%s", want, long)
		}
	}
}

func TestGNUcpioUnpacks(t *testing.T) {
	cpio := oracle.Need(t, "cpio", "cpio")
	segs := sample(t)
	want := dump(t, canonical(t, withoutOwners(t, union(t, segs))))
	dir := t.TempDir()
	raw, err := os.ReadFile(stored(t, plan(t, segs, Options{})))
	if err != nil {
		t.Fatal(err)
	}
	run(t, dir, raw, cpio, "-idm", "--quiet", "--no-preserve-owner")
	if d := cmp.Diff(want, lstat(t, dir)); d != "" {
		t.Errorf("cpio -idm (-want +got)\n%s", d)
	}
}

// TestZstdTool unpacks each frame with zstd and each archive with cpio, one
// after another into one directory, as the kernel does.
func TestZstdTool(t *testing.T) {
	cpio, zstd := oracle.Need(t, "cpio", "cpio"), oracle.Need(t, "zstd", "zstd")
	segs := sample(t)
	path := stored(t, plan(t, segs, Options{Compress: Zstd}))
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, info, err := Read(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, a := range info.Archives {
		one := run(t, dir, raw[a.Offset:a.Offset+a.Size], zstd, "-dc", "-q")
		if int64(len(one)) != a.Unpacked {
			t.Errorf("frame at %d unpacks to %d bytes, want %d", a.Offset, len(one), a.Unpacked)
		}
		run(t, dir, []byte(one), cpio, "-idm", "--quiet", "--no-preserve-owner")
	}
	want := dump(t, canonical(t, withoutOwners(t, union(t, segs))))
	if d := cmp.Diff(want, lstat(t, dir)); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// TestReadGNUcpio reads what GNU cpio writes: content with the last of several
// names, padding to 512 bytes, running inode numbers, "./" names.
func TestReadGNUcpio(t *testing.T) {
	cpio := oracle.Need(t, "cpio", "cpio")
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(dir, "d/e"), 0o755))
	must(os.WriteFile(filepath.Join(dir, "d/f"), noise(4, 5001), 0o644))
	must(os.Link(filepath.Join(dir, "d/f"), filepath.Join(dir, "d/g")))
	must(os.Symlink("../d/f", filepath.Join(dir, "d/e/s")))
	raw := run(t, dir, []byte("./d\n./d/e\n./d/e/s\n./d/f\n./d/g\n"), cpio, "-o", "-H", "newc", "--quiet")
	got, info, err := Read(strings.NewReader(raw + raw)) // the second overlays the first
	must(err)
	if len(info.Archives) != 2 || info.Archives[0].Entries != 5 {
		t.Errorf("archives %+v", info.Archives)
	}
	want := mk(t,
		tree.Node{Path: "d", Mode: fs.ModeDir | 0o755}, tree.Node{Path: "d/e", Mode: fs.ModeDir | 0o755},
		tree.Node{Path: "d/e/s", Mode: fs.ModeSymlink | 0o777, Target: "../d/f"},
		tree.Node{Path: "d/f", Mode: 0o644, Content: noise(4, 5001)}, tree.Node{Path: "d/g", Mode: 0o644, Link: "d/f"})
	if d := cmp.Diff(dump(t, want), dump(t, withoutOwners(t, got))); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}
