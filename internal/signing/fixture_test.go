package signing_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ingot-os/ingot/boot/authenticode"
	"github.com/ingot-os/ingot/internal/build"
	"github.com/ingot-os/ingot/internal/build/buildtest"
	"github.com/ingot-os/ingot/internal/dsse"
	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/signing"
	"github.com/ingot-os/ingot/internal/sparse"
)

var (
	ctx = context.Background()
	now = time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC)
	dev = signing.Options{Environment: "dev", Now: now}
)

// keySet is a TEST key set that tests read and do not change; shared is where
// the sets of these tests are.
var keySet, shared string

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "signing")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	keySet, shared = filepath.Join(dir, "keys"), filepath.Join(dir, "sets")
	if _, err := keys.Init(ctx, keySet, keys.Options{Name: "acme", Test: true, Now: now, Rand: rand.Reader}); err != nil {
		panic(err)
	}
	return m.Run()
}

func open(t *testing.T, dir string) *keys.Set {
	t.Helper()
	s, err := keys.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func authority(t *testing.T, dir string) *signing.Authority {
	t.Helper()
	a, err := signing.New(ctx, open(t, dir), dev)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// withTool is a recipe whose ESP holds another EFI program, unsigned.
const withTool = "boot:\n  entries:\n    - {title: Tool, efi: /EFI/tool/tool.efi, source: ./tool.efi}\n"

// appliance is a recipe with a UKI and an unsigned EFI program.
func appliance(t *testing.T) *buildtest.Appliance {
	t.Helper()
	a := buildtest.New(t, withTool)
	a.File("tool.efi", string(buildtest.Kernel()), 0o644)
	return a
}

// unsigned and inline are sets of appliance for one test, made once without
// signatures and once with keySet. Their files are hard links: a set is never
// changed in place.
func unsigned(t *testing.T) *release.Set { return linked(t, "unsigned", nil) }

func inline(t *testing.T) *release.Set { return linked(t, "inline", authority(t, keySet)) }

func linked(t *testing.T, kind string, a *signing.Authority) *release.Set {
	t.Helper()
	from := filepath.Join(shared, kind)
	if _, err := os.Stat(from); err != nil {
		makeSet(t, appliance(t), from, a)
	}
	from, to := filepath.Join(from, "tiny-1.0.0"), filepath.Join(t.TempDir(), "tiny-1.0.0")
	if err := os.Mkdir(to, 0o755); err != nil {
		t.Fatal(err)
	}
	for name := range files(t, from) {
		if err := os.Link(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
			t.Fatal(err)
		}
	}
	set, err := release.Open(to)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// makeSet builds the appliance into out, without signatures when a is nil.
func makeSet(t *testing.T, app *buildtest.Appliance, out string, a *signing.Authority) *release.Set {
	t.Helper()
	r, l, f := app.Locked()
	o := build.Options{Recipe: r, Lock: l, Fetcher: f, Out: out, Version: "0.0.0-test"}
	if a != nil {
		o.Authority, o.Identity = a, a.Identity()
	}
	res, err := build.Build(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	return res.Set
}

func reopen(t *testing.T, set *release.Set) *release.Set {
	t.Helper()
	s, err := release.Open(set.Dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// files gives the content of every file of a set, by name; of the disk, which
// is mostly holes, the digest of its data and where they are.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range list {
		path := filepath.Join(dir, e.Name())
		if filepath.Ext(path) == ".img" {
			got[e.Name()] = diskDigest(t, path)
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		got[e.Name()] = string(b)
	}
	return got
}

// diskDigest is the digest of all blocks of a disk that are not zero.
func diskDigest(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	data, err := sparse.Data(f, 0, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	h, block, zero := sha256.New(), make([]byte, 4096), make([]byte, 4096)
	for _, e := range data {
		for at := e.Off; at < e.End; at += 4096 {
			n, err := f.ReadAt(block, at)
			if err != nil && err != io.EOF {
				t.Fatal(err)
			}
			if !bytes.Equal(block[:n], zero[:n]) {
				fmt.Fprintf(h, "%d:", at)
				h.Write(block[:n])
			}
		}
	}
	return fmt.Sprintf("%d bytes, data %x", info.Size(), h.Sum(nil))
}

// same compares two sets, but for the files named.
func same(t *testing.T, what, a, b string, but ...string) {
	t.Helper()
	x, y := files(t, a), files(t, b)
	for _, n := range but {
		delete(x, n)
		delete(y, n)
	}
	if len(x) != len(y) || len(x) < 5 {
		t.Errorf("%s: %d and %d files", what, len(x), len(y))
	}
	for n := range x {
		if x[n] != y[n] {
			t.Errorf("%s: %s differs", what, n)
		}
	}
}

// neighbours lists what is beside a set: nothing, if stages were removed.
func neighbours(t *testing.T, set *release.Set) {
	t.Helper()
	list, err := os.ReadDir(filepath.Dir(set.Dir))
	if err != nil || len(list) != 1 {
		t.Errorf("beside the set: %v, %v", list, err)
	}
}

// verifies checks all signatures of a set by the readers that everyone uses.
func verifies(t *testing.T, set *release.Set, db *x509.Certificate, image crypto.PublicKey) {
	t.Helper()
	uki, err := os.ReadFile(set.UKI())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := authenticode.Verify(bytes.NewReader(uki), int64(len(uki)), authenticode.Trust{Certificates: []*x509.Certificate{db}}); err != nil {
		t.Error(err)
	}
	env, err := os.ReadFile(filepath.Join(set.Dir, release.EnvelopeName))
	if err != nil {
		t.Fatal(err)
	}
	v, err := dsse.Verify(env, dsse.Policy{Keys: []crypto.PublicKey{image}, Threshold: 1, Types: []string{dsse.TypeManifest}})
	if err != nil {
		t.Fatal(err)
	}
	if manifest := files(t, set.Dir)[release.ManifestName]; manifest != string(v.Payload) {
		t.Error("the envelope is of another manifest")
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(fmt.Errorf("%q: %w", s, err))
	}
	return b
}
