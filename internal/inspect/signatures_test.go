package inspect_test

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/build"
	"github.com/ingot-os/ingot/internal/build/buildtest"
	"github.com/ingot-os/ingot/internal/inspect"
	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/signing"
)

// signatures are a key set, its export, signing documents of both rounds and a
// signed set, below one directory.
func signatures(t *testing.T) string {
	t.Helper()
	ctx, dir := context.Background(), t.TempDir()
	now := time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC)
	at := func(name string) string { return filepath.Join(dir, name) }
	set, err := keys.Init(ctx, at("keys"), keys.Options{Name: "acme", Test: true, Now: now, Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := set.Export(ctx, at("out")); err != nil {
		t.Fatal(err)
	}
	a, err := signing.New(ctx, set, signing.Options{Environment: "dev", Now: now})
	if err != nil {
		t.Fatal(err)
	}
	app := buildtest.New(t, "")
	r, l, f := app.Locked()
	o := build.Options{Recipe: r, Lock: l, Fetcher: f, Out: at("unsigned")}
	one, err := build.Build(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	o.Out, o.Authority = at("signed"), a
	two, err := build.Build(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]*release.Set{"1": one.Set, "2": two.Set} {
		req, err := signing.NewRequest(s, name == "2")
		if err != nil {
			t.Fatal(err)
		}
		resp, err := a.Answer(req)
		if err != nil {
			t.Fatal(err)
		}
		for suffix, doc := range map[string]interface{ Marshal() ([]byte, error) }{".req": req, ".resp": resp} {
			data, err := doc.Marshal()
			if err == nil {
				err = os.WriteFile(at(name+suffix), data, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

// TestInspectSignatures: all that keys and sign write is shown for what it is,
// and what is damaged is said to be.
func TestInspectSignatures(t *testing.T) {
	dir := signatures(t)
	for name, want := range map[string]string{
		"keys/keys.json":                       "keys keys.json",
		"keys/db.crt":                          "subject CN=TEST acme boot image key",
		"keys/image.pub":                       "type ecdsa.PublicKey",
		"keys/db.key":                          "pem PRIVATE KEY",
		"out/db.esl":                           "subject CN=TEST acme boot image key",
		"out/PK.auth":                          "time 2026-03-14T15:09:26Z",
		"out/KEK.der":                          "subject CN=TEST acme key exchange key",
		"1.req":                                "wanted tiny-1.0.0.efi authenticode",
		"1.resp":                               "signature tiny-1.0.0.efi",
		"2.req":                                "wanted manifest.json sha256",
		"2.resp":                               "signature manifest.json",
		"signed/tiny-1.0.0/tiny-1.0.0.efi":     "authenticode 0",
		"signed/tiny-1.0.0/manifest.dsse.json": "manifest payload",
	} {
		path := filepath.Join(dir, name)
		if text := textOf(t, path); !strings.Contains(text, want) || strings.Contains(text, "problem") {
			t.Errorf("%s: want %q\n%s", name, want, text)
		}
		if strings.HasPrefix(want, "pem PRIVATE") || strings.HasSuffix(name, ".der") {
			continue // nothing of it is read, or it is no certificate any more
		}
		damaged := filepath.Join(t.TempDir(), "damaged")
		data, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(damaged, data[:len(data)*2/3], 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		if text := textOf(t, damaged); !strings.Contains(text, "problem") {
			t.Errorf("%s, damaged: %s", name, text)
		}
	}
	if text := textOf(t, filepath.Join(dir, "keys/image.pub")); !strings.Contains(text, "marked TEST") {
		t.Errorf("a public TEST key is shown as %s", text)
	}
}

// textOf is what inspect prints, with single spaces.
func textOf(t *testing.T, path string) string {
	t.Helper()
	n, err := inspect.Path(path)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := n.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(b.String()), " ")
}
