package main

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/ingot-os/ingot/internal/build"
	"github.com/ingot-os/ingot/internal/initbin"
	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/internal/recipe"
	"github.com/ingot-os/ingot/internal/source"
	"github.com/ingot-os/ingot/internal/ui"
)

type checkCmd struct {
	recipeFlag
}

// Run reports everything that is wrong with the recipe at once, and which
// rules could not be checked because an input is not locked or fetched yet.
func (c *checkCmd) Run(v *verb) error {
	_, report, err := recipe.CheckFile(c.path(), c.facts)
	if errors.Is(err, fs.ErrNotExist) {
		return &ui.Error{Err: err, Hint: "ingot init DIR writes a recipe to start from; -f names another file"}
	}
	if err != nil {
		return err
	}
	if v.ui.JSON {
		if err := v.ui.PrintJSON(report); err != nil {
			return err
		}
	} else {
		c.print(v, report)
	}
	if len(report.Errors) > 0 {
		return ui.Exit(ui.CodeError)
	}
	return nil
}

// facts are what the lock beside the recipe and the cache know.
func (c *checkCmd) facts(r *recipe.Recipe) recipe.Facts {
	l, err := lock.Read(c.lockPath())
	if err != nil {
		l = nil
	}
	store, err := source.Default()
	if err != nil {
		return recipe.Facts{Now: time.Now()}
	}
	facts := build.Facts(store, l)
	facts.Now = time.Now()
	facts.StubError = build.StubError(store, l, r)
	if init, err := initbin.Open(initbin.For(r.Attest, r.Data.Encrypt, r.Update), r.Arch); err == nil {
		facts.Init = int64(len(init))
	}
	return facts
}

func (c *checkCmd) print(v *verb, report recipe.Report) {
	for _, e := range report.Errors {
		fmt.Fprintln(v.ui.Err, e)
	}
	for _, w := range report.Warnings {
		fmt.Fprintln(v.ui.Err, "warning:", w)
	}
	for _, s := range report.Skipped {
		v.ui.Say("not checked: %s: %s", s.Rule, s.Why)
	}
	if len(report.Errors) > 0 {
		v.ui.Say("%s in %s", ui.Plural(len(report.Errors), "error"), c.path())
		return
	}
	v.ui.Print("%s: ok", c.path())
}
