package measure

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/rig"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/fat"
	"github.com/ingot-os/ingot/partition/tree"
)

// withUKI copies the disk of a set and puts another UKI into slot A.
func withUKI(t *testing.T, set *release.Set, uki []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk.img")
	f, err := os.OpenFile(set.Image(), os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	l, err := partition.Read(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	p, ok := l.Part(partition.SlotA)
	if !ok {
		t.Fatal("no slot A")
	}
	out, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := out.Truncate(info.Size()); err != nil {
		t.Fatal(err)
	}
	if err := copySparse(out, f, info.Size(), p); err != nil {
		t.Fatal(err)
	}
	var files tree.Tree
	for _, n := range []tree.Node{{Path: "EFI", Mode: fs.ModeDir | 0o755}, {Path: "EFI/BOOT", Mode: fs.ModeDir | 0o755},
		{Path: "EFI/BOOT/BOOTX64.EFI", Mode: 0o644, Content: tree.Bytes(uki)}} {
		if err := files.Add(n); err != nil {
			t.Fatal(err)
		}
	}
	img, err := fat.Plan(&files, fat.Options{Size: p.Size, Serial: 1, Epoch: set.Manifest.Epoch})
	if err != nil {
		t.Fatal(err)
	}
	if err := img.Write(p.Window(out)); err != nil {
		t.Fatal(err)
	}
	return name
}

// copySparse leaves out blocks of zeros and the partition skip.
func copySparse(w io.WriterAt, r io.ReaderAt, size int64, skip partition.Part) error {
	buf := make([]byte, 1<<20)
	for off := int64(0); off < size; off += int64(len(buf)) {
		if off >= skip.Start && off < skip.End() {
			continue
		}
		n, err := r.ReadAt(buf, off)
		if err != nil && err != io.EOF {
			return err
		}
		zero := true
		for _, b := range buf[:n] {
			zero = zero && b == 0
		}
		if !zero {
			if _, err := w.WriteAt(buf[:n], off); err != nil {
				return err
			}
		}
	}
	return nil
}

func buildEvidence(loader string) (string, error) {
	dir := filepath.Join(scratch, loader)
	exe, recipe := filepath.Join(dir, "ingot"), filepath.Join(dir, "recipe", "appliance.yaml")
	if err := os.CopyFS(filepath.Dir(recipe), os.DirFS("testdata/evidence")); err != nil {
		return "", err
	}
	text, err := os.ReadFile(recipe)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(recipe, fmt.Appendf(text, "\nboot: {loader: %s}\n", loader), 0o644); err != nil {
		return "", err
	}
	var out []byte
	for _, args := range [][]string{
		{"go", "build", "-o", exe, "github.com/ingot-os/ingot/cmd/ingot"},
		{exe, "lock", "-f", recipe}, {exe, "build", "-f", recipe, "-o", filepath.Join(dir, "out")},
	} {
		var stderr bytes.Buffer
		c := exec.Command(args[0], args[1:]...)
		c.Stderr = &stderr
		if out, err = c.Output(); err != nil {
			return "", fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, stderr.Bytes())
		}
	}
	return strings.TrimSpace(string(out)), nil
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "ingot-measure-")
	if err != nil {
		panic(err)
	}
	scratch = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// openSet gives the image set that serves evidence. A test is skipped where no
// machine can be booted.
func openSet(t *testing.T) (*release.Set, *appliance.Spec) { return openLoader(t, "firmware") }

func openLoader(t *testing.T, loader string) (*release.Set, *appliance.Spec) {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a machine")
	}
	for _, m := range qemu.Tools("amd64") {
		oracle.Need(t, m.Package, m.Name)
	}
	dir, err := evidenceSets[loader]()
	if err != nil {
		t.Fatal(err)
	}
	set, err := release.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := rig.Spec(set)
	if err != nil {
		t.Fatal(err)
	}
	return set, spec
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
