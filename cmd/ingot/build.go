package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/ingot-os/ingot/internal/build"
	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/ui"
)

type buildCmd struct {
	recipeFlag
	fetchFlags
	keysFlags
	Out      string `short:"o" default:"out" help:"Directory that gets NAME-VERSION/." type:"path"`
	Trace    string `help:"Write one JSON record per step to this file." type:"path"`
	SBOM     string `name:"sbom" enum:"cyclonedx,spdx" default:"cyclonedx" help:"spdx writes a second SBOM in that form, sbom.spdx.json."`
	Unsigned bool   `help:"Build without signatures, and say nothing about it."`
	Workers  int    `help:"Parallel workers; never changes a byte of the result." hidden:""`
}

// Run builds and prints the directory of the image set.
func (c *buildCmd) Run(v *verb) error {
	r, err := c.load()
	if err != nil {
		return err
	}
	l, err := c.loadLock()
	if err != nil {
		return err
	}
	fetcher, err := c.fetcher(v.ctx, v, r)
	if err != nil {
		return err
	}
	o := build.Options{Recipe: r, Lock: l, Fetcher: fetcher, Out: c.Out, Version: ingotVersion, Workers: c.Workers, SPDX: c.SBOM == "spdx", Started: v.ui.StepStarted}
	if err := c.sign(v, &o); err != nil {
		return err
	}
	trace, err := newTrace(c.Trace)
	if err != nil {
		return err
	}
	defer trace.close()
	o.Report = func(s build.Step) {
		v.ui.StepDone(s.Name, s.End.Sub(s.Start), s.Cached, s.Detail)
		trace.record(s)
	}
	result, err := build.Build(v.ctx, o)
	if err != nil {
		return c.explain(err)
	}
	if err := trace.close(); err != nil {
		return err
	}
	m := result.Set.Manifest
	if v.ui.JSON {
		return v.ui.PrintJSON(struct {
			Dir       string `json:"dir"`
			Unchanged bool   `json:"unchanged"`
			Manifest  any    `json:"manifest"`
		}{result.Set.Dir, result.Unchanged, m})
	}
	if err := v.ui.Built(result.Set.Dir, result.Unchanged, m); err != nil {
		return err
	}
	if o.Authority == nil && !c.Unsigned {
		next(v, "the set is unsigned: ingot build --keys DIR signs it, ingot keys init DIR makes keys, --unsigned means it")
	}
	return nil
}

// sign adds the keys to a build, unless it shall have no signatures.
func (c *buildCmd) sign(v *verb, o *build.Options) error {
	if c.Unsigned {
		return nil
	}
	a, err := c.authority(v.ctx)
	if err != nil {
		return err
	}
	if a == nil {
		return c.keepSigned(o)
	}
	o.Authority, o.Identity = a, a.Identity()
	return warnForeign(v, o.Recipe, c.Keys)
}

// keepSigned refuses to put an unsigned set in the place of a signed one: who
// forgot --keys has lost signatures that may have taken two people and a token.
func (c *buildCmd) keepSigned(o *build.Options) error {
	dir := filepath.Join(o.Out, o.Lock.Name+"-"+o.Lock.Version)
	if _, err := os.Stat(filepath.Join(dir, release.EnvelopeName)); err != nil {
		return nil
	}
	return &ui.Error{
		Err:  fmt.Errorf("%s is signed; a build without keys would take its place", dir),
		Hint: "--keys DIR signs this build, --unsigned replaces the signed set, -o names another directory",
	}
}

// traceFile is --trace: JSON lines, nothing when no file is named.
type traceFile struct {
	f   *os.File
	err error
}

func newTrace(path string) (*traceFile, error) {
	if path == "" {
		return &traceFile{}, nil
	}
	f, err := os.Create(path)
	return &traceFile{f: f}, err
}

func (t *traceFile) record(s build.Step) {
	if t.f == nil || t.err != nil {
		return
	}
	t.err = json.NewEncoder(t.f).Encode(s)
}

func (t *traceFile) close() error {
	if t.f == nil {
		return nil
	}
	err := t.f.Close()
	t.f = nil
	if t.err != nil {
		return t.err
	}
	return err
}

// ingotVersion is the version of this program; CHANGELOG.md has the same.
const ingotVersion = "0.1.0"

type versionCmd struct{}

// Run prints the version, the image format and the toolchain.
func (versionCmd) Run(v *verb) error {
	return v.ui.Version(ingotVersion, lock.ImageFormat, runtime.Version())
}
