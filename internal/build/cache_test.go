package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/build/buildtest"
	"github.com/ingot-os/ingot/internal/inspect"
	"github.com/ingot-os/ingot/internal/sparse"
)

// edited is what the property test edits. Every field takes one of a few
// values, so that a sequence of edits comes back to what it had.
type edited struct {
	version, compress, root    string
	words, modules, services   int
	content, mode, owner       int
	source, exec, tree         int
	treeExec, payload, modNote int
}

// edits are the single steps.
var edits = []struct {
	name string
	do   func(a *edited, n int)
}{
	{"version", func(a *edited, n int) { a.version = fmt.Sprintf("1.0.%d", n) }},
	{"compression", func(a *edited, n int) { a.compress = []string{"none", "zstd", "none"}[n] }},
	{"root payload", func(a *edited, n int) { a.root = []string{"", "squashfs", "erofs"}[n] }},
	{"command line", func(a *edited, n int) { a.words = n }},
	{"module list", func(a *edited, n int) { a.modules = n }},
	{"service", func(a *edited, n int) { a.services = n }},
	{"file content", func(a *edited, n int) { a.content = n }},
	{"file mode", func(a *edited, n int) { a.mode = n }},
	{"file owner", func(a *edited, n int) { a.owner = n }},
	{"local file", func(a *edited, n int) { a.source = n }},
	{"execute bit of a local file", func(a *edited, n int) { a.exec = n }},
	{"local directory", func(a *edited, n int) { a.tree = n }},
	{"execute bit in a local directory", func(a *edited, n int) { a.treeExec = n }},
	{"content of the root payload", func(a *edited, n int) { a.payload = n }},
	{"content of a module", func(a *edited, n int) { a.modNote = n }},
}

// bits is a mode whose execute bits depend on n, as a careless checkout has it.
func bits(n int) os.FileMode { return []os.FileMode{0o644, 0o755, 0o654}[n] }

// write puts the appliance into a recipe directory.
func (a *edited) write(b *bench) {
	b.File("local.txt", strings.Repeat("local\n", 1+a.source), bits(a.exec))
	b.File("run", string(buildtest.Program()), 0o755)
	b.File("tree/fixed", "fixed", 0o600)
	b.File("tree/script", fmt.Sprint("script ", a.tree), bits(a.treeExec))
	os.Remove(filepath.Join(b.Dir, "tree/extra"))
	if a.tree == 2 {
		b.File("tree/extra", "", 0o644)
	}
	b.File("rootfs/etc/version", fmt.Sprint(a.payload), 0o644)
	b.File("rootfs/bin/program", strings.Repeat("program", 3000), 0o755)
	const kernel = "modules/6.12.0-tiny/"
	b.File(kernel+"modules.builtin", "kernel/efivarfs.ko\nkernel/button.ko\nkernel/dm_mod.ko\nkernel/dm_verity.ko\nkernel/squashfs.ko\nkernel/erofs.ko\nkernel/overlay.ko\nkernel/loop.ko\n", 0o644)
	b.File(kernel+"modules.order", "kernel/one.ko\nkernel/two.ko\n", 0o644)
	b.File(kernel+"kernel/one.ko", string(buildtest.Module("one", "", fmt.Sprint(a.modNote))), 0o644)
	b.File(kernel+"kernel/two.ko", string(buildtest.Module("two", "one", "")), 0o644)
	b.Recipe(a.recipe())
	path := filepath.Join(b.Dir, "appliance.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		b.tb.Fatal(err)
	}
	yaml := strings.Replace(string(text), "version: 1.0.0", "version: "+a.version, 1)
	yaml = strings.Replace(yaml, "kernel: {file: ./vmlinuz}", "kernel: {file: ./vmlinuz, modules: ./"+kernel+"}", 1)
	b.File("appliance.yaml", yaml, 0o644)
}

func (a *edited) recipe() string {
	var s strings.Builder
	fmt.Fprintf(&s, "compress: %s\ncmdline: [%s]\n", a.compress, []string{"quiet", "quiet, splash=no", "loglevel=7"}[a.words])
	fmt.Fprintf(&s, "modules: [%s]\n", []string{"one", "two", "one, two"}[a.modules])
	fmt.Fprintf(&s, "users: [{name: web, uid: 1000}]\nfiles:\n")
	fmt.Fprintf(&s, "  - {path: /etc/inline, content: %q, mode: \"%s\", owner: \"%s\"}\n",
		strings.Repeat("x", a.content), []string{"0644", "0600", "0755"}[a.mode], []string{"root", "web", "7:8"}[a.owner])
	fmt.Fprintf(&s, "  - {path: /etc/local, source: ./local.txt}\n  - {path: /opt/tree, source: ./tree}\n  - {path: /bin/run, source: ./run, mode: \"0755\"}\n")
	if a.services > 0 {
		fmt.Fprintf(&s, "services: [{name: one, command: /bin/run, args: [\"%d\"]}]\n", a.services)
	}
	if a.root != "" {
		fmt.Fprintf(&s, "root: {directory: ./rootfs, format: %s}\n", a.root)
	}
	return s.String()
}

// TestCacheIsNeverWrong (B11) makes random edits to a recipe and its local
// files. After each, a build with everything that earlier builds left behind
// gives the bytes of a build from nothing. INGOT_CACHE_STEPS sets how many.
func TestCacheIsNeverWrong(t *testing.T) {
	steps := 60
	if s := os.Getenv("INGOT_CACHE_STEPS"); s != "" {
		var err error
		if steps, err = strconv.Atoi(s); err != nil {
			t.Fatalf("INGOT_CACHE_STEPS: %v", err)
		}
	} else if testing.Short() {
		steps = 15
	}
	b := newBench(t, "")
	a := &edited{version: "1.0.0", compress: "none"}
	rng := rand.New(rand.NewPCG(11, uint64(steps)))
	var history []string
	unchanged := 0
	for range steps {
		for range 1 + rng.IntN(2) {
			e, n := edits[rng.IntN(len(edits))], rng.IntN(3)
			e.do(a, n)
			history = append(history, fmt.Sprintf("%s=%d", e.name, n))
		}
		a.write(b)
		o := b.options()
		cached := make(chan *Result, 1)
		go func() {
			defer close(cached)
			res, err := Build(context.Background(), o)
			if err != nil {
				t.Errorf("cached build after %v: %v", history, err)
			}
			cached <- res
		}()
		clean := b.clean(o)
		res := <-cached
		if res == nil {
			t.FailNow()
		}
		if res.Unchanged {
			unchanged++
		}
		if !sameSet(t, res.Set.Dir, clean) {
			explain(t, res.Set.Dir, clean)
			t.Fatalf("the cached build differs from the clean one after %s", strings.Join(history, ", "))
		}
		os.RemoveAll(filepath.Dir(clean))
	}
	t.Logf("%d builds, %d of them found nothing to do", steps, unchanged)
}

// clean builds with an empty cache into an empty directory.
func (b *bench) clean(o Options) string {
	b.tb.Helper()
	dir := b.tb.TempDir()
	o.Out = dir
	o.Fetcher = b.Fetcher(filepath.Join(dir, "cache"))
	res, err := Build(context.Background(), o)
	if err != nil {
		b.tb.Errorf("clean build: %v", err)
		return dir
	}
	return res.Set.Dir
}

// sameSet compares the files of two sets byte by byte.
func sameSet(t *testing.T, a, b string) bool {
	t.Helper()
	if names(t, a) != names(t, b) {
		t.Logf("%s holds %s, %s holds %s", a, names(t, a), b, names(t, b))
		return false
	}
	for _, name := range strings.Fields(names(t, a)) {
		if !sameFile(t, filepath.Join(a, name), filepath.Join(b, name)) {
			return false
		}
	}
	return true
}

// sameFile compares where either file has data; holes read as zeros.
func sameFile(t *testing.T, a, b string) bool {
	t.Helper()
	x, errX := os.Open(a)
	y, errY := os.Open(b)
	if err := errors.Join(errX, errY); err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	defer y.Close()
	i, errX := x.Stat()
	j, errY := y.Stat()
	if errX != nil || errY != nil || i.Size() != j.Size() {
		return false
	}
	one, errX := sparse.Data(x, 0, i.Size())
	two, errY := sparse.Data(y, 0, i.Size())
	if err := errors.Join(errX, errY); err != nil {
		t.Fatal(err)
	}
	for _, r := range append(one, two...) {
		p, q := make([]byte, r.End-r.Off), make([]byte, r.End-r.Off)
		_, errX := x.ReadAt(p, r.Off)
		_, errY := y.ReadAt(q, r.Off)
		if err := errors.Join(errX, errY); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(p, q) {
			return false
		}
	}
	return true
}

// explain logs what diff says about two sets.
func explain(t *testing.T, a, b string) {
	t.Helper()
	diffs, err := inspect.Compare(a, b)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range diffs {
		t.Log(d)
	}
}

// TestDamagedCache: whatever happens to a cache, a build gives the right bytes.
func TestDamagedCache(t *testing.T) {
	a := &edited{version: "1.0.0", compress: "none", root: "squashfs"}
	b := newBench(t, "")
	a.write(b)
	want := digestsOf(t, b.build().Set.Dir)
	check := func(name string) {
		t.Helper()
		os.RemoveAll(b.Out)
		if got := digestsOf(t, b.build().Set.Dir); !maps.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	flip := func(p string, old []byte) error { old[len(old)/2] ^= 1; return replace(p, old) }
	for _, path := range cacheFiles(t, b.Cache) {
		damage(t, path, flip)
		check("flipped bit in " + path)
	}
	for name, harm := range map[string]func(path string, old []byte) error{
		"truncated": func(p string, old []byte) error { return replace(p, old[:len(old)/2]) },
		"empty":     func(p string, _ []byte) error { return replace(p, nil) },
		"zeroed":    func(p string, old []byte) error { return replace(p, make([]byte, len(old))) },
		"removed":   func(p string, _ []byte) error { return os.Remove(p) },
	} {
		for _, path := range cacheFiles(t, b.Cache) {
			damage(t, path, harm)
		}
		check("everything " + name)
	}
}

func damage(t *testing.T, path string, harm func(path string, old []byte) error) {
	t.Helper()
	old, err := os.ReadFile(path)
	if err == nil {
		err = harm(path, old)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // a repaired cache need not have every old file
		t.Fatal(err)
	}
}

func replace(path string, content []byte) error {
	return errors.Join(os.Remove(path), os.WriteFile(path, content, 0o444))
}

// cacheFiles lists the entries and records of a cache.
func cacheFiles(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	for _, pattern := range []string{"sha256/*/*", "derived/*/*", "sets/*"} {
		list, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, list...)
	}
	if len(out) < 4 {
		t.Fatalf("the cache holds %v only", out)
	}
	return out
}

// TestExecuteBits: the mode of a local file in the image is the one in the
// lock, whichever execute bits the checkout has.
func TestExecuteBits(t *testing.T) {
	a := &edited{version: "1.0.0", compress: "none", exec: 1, treeExec: 1}
	b := newBench(t, "")
	a.write(b)
	want := digestsOf(t, b.build().Set.Dir)
	a.exec, a.treeExec = 2, 2 // 0654 counts as executable too
	a.write(b)
	if got := digestsOf(t, b.build().Set.Dir); !maps.Equal(got, want) {
		t.Errorf("execute bits for some give other bytes than for all: %v, want %v", got, want)
	}
}
