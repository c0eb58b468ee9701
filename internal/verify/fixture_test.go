package verify_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/boot/authenticode"
	"github.com/ingot-os/ingot/internal/build"
	"github.com/ingot-os/ingot/internal/build/buildtest"
	"github.com/ingot-os/ingot/internal/imageset"
	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/signing"
	"github.com/ingot-os/ingot/internal/verify"
)

var (
	ctx = context.Background()
	now = time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC)
)

// ours and theirs are two TEST key sets that no test changes.
var ours, theirs string

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	flag.Parse()
	if w := flag.Lookup("test.fuzzworker"); w != nil && w.Value.String() == "true" {
		return m.Run() // fuzz targets use no keys, and making them takes long
	}
	dir, err := os.MkdirTemp("", "verify")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	ours, theirs = filepath.Join(dir, "ours"), filepath.Join(dir, "theirs")
	for name, set := range map[string]string{"acme": ours, "other": theirs} {
		if _, err := keys.Init(ctx, set, keys.Options{Name: name, Test: true, Now: now, Rand: rand.Reader}); err != nil {
			panic(err)
		}
	}
	return m.Run()
}

func open(t testing.TB, dir string) *keys.Set {
	t.Helper()
	s, err := keys.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func authority(t testing.TB, dir string) *signing.Authority {
	t.Helper()
	a, err := signing.New(ctx, open(t, dir), signing.Options{Environment: "dev", Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// full is a recipe with all that a set can have: a root with a hard link, a
// data partition, another EFI program, files of an owner and a mode.
const full = `root: {directory: ./rootfs}
files:
  - {path: /etc/note, content: hello}
  - {path: /etc/link, symlink: note}
boot:
  entries:
    - {title: Tool, efi: /EFI/tool/tool.efi, source: ./tool.efi}
`

// fixture is the appliance that most tests verify.
func fixture(t testing.TB, recipe string) *buildtest.Appliance {
	t.Helper()
	a := buildtest.New(t, recipe)
	a.File("tool.efi", string(buildtest.Kernel()), 0o644)
	a.File("rootfs/etc/motd", "welcome\n", 0o644)
	a.File("rootfs/bin/big", strings.Repeat("0123456789abcdef", 30000), 0o755)
	a.File("rootfs.tar", string(linked(t)), 0o644)
	return a
}

// linked is a tar archive with a file of three names, the first of which is not
// the least.
func linked(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "m", Typeflag: tar.TypeReg, Size: 5, Mode: 0o644}, {Name: "a", Typeflag: tar.TypeLink, Linkname: "m", Mode: 0o644},
		{Name: "z", Typeflag: tar.TypeLink, Linkname: "m", Mode: 0o644},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// makeSet builds the appliance, without signatures when a is nil.
func makeSet(t testing.TB, app *buildtest.Appliance, a imageset.Authority) *release.Set {
	t.Helper()
	r, l, f := app.Locked()
	o := build.Options{Recipe: r, Lock: l, Fetcher: f, Out: filepath.Join(t.TempDir(), "out"), Version: "0.0.0-test", Authority: a, SPDX: true}
	res, err := build.Build(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	return res.Set
}

// trust is the trust in key sets.
func trust(t testing.TB, dirs ...string) verify.Trust {
	t.Helper()
	tr, err := verify.LoadTrust(dirs...)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func run(t testing.TB, o verify.Options) *verify.Report {
	t.Helper()
	r, err := verify.Run(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// text is all refusals, one on a line, as "check code file/path@offset".
func text(r *verify.Report) string {
	var b strings.Builder
	for _, x := range r.Refusals {
		fmt.Fprintf(&b, "%s %s %s", x.Check, x.Code, strings.Join(append([]string{x.Place.File}, x.Place.Path...), " → "))
		if x.Place.Offset != nil {
			fmt.Fprintf(&b, " @%d", *x.Place.Offset)
		}
		fmt.Fprintf(&b, " want %q got %q %s\n", x.Want, x.Got, x.Cause)
	}
	return b.String()
}

// accepted fails the test unless the report has no refusal.
func accepted(t testing.TB, r *verify.Report, want verify.Verdict) {
	t.Helper()
	if r.Verdict != want {
		t.Errorf("verdict %s, want %s\n%s", r.Verdict, want, text(r))
	}
}

// refused fails the test unless a refusal has the code, at a place that holds
// the words.
func refused(t testing.TB, r *verify.Report, code verify.Code, place string) {
	t.Helper()
	if r.Verdict != verify.Refused {
		t.Errorf("verdict %s, want refused with %s", r.Verdict, code)
	}
	for _, x := range r.Refusals {
		if x.Code == code && strings.Contains(strings.Join(append([]string{x.Place.File}, x.Place.Path...), " → "), place) {
			return
		}
	}
	t.Errorf("no refusal %s at %q:\n%s", code, place, text(r))
}

// boots signs boot files with one authority and manifests with another.
type boots struct{ boot, manifest imageset.Authority }

func (b boots) Boot(file string, req authenticode.Request) ([]byte, error) {
	return b.boot.Boot(file, req)
}
func (b boots) Policy(w imageset.Approval) ([]byte, error) { return b.boot.Policy(w) }
func (b boots) Manifest(payload []byte) ([]byte, error)    { return b.manifest.Manifest(payload) }

// sectionOf is a partition of an image.
func sectionOf(f *os.File, p release.Partition) *io.SectionReader {
	return io.NewSectionReader(f, p.Start, p.Size)
}
