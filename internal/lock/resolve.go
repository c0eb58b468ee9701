package lock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ingot-os/ingot/internal/recipe"
)

// Fetcher finds remote inputs; *source.Fetcher is one.
type Fetcher interface {
	// Package finds the newest package of a name in a suite: an Input without a
	// name, and the newest date of the archive's indexes.
	Package(ctx context.Context, suite, arch, name string) (Input, time.Time, error)
	// Image resolves an image reference to the manifest for linux and arch: an
	// Input without a name. An OCI layout may lie below dir.
	Image(ctx context.Context, ref, dir, arch string) (Input, error)
	// Fetch makes an input available and checks its digest.
	Fetch(ctx context.Context, in Input, dir string) (string, error)
	// Open reads what Fetch has put into the cache, by its sha256 in hex.
	Open(sha string) (*os.File, error)
}

// GoResolver asks the Go toolchain. It is needed only for recipes with Go code.
type GoResolver interface {
	// Version is the toolchain's, as runtime.Version gives it: go1.26.8.
	Version(ctx context.Context) (string, error)
	// Modules resolves programs ("module/path@version") and u-root commands into
	// the lines of one go.mod and its go.sum.
	Modules(ctx context.Context, dir string, programs []string, uroot []string) (goMod, goSum []string, err error)
	// Sources lists every file that enters a local program: slash separated
	// paths relative to dir -> sha256 in hex, its module's go.mod and go.sum included.
	Sources(ctx context.Context, dir, pkg string, tags []string, arch string) (files map[string]string, err error)
}

// Options is what Resolve works from.
type Options struct {
	Recipe  *recipe.Recipe
	Old     *Lock    // nil = resolve everything
	Update  []string // names to move although their pins are still consistent
	Fetcher Fetcher
	Init    string // sha256 of ingot-init for the recipe's architecture, hex
	Go      GoResolver
	Now     func() time.Time // nil means time.Now; only an epoch of last resort comes from it
}

// Names that Update takes beside those of inputs.
const (
	UpdateAll   = "all"   // everything
	UpdateIngot = "ingot" // image format and ingot-init
	UpdateGo    = "go"    // the version of the Go toolchain
	UpdateEpoch = "epoch"
)

// Resolve pins every input of a recipe. A pin of Old stays as long as the
// recipe still asks for what it is; so without new inputs and without Update no
// network is used. Local inputs are hashed anew each time.
//
// The epoch is the recipe's; else the environment's SOURCE_DATE_EPOCH; else the
// newest date of the archive indexes that were read, but not before Old's as
// long as a package pinned by Old stays; else Old's; else the present time.
func Resolve(ctx context.Context, o Options) (*Lock, error) {
	s, err := newResolver(o)
	if err != nil {
		return nil, err
	}
	if err := s.inputs(ctx); err != nil {
		return nil, err
	}
	if err := s.toolchain(ctx); err != nil {
		return nil, err
	}
	s.pinIngot()
	if err := s.epoch(); err != nil {
		return nil, err
	}
	return s.l, nil
}

// resolver is one run of Resolve.
type resolver struct {
	o      Options
	l      *Lock
	wants  []want
	newest time.Time // of the archive indexes read in this run
	kept   bool      // a package pinned by Old stays
}

func newResolver(o Options) (*resolver, error) {
	if o.Old == nil || o.Old.Arch != o.Recipe.Arch {
		o.Old = &Lock{}
	}
	r := o.Recipe
	s := &resolver{o: o, wants: wants(r), l: &Lock{
		Format: Format, Name: r.Name, Version: r.Version, Arch: r.Arch,
		Recipe: recipe.Digest(r), Mirror: r.Mirror,
	}}
	for _, n := range o.Update {
		if err := s.checkName(n); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// updating tells whether Update moves the input of a name: it says the name,
// or what stands before a slash in it ("firmware"), or all.
func (s *resolver) updating(name string) bool {
	for _, u := range s.o.Update {
		if u == UpdateAll || u == name || u != UpdateGo && strings.HasPrefix(name, u+"/") {
			return true
		}
	}
	return false
}

// inputs resolves the local ones first and reports all that are wrong with
// them; of the others the first error ends the run.
func (s *resolver) inputs(ctx context.Context) error {
	var errs []error
	for _, w := range s.wants {
		if w.local() {
			errs = append(errs, s.add(ctx, w))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, w := range s.wants {
		if w.local() {
			continue
		}
		if err := s.add(ctx, w); err != nil {
			return err
		}
	}
	slices.SortFunc(s.l.Inputs, func(a, b Input) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

func (s *resolver) add(ctx context.Context, w want) error {
	if old := s.o.Old.Find(w.Name); old != nil && w.keeps(old, s.l.Arch) && !s.updating(w.Name) {
		s.kept = s.kept || old.Kind == KindDeb
		s.l.Inputs = append(s.l.Inputs, *old)
		return nil
	}
	in, err := s.resolve(ctx, w)
	if err != nil {
		return fmt.Errorf("lock %s: %w", w.Name, err)
	}
	in.Name = w.Name
	s.l.Inputs = append(s.l.Inputs, in)
	return nil
}

func (s *resolver) resolve(ctx context.Context, w want) (Input, error) {
	switch w.Kind {
	case KindDeb:
		return s.resolvePackage(ctx, w)
	case KindURL:
		return s.resolveURL(ctx, w)
	case KindOCI:
		in, err := s.o.Fetcher.Image(ctx, w.Path, s.o.Recipe.Dir, s.l.Arch)
		in.Path = w.Path
		return in, err
	case KindGoDir:
		return s.resolveGoDir(ctx, w)
	case KindGoModule:
		return s.resolveModules(ctx, w)
	}
	return hashLocal(s.o.Recipe.Dir, w)
}

func (s *resolver) resolvePackage(ctx context.Context, w want) (Input, error) {
	in, date, err := s.o.Fetcher.Package(ctx, w.Suite, s.l.Arch, w.Package)
	if date.After(s.newest) {
		s.newest = date
	}
	return in, err
}

// resolveURL downloads at once, so that a wrong digest in the recipe is found
// while its author is there; it also learns the size.
func (s *resolver) resolveURL(ctx context.Context, w want) (Input, error) {
	in := Input{Name: w.Name, Kind: KindURL, SHA256: w.SHA256, Path: w.Path}
	path, err := s.o.Fetcher.Fetch(ctx, in, s.o.Recipe.Dir)
	if err != nil {
		return in, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return in, err
	}
	in.Size = info.Size()
	return in, nil
}

// toolchain pins the Go version when there is Go code to compile.
func (s *resolver) toolchain(ctx context.Context) error {
	r := s.o.Recipe
	if len(r.Go) == 0 && len(r.URoot) == 0 {
		return nil
	}
	if old := s.o.Old.Go; old != "" && !s.updating(UpdateGo) {
		s.l.Go = old
		return nil
	}
	if s.o.Go == nil {
		return errNoGo
	}
	v, err := s.o.Go.Version(ctx)
	if err != nil {
		return fmt.Errorf("lock go: %w", err)
	}
	s.l.Go = v
	return nil
}

var errNoGo = errors.New("lock go: the recipe has Go code, and no Go toolchain was found")

func (s *resolver) pinIngot() {
	s.l.Ingot = s.o.Old.Ingot
	if s.l.Ingot == (Ingot{}) || s.updating(UpdateIngot) {
		s.l.Ingot = Ingot{Format: ImageFormat, Init: s.o.Init}
	}
}

func (s *resolver) epoch() error {
	if e := s.o.Recipe.Epoch; e != "" {
		t, err := time.Parse(time.RFC3339, e)
		if err != nil {
			return fmt.Errorf("lock epoch: %w", err)
		}
		s.l.Epoch = t.Unix()
		return nil
	}
	if e := os.Getenv("SOURCE_DATE_EPOCH"); e != "" {
		n, err := strconv.ParseInt(e, 10, 64)
		if err != nil || n < 0 {
			return fmt.Errorf("lock epoch: SOURCE_DATE_EPOCH=%q is not a number of seconds", e)
		}
		s.l.Epoch = n
		return nil
	}
	s.l.Epoch = s.derivedEpoch()
	return nil
}

func (s *resolver) derivedEpoch() int64 {
	old := s.o.Old.Epoch
	if s.updating(UpdateEpoch) {
		old = 0
	}
	switch {
	case !s.newest.IsZero() && s.kept:
		return max(s.newest.Unix(), old)
	case !s.newest.IsZero():
		return s.newest.Unix()
	case old != 0:
		return old
	case s.o.Now != nil:
		return s.o.Now().Unix()
	}
	return time.Now().Unix()
}
