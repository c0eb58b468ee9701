package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/source"
)

// lab is where measurements happen: a cache and directories of their own, so
// that neither the user's cache nor earlier runs count.
type lab struct {
	dir     string
	ingot   string // absolute path of the program
	example string // examples/hello
	peerDir string
	cache   *source.Store

	base    *appliance // examples/hello as it is
	repeats int        // of benchReproduce
	hosts   int        // of benchStorm
}

// appliance is a recipe with its lock and the place of its image set.
type appliance struct {
	lab *lab
	dir string
	set string // out/NAME-VERSION
}

// newLab makes the directories, fills the cache with what is downloaded
// already, and builds examples/hello once: from then on the network is quiet.
func newLab(ctx context.Context, o options) (*lab, error) {
	var l lab
	var err error
	if l.ingot, err = filepath.Abs(o.ingot); err != nil {
		return nil, err
	}
	if _, err := os.Stat(l.ingot); err != nil {
		return nil, fmt.Errorf("%w (make build)", err)
	}
	if l.example, err = filepath.Abs("examples/hello"); err != nil {
		return nil, err
	}
	if l.dir, err = os.MkdirTemp("", "ingot-bench-"); err != nil {
		return nil, err
	}
	l.cache = &source.Store{Dir: filepath.Join(l.dir, "cache")}
	if err = l.peersAt(o.peerDir); err == nil {
		err = l.seed()
	}
	if err == nil {
		l.base, err = l.appliance(ctx, "hello", "")
	}
	if err == nil {
		_, err = l.base.build(ctx)
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return &l, nil
}

func (l *lab) close() { os.RemoveAll(l.dir) }

func (l *lab) peersAt(dir string) error {
	if dir != "" {
		var err error
		l.peerDir, err = filepath.Abs(dir)
		return err
	}
	user, err := os.UserCacheDir()
	l.peerDir = filepath.Join(user, "ingot-bench")
	return err
}

// seed takes the packages of the example's lock from the user's cache; what is
// not there is downloaded by the first build.
func (l *lab) seed() error {
	users, err := source.Default()
	if err != nil {
		return err
	}
	pinned, err := lock.Read(filepath.Join(l.example, "appliance.lock"))
	if err != nil {
		return err
	}
	for _, in := range pinned.Inputs {
		f, err := users.Open(in.SHA256)
		if err != nil {
			continue // not there, or not what it should be
		}
		_, _, err = l.cache.Put(f)
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// appliance copies examples/hello under a name, adds lines to its recipe, and
// moves its lock to this ingot and this Go.
func (l *lab) appliance(ctx context.Context, name, extra string) (*appliance, error) {
	a := &appliance{lab: l, dir: filepath.Join(l.dir, name)}
	if err := os.CopyFS(a.dir, os.DirFS(l.example)); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(filepath.Join(a.dir, "out")); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(a.dir, "appliance.yaml"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	_, err = io.WriteString(f, "\n"+extra)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if err := a.write("motd", "hello\n"); err != nil {
		return nil, err
	}
	_, err = a.verb(ctx, "lock", "--update", "ingot", "--update", "go")
	return a, err
}

// write gives a file of the recipe's directory a content.
func (a *appliance) write(name, content string) error {
	return os.WriteFile(filepath.Join(a.dir, name), []byte(content), 0o644)
}

// verb runs ingot on the recipe.
func (a *appliance) verb(ctx context.Context, args ...string) (cost, error) {
	return a.lab.run(ctx, a.dir, args...)
}

// run runs ingot in a directory. 4 is its code for "differs".
func (l *lab) run(ctx context.Context, dir string, args ...string) (cost, error) {
	return job{args: append([]string{l.ingot}, args...), dir: dir, env: []string{"INGOT_CACHE=" + l.cache.Dir, "SOURCE_DATE_EPOCH="}, codes: []int{4}}.do(ctx)
}

// build builds into out/ and remembers where the set is.
func (a *appliance) build(ctx context.Context, args ...string) (cost, error) {
	c, err := a.verb(ctx, append([]string{"build"}, args...)...)
	if err != nil {
		return c, err
	}
	sets, err := filepath.Glob(filepath.Join(a.dir, "out", "*", release.ManifestName))
	if err == nil && len(sets) != 1 {
		err = fmt.Errorf("build left %d image sets in %s", len(sets), a.dir)
	}
	if err == nil {
		a.set = filepath.Dir(sets[0])
	}
	return c, err
}

// remove takes the image set away.
func (a *appliance) remove() error { return os.RemoveAll(filepath.Join(a.dir, "out")) }
