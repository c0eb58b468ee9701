package build

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ingot-os/ingot/initramfs/gobuild"
	"github.com/ingot-os/ingot/internal/recipe"
	"github.com/ingot-os/ingot/partition/tree"
)

// program is one compiled Go program of the image, with further names for a busybox.
type program struct {
	name    string
	origin  string // input in the lock
	content tree.Blob
	links   []string
}

// buildPrograms compiles what the recipe names, each once per content. With
// everything cached no toolchain is asked, so a machine without Go rebuilds.
func (b *builder) buildPrograms(ctx context.Context, st *Step) error {
	st.Cached = true
	for _, p := range b.o.Recipe.Go {
		if err := b.buildProgram(ctx, st, p); err != nil {
			return fmt.Errorf("go program %s: %w", p.Name, err)
		}
	}
	if len(b.o.Recipe.URoot) == 0 {
		return nil
	}
	return b.buildBusybox(ctx, st)
}

func (b *builder) buildProgram(ctx context.Context, st *Step, p recipe.Program) error {
	l := b.o.Lock
	job := gobuild.Job{Arch: l.Arch, Package: p.Package, Tags: p.Tags, LDFlags: p.LDFlags}
	name := "go/modules"
	if p.Local() {
		job.Dir, name = b.o.Recipe.Dir, "go/"+p.Name
	}
	in := l.Find(name)
	if in == nil {
		return notLocked(name)
	}
	job.Files, job.GoMod, job.GoSum = in.Files, in.GoMod, in.GoSum
	content, err := b.compile(ctx, st, job.Key(l.Go), func(tc gobuild.Toolchain, out string) error {
		job.Output = out
		return tc.Build(ctx, job)
	})
	if err != nil {
		return err
	}
	b.programs = append(b.programs, program{name: p.Name, origin: name, content: content})
	return nil
}

func (b *builder) buildBusybox(ctx context.Context, st *Step) error {
	in := b.o.Lock.Find("go/modules")
	if in == nil {
		return notLocked("go/modules")
	}
	job := gobuild.BusyboxJob{Arch: b.o.Lock.Arch, Commands: b.o.Recipe.URoot, GoMod: in.GoMod, GoSum: in.GoSum}
	content, err := b.compile(ctx, st, job.Key(b.o.Lock.Go), func(tc gobuild.Toolchain, out string) error {
		job.Output = out
		return tc.Busybox(ctx, job)
	})
	if err != nil {
		return fmt.Errorf("u-root busybox: %w", err)
	}
	b.programs = append(b.programs, program{name: "bb", origin: in.Name, content: content, links: job.Links()})
	return nil
}

// compile runs one Go build unless its result is in the cache.
func (b *builder) compile(ctx context.Context, st *Step, key string, run func(gobuild.Toolchain, string) error) (tree.Blob, error) {
	var sub Step
	f, err := b.cached(key, &sub, func(w *os.File) error {
		tc, err := b.toolchain(ctx)
		if err != nil {
			return err
		}
		out := filepath.Join(b.stage.Dir, "go-"+short(key))
		defer os.Remove(out)
		if err := run(tc, out); err != nil {
			return err
		}
		return copyFile(w, out)
	})
	if err != nil {
		return nil, err
	}
	st.Cached = st.Cached && sub.Cached
	st.made(sub.Out)
	return newFileBlob(f)
}

// toolchain finds Go and refuses any other version than the locked one:
// another compiler gives other bytes.
func (b *builder) toolchain(ctx context.Context) (gobuild.Toolchain, error) {
	tc, err := gobuild.Find()
	if err != nil {
		return tc, err
	}
	tc.Offline = b.o.Fetcher.Offline
	if _, err := os.UserHomeDir(); err != nil {
		// Without a home the go command has no place for what it keeps.
		tc.BuildCache, tc.ModCache = filepath.Join(b.o.Fetcher.Store.Dir, "go-build"), filepath.Join(b.o.Fetcher.Store.Dir, "go-mod")
	}
	v, err := tc.Version(ctx)
	if err != nil {
		return tc, err
	}
	if v != b.o.Lock.Go {
		return tc, &hintError{fmt.Errorf("the lock pins %s, this host has %s", b.o.Lock.Go, v), "ingot lock --update go"}
	}
	return tc, nil
}
