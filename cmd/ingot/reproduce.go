package main

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/ingot-os/ingot/internal/build"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/reproduce"
	"github.com/ingot-os/ingot/internal/ui"
)

type reproduceCmd struct {
	Dir string `arg:"" help:"Image set, as ingot build prints it." type:"path"`
	recipeFlag
	fetchFlags
	Keep    string `help:"Keep the rebuilt set as KEEP/NAME-VERSION." type:"path" placeholder:"DIR"`
	Workers int    `help:"Parallel workers; never changes a byte of the result." hidden:""`
}

// Run makes the set again and exits with 4 when any byte differs.
func (c *reproduceCmd) Run(v *verb) error {
	set, err := release.Open(c.Dir)
	if err != nil {
		return noArtifact(err)
	}
	r, err := c.load()
	if err != nil {
		return ofRelease(err)
	}
	l, err := c.loadLock()
	if err != nil {
		return ofRelease(err)
	}
	fetcher, err := c.fetcher(v.ctx, v, r)
	if err != nil {
		return err
	}
	result, err := reproduce.Run(v.ctx, reproduce.Options{
		Set: set, Recipe: r, Lock: l, Fetcher: fetcher, Version: ingotVersion, Keep: c.Keep, Workers: c.Workers,
		Started: v.ui.StepStarted,
		Report:  func(s build.Step) { v.ui.StepDone(s.Name, s.End.Sub(s.Start), s.Cached, s.Detail) },
	})
	if err != nil {
		return c.explain(err)
	}
	if err := c.print(v, result, set.Manifest.Stem()); err != nil {
		return err
	}
	if !result.Same {
		return ui.Exit(ui.CodeDiffers)
	}
	return nil
}

// ofRelease says of a missing recipe or lock where it comes from.
func ofRelease(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &ui.Error{Err: err, Hint: "-f names the recipe that the set was built from, with its lock beside it, as they were committed"}
	}
	return err
}

// explain adds to an error what to type.
func (c *reproduceCmd) explain(err error) error {
	var other *reproduce.MismatchError
	switch {
	case errors.As(err, &other):
		return &ui.Error{Err: err, Hint: other.Hint()}
	case errors.Is(err, reproduce.ErrExists):
		return &ui.Error{Err: err, Hint: "name another directory with --keep"}
	}
	err = c.recipeFlag.explain(err)
	var own *ui.Error
	if errors.As(err, &own) && strings.HasPrefix(own.Hint, "ingot lock") {
		own.Hint = "restore the sources of the release from version control: a new lock would make another image"
	}
	return err
}

// print says same with all digests, or what differs, the cause first.
func (c *reproduceCmd) print(v *verb, r *reproduce.Result, stem string) error {
	switch {
	case v.ui.JSON:
		return v.ui.PrintJSON(r)
	case r.Same:
		return printSame(v, r, stem)
	}
	return printDiffers(v, r, stem)
}

func printSame(v *verb, r *reproduce.Result, stem string) error {
	if err := v.ui.Print("same: %s of %s, byte for byte", ui.Plural(len(r.Files), "file"), stem); err != nil {
		return err
	}
	for _, f := range r.Files {
		line := f.Rebuilt + "  " + f.Name
		if f.Name == release.EnvelopeName {
			line = f.Name + " is for this " + release.ManifestName
		}
		if err := v.ui.Print("%s", line); err != nil {
			return err
		}
	}
	if r.Kept != "" {
		v.ui.Note("the rebuilt set is in %s", r.Kept)
	}
	return nil
}

// maxCauses bounds the differences that are printed; --json has all.
const maxCauses = 20

func printDiffers(v *verb, r *reproduce.Result, stem string) error {
	differ := 0
	for _, f := range r.Files {
		if !f.Same {
			differ++
		}
	}
	err := v.ui.Print("differs: %d of %s of %s; A is the release, B what its sources give", differ, ui.Plural(len(r.Files), "file"), stem)
	for _, cause := range r.Causes[:min(len(r.Causes), maxCauses)] {
		if err == nil {
			err = v.ui.Print("%s", cause)
		}
	}
	if more := len(r.Causes) - maxCauses; more > 0 && err == nil {
		err = v.ui.Print("and %s more; --json lists all", ui.Plural(more, "difference"))
	}
	if err != nil {
		return err
	}
	if n := len(r.Follows); n > 0 {
		v.ui.Note("%s more follow from that, such as %s", ui.Plural(n, "difference"), r.Follows[0].Where)
	}
	if r.Unsigned {
		v.ui.Say("the release has no signature for what was rebuilt, so signatures were not compared")
	}
	if r.Kept == "" {
		next(v, "ingot reproduce %s --keep DIR keeps the rebuilt set, for ingot diff and other tools", typed(r.Dir))
		return nil
	}
	next(v, "ingot diff %s %s", typed(r.Dir), typed(r.Kept))
	return nil
}

// typed is a directory as it can be typed.
func typed(dir string) string {
	if rel, err := filepath.Rel(mustCwd(), dir); err == nil && len(rel) < len(dir) {
		return rel
	}
	return dir
}
