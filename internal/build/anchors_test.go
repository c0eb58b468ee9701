package build

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/internal/rig"
	"github.com/ingot-os/ingot/internal/trust"
)

// TestTrust builds with the export of a key set: the lock pins it, the image
// carries it, a key that is exchanged afterwards is refused, and what a scan
// accepts changes nothing.
func TestTrust(t *testing.T) {
	b := newBench(t, "")
	set, err := keys.Init(t.Context(), filepath.Join(t.TempDir(), "keys"), keys.Options{Name: "acme", Test: true, Now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := set.Export(t.Context(), filepath.Join(b.Dir, "trust")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		yaml, input string
		kind        lock.Kind
	}{
		{"trust: {keys: ./trust}\n", "trust", lock.KindDir},
		{"trust: {pk: trust/PK.pem, kek: trust/KEK.der, db: [trust/db.esl], image: [trust/image.pem]}\n", "trust/trust/db.esl", lock.KindFile},
	} {
		b.Recipe(c.yaml)
		o := b.options()
		if in := o.Lock.Find(c.input); in == nil || in.Kind != c.kind {
			t.Fatalf("the lock has %+v for %s", in, c.input)
		}
		first := b.build()
		spec, err := rig.Spec(first.Set)
		if err != nil {
			t.Fatal(err)
		}
		a, err := trust.Parse(spec.Trust)
		if err != nil || a.Owner != set.Owner || !a.PK.Equal(set.Certificate(keys.PK)) || len(a.DB) != 1 || len(a.Image) != 1 {
			t.Errorf("%s: the image carries %+v, %v", c.yaml, a, err)
		}
		b.Recipe(c.yaml + "scan: {threshold: high}\n")
		if !b.build().Unchanged {
			t.Errorf("%s: a policy for scans changes the image", c.yaml)
		}
		for _, name := range []string{"PK.esl", "PK.pem"} {
			old, err := os.ReadFile(filepath.Join(b.Dir, "trust", name))
			if err != nil {
				t.Fatal(err)
			}
			b.File("trust/"+name, string(append([]byte("# other\n"), old...)), 0o644)
			o.Out = t.TempDir()
			if _, err := Build(context.Background(), o); (err == nil) != (c.input != "trust" && name == "PK.esl") {
				t.Errorf("%s: %s was exchanged: %v", c.yaml, name, err)
			} else if moved := (lock.MismatchError)(nil); err != nil && !errors.As(err, &moved) {
				t.Errorf("%s: %s was exchanged: %v, want a mismatch with the lock", c.yaml, name, err)
			}
			b.File("trust/"+name, string(old), 0o644)
		}
	}
}

// TestTrustExpired: a certificate must be valid at the epoch of the lock, not
// today, so that an old build can be repeated.
func TestTrustExpired(t *testing.T) {
	b := newBench(t, "")
	set, err := keys.Init(t.Context(), filepath.Join(t.TempDir(), "keys"), keys.Options{Name: "acme", Test: true, Now: time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC), Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := set.Export(t.Context(), filepath.Join(b.Dir, "trust")); err != nil {
		t.Fatal(err)
	}
	b.Recipe("trust: {keys: ./trust}\n") // the epoch of these recipes is in 2026
	_, err = Build(context.Background(), b.options())
	if err == nil || !strings.Contains(err.Error(), "appliance.yaml:8:15: trust.keys: ./trust: pk: expired on 2015-01-01") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(b.Out); err == nil {
		if got := names(t, b.Out); got != "" {
			t.Errorf("left behind: %s", got)
		}
	}
}
