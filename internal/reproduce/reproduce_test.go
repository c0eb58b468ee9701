package reproduce_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/attest/policy"
	"github.com/ingot-os/ingot/internal/build"
	"github.com/ingot-os/ingot/internal/build/buildtest"
	"github.com/ingot-os/ingot/internal/imageset"
	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/provenance"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/reproduce"
	"github.com/ingot-os/ingot/internal/signing"
	"github.com/ingot-os/ingot/partition/tree"
)

const toolVersion = "0.0.0-test"

// released builds an appliance as its maker does.
func released(t *testing.T, a *buildtest.Appliance, change func(*build.Options)) *release.Set {
	t.Helper()
	r, l, f := a.Locked()
	o := build.Options{Recipe: r, Lock: l, Fetcher: f, Out: t.TempDir(), Version: toolVersion}
	if change != nil {
		change(&o)
	}
	res, err := build.Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return res.Set
}

// tool is a recipe with an unsigned EFI program on the ESP beside the UKI.
func tool(t *testing.T) *buildtest.Appliance {
	a := buildtest.New(t, "boot:\n  entries:\n    - {title: Tool, efi: /EFI/tool/tool.efi, source: ./tool.efi}\n")
	a.File("tool.efi", string(buildtest.Kernel()), 0o644)
	return a
}

func authority(t *testing.T) *signing.Authority {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "keys")
	now := time.Date(2026, 3, 14, 0, 0, 0, 0, time.UTC)
	set, err := keys.Init(context.Background(), dir, keys.Options{Name: "acme", Test: true, Now: now, Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	a, err := signing.New(context.Background(), set, signing.Options{Environment: "dev", Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestSame: unsigned and signed sets come out the same, with all documents,
// without a key.
func TestSame(t *testing.T) {
	for name, change := range map[string]func(*build.Options){
		"unsigned": nil,
		"SPDX":     func(o *build.Options) { o.SPDX = true },
		"signed":   func(o *build.Options) { o.Authority = authority(t) },
	} {
		t.Run(name, func(t *testing.T) {
			a := tool(t)
			set := released(t, a, change)
			r := reproduced(t, a, set)
			if !r.Same || len(r.Causes) > 0 || r.Unsigned {
				t.Fatalf("%+v", r)
			}
			want := len(set.Manifest.Files) + 1
			if _, err := os.Stat(filepath.Join(set.Dir, release.EnvelopeName)); err == nil {
				want++
			}
			if len(r.Files) != want {
				t.Errorf("%d files compared, the set has %d", len(r.Files), want)
			}
			for _, f := range r.Files {
				if !f.Same || f.Released == "" || f.Released != f.Rebuilt {
					t.Errorf("%+v", f)
				}
			}
		})
	}
}

// TestSealed: the policy signatures come from the release, too; one that does
// not hold is not taken, and the file is then what differs.
func TestSealed(t *testing.T) {
	a, dir := buildtest.New(t, ""), filepath.Join(t.TempDir(), "keys")
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	own, err := keys.Init(t.Context(), dir, keys.Options{Name: "acme", Test: true, Now: now, Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := own.Export(t.Context(), filepath.Join(a.Dir, "trust")); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(a.Dir, "appliance.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	a.File("appliance.yaml", strings.Replace(string(text), "data: {disabled: true}\n", "data: {encrypt: tpm}\ntrust: {keys: ./trust}\nsecurityEpoch: 3\n", 1), 0o644)
	by, err := signing.New(t.Context(), own, signing.Options{Environment: "dev", Now: now})
	if err != nil {
		t.Fatal(err)
	}
	set := released(t, a, func(o *build.Options) { o.Authority = by })
	if r := reproduced(t, a, set); !r.Same || r.Unsigned {
		t.Errorf("%+v", r.Causes)
	}
	path := filepath.Join(set.Dir, set.Manifest.Stem()+release.PolicySuffix)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := policy.ParseFile(data)
	if err != nil {
		t.Fatal(err)
	}
	f.Policies[2].Signature[0] ^= 1
	if data, err = f.Bytes(); err == nil {
		err = os.WriteFile(path, data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	if r := reproduced(t, a, set); r.Same || !r.Unsigned || !strings.Contains(fmt.Sprint(r.Causes), release.PolicySuffix) {
		t.Errorf("a signature that does not hold: unsigned %v, %v", r.Unsigned, r.Causes)
	}
}

// TestSignedFault: what was signed is not what the sources give. The cause is
// named although no signature fits.
func TestSignedFault(t *testing.T) {
	a := tool(t)
	r := reproduced(t, a, stamped(t, released(t, a, nil)))
	want := "PE time stamp: disk tiny-1.0.0.img → partition 1 esp → fat esp → file EFI/BOOT/BOOTX64.EFI → pe EFI/BOOT/BOOTX64.EFI: time date stamp: 1, 0"
	if r.Same || !r.Unsigned || len(r.Causes) == 0 || r.Causes[0].String() != want {
		t.Errorf("got %v, want first\n  %s", r.Causes, want)
	}
	for _, c := range r.Causes {
		if c.Kind == "signature" {
			t.Errorf("a missing signature is no cause: %s", c)
		}
	}
}

// stamped makes a signed set out of an unsigned one whose UKI gets a time stamp
// before it is signed, as a builder with that fault would.
func stamped(t *testing.T, set *release.Set) *release.Set {
	t.Helper()
	dir := t.TempDir()
	d, done, err := imageset.Load(set, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	image, err := os.ReadFile(set.UKI())
	if err != nil {
		t.Fatal(err)
	}
	image[0x288] = 1 // TimeDateStamp of buildtest's stub
	path := filepath.Join(dir, filepath.Base(set.UKI()))
	if err := errors.Join(os.Remove(path), os.WriteFile(path, image, 0o644)); err != nil {
		t.Fatal(err)
	}
	was := d.UKI
	if d.UKI, err = imageset.NewBootFile(path); err != nil {
		t.Fatal(err)
	}
	for _, n := range append(d.ESP.Nodes(), d.Slot.Nodes()...) {
		if n.Content == tree.Blob(was) {
			n.Content = d.UKI
		}
	}
	by := authority(t)
	if err := d.Sign(by); err != nil {
		t.Fatal(err)
	}
	if _, err := d.WriteImage(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.WriteReference(), d.WriteDocuments(by)); err != nil {
		t.Fatal(err)
	}
	if set, err = release.Open(dir); err != nil {
		t.Fatal(err)
	}
	return set
}

// TestTampered: a byte of a signed release was changed afterwards. The
// signature fits the rebuilt file, so only the byte differs.
func TestTampered(t *testing.T) {
	a := tool(t)
	set := released(t, a, func(o *build.Options) { o.Authority = authority(t) })
	f, err := os.OpenFile(set.UKI(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, 1500); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b, 1500); err != nil {
		t.Fatal(err)
	}
	r := reproduced(t, a, set)
	if want := "padding: pe tiny-1.0.0.efi → padding after headers: byte 1500: 0x01, 0x00"; r.Same || r.Unsigned || len(r.Causes) != 1 || r.Causes[0].String() != want {
		t.Errorf("got %+v, want only %s", r, want)
	}
}

// TestMismatch: what is here is not what the release was made of. The error
// names it, the hint says what to do, nothing is built.
func TestMismatch(t *testing.T) {
	a := tool(t)
	set := released(t, a, nil)
	edit := func(old, new string) func(*testing.T, *reproduce.Options) {
		return func(t *testing.T, o *reproduce.Options) {
			b := tool(t)
			text, err := os.ReadFile(filepath.Join(b.Dir, "appliance.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(text), old) {
				t.Fatalf("no %q in the recipe", old)
			}
			b.File("appliance.yaml", strings.Replace(string(text), old, new, 1), 0o644)
			o.Recipe, o.Lock, o.Fetcher = b.Locked()
		}
	}
	for _, tt := range []struct {
		name   string
		change func(*testing.T, *reproduce.Options)
		want   []string // what differs
		hint   string
	}{
		{"recipe and its lock", edit("version: 1.0.0", "version: 1.0.1"), []string{"recipe", "lock", "version"}, "check out the recipe and the lock of tiny-1.0.0"},
		{"recipe only", func(t *testing.T, o *reproduce.Options) {
			was := o.Lock
			edit("title: Tool", "title: Other")(t, o)
			o.Lock = was
		}, []string{"recipe"}, "check out"},
		{"input", func(t *testing.T, o *reproduce.Options) {
			b := tool(t)
			b.File("tool.efi", string(buildtest.Stub(t)), 0o644)
			o.Recipe, o.Lock, o.Fetcher = b.Locked()
		}, []string{"lock", "input boot/EFI/tool/tool.efi"}, "check out"},
		{"input more", func(t *testing.T, o *reproduce.Options) {
			b := tool(t)
			b.File("motd", "hello", 0o644)
			text, _ := os.ReadFile(filepath.Join(b.Dir, "appliance.yaml"))
			b.File("appliance.yaml", string(text)+"files: [{path: /etc/motd, source: ./motd}]\n", 0o644)
			o.Recipe, o.Lock, o.Fetcher = b.Locked()
		}, []string{"recipe", "lock", "input file/etc/motd"}, "check out"},
		{"ingot", func(_ *testing.T, o *reproduce.Options) { o.Version = "9.9.9" }, []string{"ingot"}, "take the ingot that made the release: ingot " + toolVersion},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := reproduce.Options{Set: set, Version: toolVersion, Keep: filepath.Join(t.TempDir(), "keep")}
			o.Recipe, o.Lock, o.Fetcher = a.Locked()
			tt.change(t, &o)
			_, err := reproduce.Run(t.Context(), o)
			var e *reproduce.MismatchError
			if !errors.As(err, &e) {
				t.Fatalf("got %v", err)
			}
			var got []string
			for _, m := range e.List {
				got = append(got, m.What)
				if !strings.Contains(err.Error(), m.String()) {
					t.Errorf("%q is not in %q", m, err)
				}
			}
			if strings.Join(got, ", ") != strings.Join(tt.want, ", ") || !strings.HasPrefix(e.Hint(), tt.hint) {
				t.Errorf("got %q, want %q; hint %q, want %q", got, tt.want, e.Hint(), tt.hint)
			}
			if _, err := os.Stat(o.Keep); !os.IsNotExist(err) {
				t.Errorf("something was made: %v", err)
			}
		})
	}
}

// TestProvenance: sets whose provenance is missing, or speaks of another set.
func TestProvenance(t *testing.T) {
	a := tool(t)
	for _, tt := range []struct {
		name, want string
		change     func(path string, data []byte) error
	}{
		{"missing", "has no provenance.json", func(path string, _ []byte) error { return os.Remove(path) }},
		{"cut", "provenance: ", func(path string, data []byte) error { return os.WriteFile(path, data[:100], 0o644) }},
		{"of another lock", "the set was changed", func(path string, data []byte) error {
			s, err := provenance.Parse(data)
			if err != nil {
				return err
			}
			s.Predicate.BuildDefinition.ExternalParameters.Lock.Digest["sha256"] = strings.Repeat("0", 64)
			if data, err = s.Marshal(); err != nil {
				return err
			}
			return os.WriteFile(path, data, 0o644)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			set := released(t, a, nil)
			path := filepath.Join(set.Dir, provenance.FileName)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := tt.change(path, data); err != nil {
				t.Fatal(err)
			}
			o := reproduce.Options{Set: set, Version: toolVersion}
			o.Recipe, o.Lock, o.Fetcher = a.Locked()
			if _, err := reproduce.Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// TestKeep: the rebuilt set is kept when asked for, never over another one, and
// nothing else stays.
func TestKeep(t *testing.T) {
	a := tool(t)
	o := reproduce.Options{Set: released(t, a, nil), Version: toolVersion, Keep: filepath.Join(t.TempDir(), "keep")}
	o.Recipe, o.Lock, o.Fetcher = a.Locked()
	r, err := reproduce.Run(t.Context(), o)
	if err != nil || r.Kept != filepath.Join(o.Keep, "tiny-1.0.0") {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, err := release.Open(r.Kept); err != nil {
		t.Error(err)
	}
	if _, err := reproduce.Run(t.Context(), o); !errors.Is(err, reproduce.ErrExists) {
		t.Errorf("again: %v", err)
	}
	if list, _ := os.ReadDir(o.Keep); len(list) != 1 {
		t.Errorf("left behind: %v", list)
	}
}

// TestCacheIsNotAsked: a poisoned result in the cache reaches no rebuild.
func TestCacheIsNotAsked(t *testing.T) {
	a := appliance(t, "")
	r, l, f := a.Locked()
	// The first build leaves its results in the cache; a set that was made of a
	// changed payload under the same lock cannot come out of it.
	set := released(t, a, nil)
	var steps []build.Step
	res, err := reproduce.Run(t.Context(), reproduce.Options{
		Set: set, Recipe: r, Lock: l, Fetcher: f, Version: toolVersion, Report: func(s build.Step) { steps = append(steps, s) },
	})
	if err != nil || !res.Same {
		t.Fatalf("%+v, %v", res, err)
	}
	if len(steps) < 8 {
		t.Errorf("%d steps", len(steps))
	}
	for _, s := range steps {
		if s.Cached && s.Name != "programs" { // the recipe has none, which counts as cached
			t.Errorf("step %s took its result from the cache", s.Name)
		}
	}
}
