package inspect_test

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/ingot-os/ingot/internal/build"
	"github.com/ingot-os/ingot/internal/build/buildtest"
	"github.com/ingot-os/ingot/internal/release"
)

// recipeText is the appliance that all tests here look at and change.
const recipeText = `cmdline: [quiet]
users: [{name: web, uid: 1000}]
files:
  - {path: /etc/inline, content: "text\n"}
  - {path: /etc/script, content: "#!/bin/run\n", mode: "0755", owner: web}
  - {path: /bin/run, source: ./run, mode: "0755"}
services: [{name: one, command: /bin/run, args: [a]}]
root: {directory: ./rootfs}
`

// appliance writes the recipe directory after edit has changed its text.
func appliance(t testing.TB, edit func(yaml string) string) *buildtest.Appliance {
	t.Helper()
	text := recipeText
	if edit != nil {
		text = edit(text)
	}
	a := buildtest.New(t, text)
	const kernel = "modules/6.12.0-tiny/"
	a.File("run", string(buildtest.Program()), 0o755)
	a.File("rootfs/bin/tool", strings.Repeat("tool ", 1000), 0o755)
	a.File("rootfs/etc/motd", "hello\n", 0o644)
	a.File(kernel+"modules.builtin", "kernel/efivarfs.ko\nkernel/button.ko\nkernel/dm_mod.ko\nkernel/dm_verity.ko\nkernel/squashfs.ko\nkernel/erofs.ko\nkernel/overlay.ko\nkernel/loop.ko\n", 0o644)
	a.File(kernel+"kernel/one.ko", string(buildtest.Module("one", "", "note")), 0o644)
	return a
}

// make builds the appliance after a change of its directory.
func make1(t testing.TB, edit func(yaml string) string, change func(a *buildtest.Appliance)) *release.Set {
	t.Helper()
	a := appliance(t, edit)
	path := filepath.Join(a.Dir, "appliance.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	a.File("appliance.yaml", strings.Replace(string(text), "kernel: {file: ./vmlinuz}", "kernel: {file: ./vmlinuz, modules: ./modules/6.12.0-tiny}\nmodules: [one]", 1), 0o644)
	if change != nil {
		change(a)
	}
	r, l, f := a.Locked()
	res, err := build.Build(context.Background(), build.Options{Recipe: r, Lock: l, Fetcher: f, Out: a.Out, Version: "0.0.0-test"})
	if err != nil {
		t.Fatal(err)
	}
	return res.Set
}

var (
	baseOnce sync.Once
	baseDir  string
)

// base is the image set that others are compared with. It is not changed.
func base(t testing.TB) *release.Set {
	t.Helper()
	baseOnce.Do(func() {
		dir, err := os.MkdirTemp("", "ingot-inspect-")
		if err != nil {
			t.Fatal(err)
		}
		set := make1(t, nil, nil)
		if err := os.CopyFS(filepath.Join(dir, set.Manifest.Stem()), os.DirFS(set.Dir)); err != nil {
			t.Fatal(err)
		}
		baseDir = filepath.Join(dir, set.Manifest.Stem())
	})
	if baseDir == "" {
		t.Skip("no image to compare with: see the first test")
	}
	set, err := release.Open(baseDir)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if baseDir != "" {
		os.RemoveAll(filepath.Dir(baseDir))
	}
	os.Exit(code)
}

// volatile is what changes with every build of ingot-init: digests, sizes and
// places of what holds it.
var volatile = []struct {
	is  *regexp.Regexp
	has string
}{
	{regexp.MustCompile(`\b[0-9a-f]{96}\b`), "<sha384>"},
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "<sha256>"},
	{regexp.MustCompile(`\b0x[0-9a-f]{5,}\b`), "<address>"},
	{regexp.MustCompile(`\b\d{5,}\b`), "<number>"},
}

func mask(text string) string {
	for _, v := range volatile {
		text = v.is.ReplaceAllString(text, v.has)
	}
	return text
}
