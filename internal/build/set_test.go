package build

import (
	"context"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ingot-os/ingot/internal/imageset"
)

// names lists a directory.
func names(t *testing.T, dir string) string {
	t.Helper()
	list, err := fs.Glob(os.DirFS(dir), "*")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(list, " ")
}

// TestStaleStage: what a killed build left goes with the next build, what a
// running one holds stays, and nothing else is touched.
func TestStaleStage(t *testing.T) {
	b := newBench(t, "")
	stale := filepath.Join(b.Out, ".ingot-tiny-0.9.0-123")
	for _, dir := range []string{stale + "/deep", filepath.Join(b.Out, ".other"), filepath.Join(b.Out, "tiny-0.9.0")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	held, err := imageset.NewStage(b.Out, "held-1")
	if err != nil {
		t.Fatal(err)
	}
	b.build()
	if got, want := names(t, b.Out), filepath.Base(held.Dir)+" .other tiny-0.9.0 tiny-1.0.0"; got != want {
		t.Errorf("output directory holds %s, want %s", got, want)
	}
	held.Remove()
	if got, want := names(t, b.Out), ".other tiny-0.9.0 tiny-1.0.0"; got != want {
		t.Errorf("output directory holds %s, want %s", got, want)
	}
}

// TestPublishRefuses: a final name that cannot be taken is an error that names
// it, and the stage goes.
func TestPublishRefuses(t *testing.T) {
	b := newBench(t, "")
	o := b.options()
	if err := os.WriteFile(b.Out, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Build(context.Background(), o); err == nil || !strings.Contains(err.Error(), b.Out) {
		t.Errorf("OUT is a file: got error %v, want one that names it", err)
	}
}

// TestConcurrentBuilds runs builds of two locks into one output directory at
// once, several of each. All succeed, and what stays is what each lock gives.
func TestConcurrentBuilds(t *testing.T) {
	b := newBench(t, "files:\n  - {path: /a, content: one}\n")
	one := b.options()
	want1 := digestsOf(t, b.build().Set.Dir)
	b.Recipe("files:\n  - {path: /a, content: two}\n")
	two := b.options()
	want2 := digestsOf(t, b.build().Set.Dir)
	if maps.Equal(want1, want2) {
		t.Fatal("two recipes gave one image")
	}
	var wg sync.WaitGroup
	for i := range 6 {
		o := one
		if i%2 == 1 {
			o = two
		}
		wg.Go(func() {
			if _, err := Build(context.Background(), o); err != nil {
				t.Errorf("build %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if got := digestsOf(t, filepath.Join(b.Out, "tiny-1.0.0")); !maps.Equal(got, want1) && !maps.Equal(got, want2) {
		t.Errorf("the set that stays is of neither lock: %v", got)
	}
	if got := names(t, b.Out); got != "tiny-1.0.0" {
		t.Errorf("output directory holds %q, want tiny-1.0.0 only", got)
	}
}

// TestUnchanged: a second build of one lock does nothing, and every way to
// touch the set is noticed.
func TestUnchanged(t *testing.T) {
	b := newBench(t, "")
	first := b.build()
	want := digestsOf(t, first.Set.Dir)
	if first.Unchanged || !b.build().Unchanged {
		t.Error("first build was unchanged, or the second was not")
	}
	image := first.Set.Image()
	for name, touch := range map[string]func() error{
		"a byte of the image":  func() error { return overwrite(image, 5000) },
		"a file more":          func() error { return os.WriteFile(filepath.Join(first.Set.Dir, "more"), nil, 0o644) },
		"a file less":          func() error { return os.Remove(first.Set.UKI()) },
		"a truncated manifest": func() error { return os.Truncate(filepath.Join(first.Set.Dir, "manifest.json"), 10) },
	} {
		if err := touch(); err != nil {
			t.Fatal(err)
		}
		if b.build().Unchanged {
			t.Errorf("%s: the set counts as unchanged", name)
		}
		if got := digestsOf(t, first.Set.Dir); !maps.Equal(got, want) {
			t.Errorf("%s: rebuilt set is %v, want %v", name, got, want)
		}
	}
}

func overwrite(path string, at int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt([]byte{0xee}, at)
	return err
}
