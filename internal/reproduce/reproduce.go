// Package reproduce makes an image set again from its recipe and lock and
// compares all bytes with those that were released. It is how somebody without
// keys and without trust in the builder checks that an image is what its
// sources say.
//
// Nothing that an earlier build has left in the cache is used, only inputs
// whose digests the lock names: all writers run. Signatures are not made but
// taken out of the release, each for the Authenticode digest that it signs, so
// the rebuilt files are the signed ones. Whether a signature is good is not
// decided here: that is what ingot verify is for.
//
//	r, err := reproduce.Run(ctx, reproduce.Options{Set: set, Recipe: r, Lock: l, Fetcher: f, Version: version})
//	if !r.Same { fmt.Println(r.Causes[0]) }
package reproduce

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ingot-os/ingot/internal/build"
	"github.com/ingot-os/ingot/internal/imageset"
	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/internal/recipe"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/sbom"
	"github.com/ingot-os/ingot/internal/source"
)

// Options say what to make again and out of what.
type Options struct {
	Set     *release.Set // released
	Recipe  *recipe.Recipe
	Lock    *lock.Lock
	Fetcher *source.Fetcher // its store gives inputs, nothing else
	Version string          // of this ingot
	Keep    string          // directory that gets the rebuilt set as NAME-VERSION; "" removes it
	Workers int             // 0 = GOMAXPROCS; never changes a byte

	Started func(name string) // as in build.Options
	Report  func(build.Step)
}

// Result says what became of each file, and why.
type Result struct {
	Dir  string `json:"dir"`            // of the released set
	Kept string `json:"kept,omitempty"` // of the rebuilt set
	Same bool   `json:"same"`
	// Unsigned: the release has signatures, but none for what was rebuilt, so
	// the rebuilt boot files have none.
	Unsigned bool    `json:"unsigned,omitempty"`
	Files    []File  `json:"files"`
	Causes   []Cause `json:"causes"`  // what differs, the first thing to look at first
	Follows  []Cause `json:"follows"` // what differs because of that: digests, root hashes
}

// File is one file of a set. The manifest's signature is the same when it signs
// the rebuilt manifest; its digests are those of what is signed.
type File struct {
	Name     string `json:"name"`
	Released string `json:"released,omitempty"` // SHA-256 in hex; "" when only the rebuilt set has it
	Rebuilt  string `json:"rebuilt,omitempty"`
	Same     bool   `json:"same"`
}

// ErrExists is wrapped by the error of Run when Keep holds a set of that name.
var ErrExists = errors.New("there is an image set of that name already")

// Run checks, rebuilds and compares. An error means that there is no answer; a
// *MismatchError that recipe, lock or ingot are not those of the release.
func Run(ctx context.Context, o Options) (*Result, error) {
	if err := Check(o); err != nil {
		return nil, err
	}
	final := filepath.Join(o.Keep, o.Set.Manifest.Stem())
	if o.Keep != "" {
		if _, err := os.Lstat(final); err == nil {
			return nil, fmt.Errorf("keep %s: %w", final, ErrExists)
		}
		if err := os.MkdirAll(o.Keep, 0o777); err != nil {
			return nil, err
		}
	}
	dir, err := os.MkdirTemp(o.Keep, ".ingot-reproduce-") // beside the final name, or where temporary files go
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	r, rebuilt, err := run(ctx, o, dir)
	if err != nil || o.Keep == "" {
		return r, err
	}
	r.Kept = final
	return r, os.Rename(rebuilt.Dir, final)
}

func run(ctx context.Context, o Options, dir string) (*Result, *release.Set, error) {
	fetcher, err := inputsOnly(ctx, o, filepath.Join(dir, "cache"))
	if err != nil {
		return nil, nil, err
	}
	signatures, err := Signatures(o.Set)
	if err != nil {
		return nil, nil, err
	}
	b := build.Options{
		Recipe: o.Recipe, Lock: o.Lock, Fetcher: fetcher, Out: filepath.Join(dir, "out"), Version: o.Version,
		SPDX: has(o.Set.Manifest, sbom.SPDXName), Workers: o.Workers, Started: o.Started, Report: o.Report,
	}
	if signatures != nil {
		b.Authority = signatures
	}
	built, err := build.Build(ctx, b)
	unsigned := false
	if errors.Is(err, ErrNoSignature) { // so what is signed is not what was rebuilt: compare without
		unsigned, b.Authority = true, imageset.Authority(nil)
		built, err = build.Build(ctx, b)
	}
	if err != nil {
		return nil, nil, err
	}
	r, err := compare(o.Set, built.Set)
	if r != nil {
		r.Unsigned = unsigned
	}
	return r, built.Set, err
}

func has(m *release.Manifest, name string) bool {
	for _, f := range m.Files {
		if f.Name == name {
			return true
		}
	}
	return false
}
