package signing_test

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/build"
	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/signing"
)

// TestInline: a build with keys signs everything, and twice gives the same bytes.
func TestInline(t *testing.T) {
	one, two := inline(t), makeSet(t, appliance(t), t.TempDir(), authority(t, keySet))
	same(t, "built twice", one.Dir, two.Dir)
	s := open(t, keySet)
	verifies(t, one, s.Certificate(keys.DB), s.Public(keys.Image))
	if _, err := os.Stat(filepath.Join(unsigned(t).Dir, "manifest.dsse.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("unsigned build: envelope %v", err)
	}
}

// TestNothingToDo: a rebuild that changes nothing reads no private key; other
// keys, or none, make it a build.
func TestNothingToDo(t *testing.T) {
	app := appliance(t)
	r, l, f := app.Locked()
	dir := filepath.Join(t.TempDir(), "keys")
	if err := os.CopyFS(dir, os.DirFS(keySet)); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"db.key", "image.key"} {
		if err := os.Chmod(filepath.Join(dir, n), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	make := func(a *signing.Authority) (*build.Result, error) {
		o := build.Options{Recipe: r, Lock: l, Fetcher: f, Out: app.Out}
		if a != nil {
			o.Authority, o.Identity = a, a.Identity()
		}
		return build.Build(ctx, o)
	}
	if _, err := make(authority(t, dir)); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"db.key", "image.key"} {
		if err := os.Remove(filepath.Join(dir, n)); err != nil {
			t.Fatal(err)
		}
	}
	if res, err := make(authority(t, dir)); err != nil || !res.Unchanged {
		t.Errorf("again, without private keys: %+v, %v", res, err)
	}
	if res, err := make(nil); err != nil || res.Unchanged {
		t.Errorf("without signatures: %+v, %v", res, err)
	}
	if res, err := make(authority(t, dir)); err == nil || !strings.Contains(err.Error(), "db.key") {
		t.Errorf("signed again, without private keys: %+v, %v", res, err)
	}
}

// TestNewRefuses: what a key set must not sign is said before anything is made.
func TestNewRefuses(t *testing.T) {
	s := open(t, keySet)
	for name, c := range map[string]struct {
		o    signing.Options
		is   error
		want string
	}{
		"TEST key":       {signing.Options{Environment: "prod", Now: now}, keys.ErrTestKey, `environment "prod"`},
		"no environment": {signing.Options{Now: now}, keys.ErrTestKey, `environment ""`},
		"expired":        {signing.Options{Environment: "dev", Now: now.AddDate(25, 0, 1)}, signing.ErrDates, "expired on 2051-03-14"},
		"not yet valid":  {signing.Options{Environment: "dev", Now: now.AddDate(0, 0, -1)}, signing.ErrDates, "valid from 2026-03-14 on"},
	} {
		if _, err := signing.New(ctx, s, c.o); !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		uri := "file:" + filepath.Join(keySet, "db.key")
		if _, err := signing.Single(ctx, uri, s.Public(keys.DB), s.Certificate(keys.DB), c.o); !errors.Is(err, c.is) {
			t.Errorf("%s, single key: %v", name, err)
		}
	}
	real := filepath.Join(t.TempDir(), "real")
	set, err := keys.Init(context.Background(), real, keys.Options{Name: "acme", Now: now, Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signing.New(ctx, set, signing.Options{Environment: "prod", Now: now.Add(time.Hour)}); err != nil {
		t.Errorf("real keys for prod: %v", err)
	}
}
