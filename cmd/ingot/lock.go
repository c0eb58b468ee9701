package main

import (
	"context"
	"errors"
	"io/fs"

	"github.com/ingot-os/ingot/initramfs/gobuild"
	"github.com/ingot-os/ingot/internal/initbin"
	"github.com/ingot-os/ingot/internal/lock"
)

type lockCmd struct {
	recipeFlag
	fetchFlags
	Update []string `help:"Move these inputs to their newest versions: kernel, stub, ingot, go, all, ..." placeholder:"NAME"`
	Save   string   `name:"vendor-to" help:"Also copy every remote input into this directory, for builds without a network." type:"path"`
}

// Run resolves the recipe, keeps what the old lock pins, and says what moved.
func (c *lockCmd) Run(v *verb) error {
	r, err := c.load()
	if err != nil {
		return err
	}
	old, err := lock.Read(c.lockPath())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return c.explain(err)
	}
	fetcher, err := c.fetcher(v.ctx, v, r)
	if err != nil {
		return err
	}
	init, err := initbin.Digest(initbin.For(r.Attest, r.Data.Encrypt, r.Update), r.Arch)
	if err != nil {
		return err
	}
	l, err := lock.Resolve(v.ctx, lock.Options{
		Recipe: r, Old: old, Update: c.Update, Fetcher: fetcher, Init: init, Go: goToolchain{c.Offline},
	})
	if err != nil {
		return c.explain(err)
	}
	if c.Save != "" {
		if err := lock.Vendor(v.ctx, l, fetcher, r.Dir, c.Save); err != nil {
			return c.explain(err)
		}
	}
	if err := l.Write(c.lockPath()); err != nil {
		return err
	}
	return c.print(v, old, l)
}

func (c *lockCmd) print(v *verb, old, l *lock.Lock) error {
	changes := lock.Diff(old, l)
	if v.ui.JSON {
		if len(changes) == 0 {
			changes = []lock.Change{}
		}
		return v.ui.PrintJSON(map[string]any{"lock": c.lockPath(), "changes": changes})
	}
	for _, ch := range changes {
		if err := v.ui.Print("%s", ch); err != nil {
			return err
		}
	}
	if len(changes) == 0 {
		v.ui.Note("nothing moved")
	}
	return nil
}

// goToolchain asks the host's Go, found only when a recipe has Go code.
type goToolchain struct{ offline bool }

func (g goToolchain) find() (gobuild.Toolchain, error) {
	tc, err := gobuild.Find()
	tc.Offline = g.offline
	return tc, err
}

// Version implements lock.GoResolver.
func (g goToolchain) Version(ctx context.Context) (string, error) {
	tc, err := g.find()
	if err != nil {
		return "", err
	}
	return tc.Version(ctx)
}

// Modules implements lock.GoResolver.
func (g goToolchain) Modules(ctx context.Context, _ string, programs, uroot []string) (goMod, goSum []string, err error) {
	tc, err := g.find()
	if err != nil {
		return nil, nil, err
	}
	return tc.Modules(ctx, programs, uroot)
}

// Sources implements lock.GoResolver.
func (g goToolchain) Sources(ctx context.Context, dir, pkg string, tags []string, arch string) (map[string]string, error) {
	tc, err := g.find()
	if err != nil {
		return nil, err
	}
	return tc.Sources(ctx, dir, pkg, tags, arch)
}
