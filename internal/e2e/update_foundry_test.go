package e2e

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/signing"
	"github.com/ingot-os/ingot/partition"
)

// foundry is where the releases of one appliance are made: testdata/update, built in
// many ways, all signed by one fleet.
type foundry struct {
	dir, keys string
	base      string // edits that all its releases have
	mu        sync.Mutex
	sets      map[string]*release.Set
}

// newFoundry makes keys and a recipe that trusts them. edits are as those of
// variant.
func newFoundry(t *testing.T, edits string) *foundry {
	t.Helper()
	return foundryAt(t, t.TempDir(), edits)
}

func foundryAt(t *testing.T, dir, edits string) *foundry {
	t.Helper()
	f := &foundry{dir: dir, base: edits, sets: map[string]*release.Set{}}
	f.keys = f.file("own")
	if err := os.CopyFS(f.dir, os.DirFS("testdata/update")); err != nil {
		t.Fatal(err)
	}
	must(t, "keys", "init", f.keys, "--test", "--name", "own")
	must(t, "keys", "export", f.keys, f.file("trust"))
	return f
}

func (f *foundry) file(name string) string { return filepath.Join(f.dir, name) }

// recipe is one release that is to be built.
type recipe struct {
	version string
	edits   string // of the recipe, as those of variant
	program string // that builds it; the one under test when empty
	keys    string // that sign it; the fleet's own when empty
}

// release builds one release, with its edits on top of the foundry's.
func (f *foundry) release(t *testing.T, version, edits string) *release.Set {
	t.Helper()
	return f.build(t, recipe{version: version, edits: edits})
}

func (f *foundry) build(t *testing.T, r recipe) *release.Set {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if set := f.sets[r.version]; set != nil {
		return set
	}
	file := f.file(r.version + ".yaml")
	b, err := os.ReadFile(f.file("appliance.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(b), "1.0.0", r.version)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	edit(t, file, f.base)
	edit(t, file, r.edits)
	if r.program == "" {
		if r.program, err = program(); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"lock", "-f", file},
		{"build", "-f", file, "-o", f.file("out-" + r.version), "--keys", cmp.Or(r.keys, f.keys)},
	} {
		if a := call(t, r.program, args...); a.code != 0 {
			t.Fatalf("ingot %v: %s", args, a.stderr)
		}
	}
	set, err := release.Open(f.file("out-" + r.version + "/tally-" + r.version))
	if err != nil {
		t.Fatal(err)
	}
	f.sets[r.version] = set
	return set
}

// forged is a copy of a release whose disk image is changed and whose manifest
// says so, signed by the fleet: what a broken builder with good keys publishes.
func (f *foundry) forged(t *testing.T, from *release.Set, change func(img *os.File)) *release.Set {
	t.Helper()
	dir := filepath.Join(t.TempDir(), filepath.Base(from.Dir))
	if err := os.CopyFS(dir, os.DirFS(from.Dir)); err != nil {
		t.Fatal(err)
	}
	set, err := release.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	img, err := os.OpenFile(set.Image(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	if change != nil {
		change(img)
	}
	for i, p := range set.Manifest.Disk.Partitions {
		set.Manifest.Disk.Partitions[i].SHA256 = sum(t, io.NewSectionReader(img, p.Start, p.Size))
	}
	for i, file := range set.Manifest.Files {
		if file.Name == filepath.Base(set.Image()) {
			set.Manifest.Files[i].SHA256 = sum(t, io.NewSectionReader(img, 0, file.Size))
		}
	}
	f.sign(t, set)
	return set
}

// sign writes the manifest of a set as it is now, and signs it.
func (f *foundry) sign(t *testing.T, set *release.Set) {
	t.Helper()
	payload, err := set.Manifest.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	own, err := keys.Open(f.keys)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := signing.New(t.Context(), own, signing.Options{Environment: "test", Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := authority.Manifest(payload)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{release.ManifestName: payload, release.EnvelopeName: envelope} {
		if err := os.WriteFile(filepath.Join(set.Dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func sum(t *testing.T, r io.Reader) string {
	t.Helper()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// rot changes bits of a partition of an image, at an offset in it.
func rot(t *testing.T, img *os.File, role string, off int64) {
	t.Helper()
	p := part(t, img, role)
	var b [1]byte
	if _, err := img.ReadAt(b[:], p.Start+off); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x55
	if _, err := img.WriteAt(b[:], p.Start+off); err != nil {
		t.Fatal(err)
	}
}

// part finds a partition of a disk by its role.
func part(t *testing.T, disk *os.File, role string) partition.Part {
	t.Helper()
	info, err := disk.Stat()
	if err != nil {
		t.Fatal(err)
	}
	l, err := partition.Read(disk, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	p, ok := l.Part(role)
	if !ok {
		t.Fatalf("the disk has no partition %s", role)
	}
	return p
}
