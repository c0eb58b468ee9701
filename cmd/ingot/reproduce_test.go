package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/imageset"
	"github.com/ingot-os/ingot/internal/inspect"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/provenance"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/sbom"
	"github.com/ingot-os/ingot/internal/source"
)

// world is everything around one build that must not reach its bytes.
type world struct {
	recipe, out, cache string
	dir                string   // working directory
	env                []string // added to the environment
	elsewhere          []string // flags of elsewhere; none = ingot runs as it is
	clone              uintptr  // namespaces of the process
	args               []string // further arguments of build
}

// build runs ingot build in its world and returns the directory of the set.
func (w *world) build(t testing.TB, f *fixture) string {
	t.Helper()
	args := append([]string{"build", "-f", w.recipe, "-o", w.out}, w.args...)
	env := append([]string{"INGOT_CACHE=" + w.cache}, w.env...)
	cmd := child(f.exe, w.dir, env, args...)
	if w.elsewhere != nil {
		cmd.Args = slices.Concat([]string{"elsewhere"}, w.elsewhere, []string{"--"}, cmd.Args[1:])
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: w.clone}
	res := finish(cmd)
	if res.code != 0 {
		t.Fatalf("ingot %s: exit %d\n%s", strings.Join(args, " "), res.code, res.stderr)
	}
	return strings.TrimSpace(res.stdout)
}

func newWorld(t testing.TB, f *fixture, recipe string) *world {
	dir := tempDir(t)
	return &world{recipe: copyOf(t, recipe), out: filepath.Join(dir, "out"), dir: dir, cache: f.clone(t)}
}

// smallDisk keeps what is hashed small: FAT32 needs 33 MiB at least, and the
// ESP holds two copies of the 24 MB boot file. The file makes modes and owners
// a part of what is compared.
const smallDisk = `
disk: {esp: 64M, slot: 64M%s}
data: {size: 16M}
files:
  - {path: /etc/motd, content: "hello", mode: "0640", owner: hello}
`

// kindOf writes a recipe beside the hello example and locks it offline.
func kindOf(t testing.TB, f *fixture, more string, edit func(dir, yaml string) string) string {
	t.Helper()
	dir := f.copyOf(t, f.hello)
	path := filepath.Join(dir, "appliance.yaml")
	yaml, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(yaml) + fmt.Sprintf(smallDisk, more)
	if edit != nil {
		text = edit(dir, text)
	}
	writeFile(t, path, text)
	relock(t, f, dir)
	return dir
}

func relock(t testing.TB, f *fixture, dir string, args ...string) {
	t.Helper()
	env := []string{"INGOT_CACHE=" + f.cache}
	if res := run1(f.exe, dir, env, append([]string{"lock", "-f", dir}, args...)...); res.code != 0 {
		t.Fatalf("lock: exit %d\n%s", res.code, res.stderr)
	}
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// digests returns the SHA-256 of every file of a set, by name.
func digests(t testing.TB, dir string) map[string]string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]string{}
	for _, e := range list {
		sums[e.Name()] = fileDigest(t, filepath.Join(dir, e.Name()))
	}
	return sums
}

func fileDigest(t testing.TB, path string) string {
	t.Helper()
	r, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// same compares two image sets and lets inspect.Compare explain what differs.
func same(t testing.TB, a, b string) {
	t.Helper()
	x, y := digests(t, a), digests(t, b)
	for _, name := range []string{release.ManifestName, sbom.CycloneDXName, provenance.FileName} {
		if x[name] == "" {
			t.Errorf("%s holds no %s", a, name)
		}
	}
	if maps.Equal(x, y) {
		return
	}
	t.Errorf("the same lock gave other bytes:\n  %v\n  %v", x, y)
	diffs, err := inspect.Compare(a, b)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range diffs {
		t.Log(d)
	}
}

// surroundings are single changes of the world, all of which must not matter.
var surroundings = []struct {
	name   string
	root   bool // needs root
	change func(t *testing.T, f *fixture, w *world)
}{
	{"nothing else", false, func(*testing.T, *fixture, *world) {}},
	{"directory", false, func(t *testing.T, f *fixture, w *world) {
		deep := filepath.Join(tempDir(t), "a b", "ü", "deep")
		if err := os.CopyFS(deep, os.DirFS(w.recipe)); err != nil {
			t.Fatal(err)
		}
		w.recipe, w.dir, w.out = "appliance.yaml", deep, "."
	}},
	{"TZ and locale", false, func(_ *testing.T, _ *fixture, w *world) {
		w.env = append(w.env, "TZ=Pacific/Kiritimati", "LANG=tr_TR.UTF-8", "LC_ALL=tr_TR.UTF-8", "LC_COLLATE=de_DE.UTF-8")
	}},
	{"umask 077", false, func(_ *testing.T, _ *fixture, w *world) { w.elsewhere = []string{"--umask", "63"} }},
	{"umask 000", false, func(_ *testing.T, _ *fixture, w *world) { w.elsewhere = []string{"--umask", "0"} }},
	{"host name", true, func(_ *testing.T, _ *fixture, w *world) {
		w.elsewhere, w.clone = []string{"--host", "another-host.example"}, syscall.CLONE_NEWUTS
	}},
	{"clock a year ahead, cold cache", false, func(t *testing.T, f *fixture, w *world) {
		w.env = append(w.env, "INGOT_TEST_CLOCK=8760h")
		w.cache, w.args = f.cold(t), []string{"--trace", filepath.Join(w.dir, "trace.json")}
		t.Cleanup(func() { clockMoved(t, filepath.Join(w.dir, "trace.json")) })
	}},
	{"SOURCE_DATE_EPOCH", false, func(_ *testing.T, _ *fixture, w *world) { w.env = append(w.env, "SOURCE_DATE_EPOCH=1") }},
	{"one processor, one worker, cold cache", false, func(t *testing.T, f *fixture, w *world) {
		w.env, w.args, w.cache = append(w.env, "GOMAXPROCS=1"), []string{"--workers", "1"}, f.cold(t)
	}},
	{"eight processors and workers", false, func(_ *testing.T, _ *fixture, w *world) {
		w.env, w.args = append(w.env, "GOMAXPROCS=8"), []string{"--workers", "8"}
	}},
	{"Go settings", false, func(t *testing.T, f *fixture, w *world) {
		noise := filepath.Join(w.dir, "goenv")
		writeFile(t, noise, "GOAMD64=v3\nGOFLAGS=-tags=noise\nCGO_ENABLED=1\n")
		w.cache = f.cold(t)
		w.env = append(w.env, "GOENV="+noise, "GOFLAGS=-trimpath=false -ldflags=-X=main.x=y", "GOAMD64=v3", "GOEXPERIMENT=none",
			"GODEBUG=http2client=0", "CGO_ENABLED=1", "GOWORK=/nonexistent", "GOOS=windows", "GOARCH=386")
	}},
	{"modes and times of a checkout", false, func(t *testing.T, _ *fixture, w *world) {
		old := time.Unix(86400, 0)
		for _, p := range []string{"appliance.yaml", "service", "service/go.mod", "service/main.go"} {
			path := filepath.Join(w.recipe, p)
			mode := os.FileMode(0o600)
			if p == "service" {
				mode = 0o700
			}
			if os.Chmod(path, mode) != nil || os.Chtimes(path, old, old) != nil {
				t.Fatal("cannot change ", path)
			}
		}
	}},
}

// clockMoved proves by the trace that the child really had another time.
func clockMoved(t *testing.T, trace string) {
	data, err := os.ReadFile(trace)
	if err != nil {
		t.Error(err)
		return
	}
	var step struct{ Start time.Time }
	if err := json.NewDecoder(strings.NewReader(string(data))).Decode(&step); err != nil {
		t.Error(err)
		return
	}
	if ahead := time.Until(step.Start); ahead < 360*24*time.Hour {
		t.Errorf("the clock of the build was %v ahead, want a year", ahead)
	}
}

// TestReproducible is promise 1 (B1, B10): the same lock gives the same bytes
// of every output in any surroundings.
func TestReproducible(t *testing.T) {
	f := warm(t)
	recipe, want := f.built(t, "plain")
	for _, s := range surroundings {
		t.Run(s.name, func(t *testing.T) {
			if s.root {
				needRoot(t)
			}
			w := newWorld(t, f, recipe)
			s.change(t, f, w)
			same(t, want, w.build(t, f))
		})
	}
}

// TestReproducibleKinds builds every shape of an image four times: as it is,
// with one worker, with eight of each after the inputs were made in another
// order, and by ingot reproduce. But for the last, kernel and modules may come
// out of the cache.
func TestReproducibleKinds(t *testing.T) {
	f := warm(t)
	for kind := range kinds {
		if kind == "plain" {
			continue // has a test of its own
		}
		t.Run(kind, func(t *testing.T) {
			recipe, want := f.built(t, kind)
			flags := f.flags(t, kind)
			one := newWorld(t, f, recipe)
			one.env = []string{"GOMAXPROCS=1", "TZ=Asia/Kathmandu", "INGOT_TEST_CLOCK=8760h"}
			one.args = append([]string{"--workers", "1"}, flags...)
			same(t, want, one.build(t, f))
			many := newWorld(t, f, recipe)
			shuffle(t, many.recipe)
			many.env, many.elsewhere = []string{"GOMAXPROCS=8", "LC_ALL=tr_TR.UTF-8"}, []string{"--umask", "63"}
			many.args = append([]string{"--workers", "8"}, flags...)
			same(t, want, many.build(t, f))
			again(t, f, recipe, want)
		})
	}
}

// again is what a stranger does: no keys, nothing derived in the cache.
func again(t *testing.T, f *fixture, recipe, set string) {
	t.Helper()
	env := []string{"INGOT_CACHE=" + f.clone(t), "INGOT_OFFLINE=1"}
	if res := run1(f.exe, tempDir(t), env, "reproduce", set, "-f", recipe); res.code != 0 || !strings.HasPrefix(res.stdout, "same: ") {
		t.Errorf("reproduce: exit %d\n%s%s", res.code, res.stdout, res.stderr)
	}
}

// kinds are the shapes of an image, each a recipe directory with its lock.
var kinds = map[string]func(t testing.TB, f *fixture) string{
	"plain": func(t testing.TB, f *fixture) string { return kindOf(t, f, "", nil) },
	"zstd": func(t testing.TB, f *fixture) string {
		return kindOf(t, f, "", func(_, y string) string { return y + "compress: zstd\n" })
	},
	"squashfs":  func(t testing.TB, f *fixture) string { return withRoot(t, f, "squashfs", 512) },
	"erofs-4Kn": func(t testing.TB, f *fixture) string { return withRoot(t, f, "erofs", 4096) },
	"busybox": func(t testing.TB, f *fixture) string {
		return kindOf(t, f, "", func(_, y string) string { return y + "uroot: [ls, cat]\n" })
	},
	"arm64":            arm64,
	"everything":       everything,
	"signed with SPDX": func(t testing.TB, f *fixture) string { return kindOf(t, f, "", nil) },
	"every format": func(t testing.TB, f *fixture) string {
		var names []string
		for _, format := range imageset.Formats {
			names = append(names, format.Name)
		}
		if len(names) == 0 {
			t.Fatal("there are no further formats")
		}
		return kindOf(t, f, "", func(_, y string) string { return y + "outputs: [" + strings.Join(names, ", ") + "]\n" })
	},
}

// flags are what build needs for a kind beside the recipe: keys are made once,
// all else that is in their signatures is not random.
func (f *fixture) flags(t testing.TB, kind string) []string {
	t.Helper()
	if kind != "signed with SPDX" {
		return nil
	}
	dir := filepath.Join(f.root, "keys")
	if _, err := os.Stat(dir); err != nil {
		if res := run1(f.exe, f.root, nil, "keys", "init", "--test", dir); res.code != 0 {
			t.Fatalf("make keys: %s", res.stderr)
		}
	}
	return []string{"--keys", dir, "--sbom", "spdx"}
}

// built returns the recipe and the image set of a kind, built once in a
// process and not to be changed.
func (f *fixture) built(t testing.TB, kind string) (recipe, set string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	p, ok := f.products[kind]
	if !ok {
		p.recipe = kinds[kind](t, f)
		w := newWorld(t, f, p.recipe)
		w.out, w.args = filepath.Join(f.root, "sets", kind), f.flags(t, kind)
		p.set = w.build(t, f)
		f.products[kind] = p
	}
	return p.recipe, p.set
}

// withRoot is an image with a root payload out of a directory. A build with
// another payload leaves the kernel's modules for it in the shared cache.
func withRoot(t testing.TB, f *fixture, format string, sector int) string {
	t.Helper()
	more := fmt.Sprintf(", root: 16M, sector: %d", sector)
	dir := kindOf(t, f, more, func(dir, y string) string {
		writeFile(t, filepath.Join(dir, "rootfs/other"), "payload")
		if err := f.pinTrust(dir); err != nil {
			t.Fatal(err)
		}
		return y + "root: {directory: ./rootfs, format: " + format + "}\n"
	})
	warmUp := newWorld(t, f, dir)
	warmUp.cache = f.cache
	os.RemoveAll(warmUp.build(t, f))
	os.RemoveAll(filepath.Join(dir, "rootfs"))
	rootfs(t, filepath.Join(dir, "rootfs"), 7)
	relock(t, f, dir)
	return dir
}

// rootfs makes a directory tree of a few hundred entries in the order that
// seed gives: what a file system lists first depends on that.
func rootfs(t testing.TB, dir string, seed uint64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	for _, i := range rng.Perm(300) {
		content := strings.Repeat(fmt.Sprintf("line %d of a text that compresses\n", i), i*i%977)
		path := filepath.Join(dir, fmt.Sprintf("usr/share/d%d/f%03d", i%7, i))
		writeFile(t, path, content)
		if i%5 == 0 {
			if err := errors.Join(os.Chmod(path, 0o755), os.Symlink("../d1/f001", path+".link")); err != nil {
				t.Fatal(err)
			}
		}
	}
	noise := make([]byte, 700_000)
	for i, c := 0, rand.New(rand.NewPCG(1, 1)); i < len(noise); i++ {
		noise[i] = byte(c.Uint32())
	}
	writeFile(t, filepath.Join(dir, "usr/lib/noise"), string(noise))
	if err := os.MkdirAll(filepath.Join(dir, "var/empty"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// shuffle makes the files of a root payload anew in another order.
func shuffle(t testing.TB, recipe string) {
	t.Helper()
	dir := filepath.Join(recipe, "rootfs")
	if _, err := os.Stat(dir); err != nil {
		return
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	rootfs(t, dir, 8)
}

// arm64 is an image for the other architecture, without Go code. Its kernel is
// a download of its own (30 MB), so the kind is left out without a network.
func arm64(t testing.TB, f *fixture) string {
	dir := f.copyOf(t, "testdata/arm64")
	switch err := f.fetchLocked(dir, "ingot"); {
	case errors.Is(err, source.ErrOffline):
		oracle.Missing(t, "%v", err)
	case err != nil:
		t.Fatal(err)
	}
	warmUp := newWorld(t, f, dir)
	warmUp.cache = f.cache
	os.RemoveAll(warmUp.build(t, f))
	return dir
}
