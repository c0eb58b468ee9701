package build

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/ingot-os/ingot/internal/build/buildtest"
)

// bench builds a small appliance again and again.
type bench struct {
	*buildtest.Appliance
	tb testing.TB
}

func newBench(t testing.TB, more string) *bench {
	t.Helper()
	return &bench{buildtest.New(t, more), t}
}

// options resolves the recipe as it is now.
func (b *bench) options() Options {
	b.tb.Helper()
	r, l, f := b.Locked()
	return Options{Recipe: r, Lock: l, Fetcher: f, Out: b.Out, Version: "0.0.0-test"}
}

func (b *bench) build() *Result {
	b.tb.Helper()
	res, err := Build(context.Background(), b.options())
	if err != nil {
		b.tb.Fatal(err)
	}
	return res
}

// digestsOf gives the SHA-256 of every file of a set, by name.
func digestsOf(t testing.TB, dir string) map[string]string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]string{}
	for _, e := range list {
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		blob, err := newFileBlob(f)
		if err != nil {
			t.Fatal(err)
		}
		if sums[e.Name()], err = blobDigest(blob); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return sums
}
