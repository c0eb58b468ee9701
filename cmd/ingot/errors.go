package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/internal/source"
	"github.com/ingot-os/ingot/internal/source/debian"
	"github.com/ingot-os/ingot/internal/ui"
)

// explain gives an error about a recipe or its lock what only the command line
// knows: the exit code of a refused signature or download, and hints that can
// be typed as they stand.
func (f recipeFlag) explain(err error) error {
	if err == nil {
		return nil
	}
	out := &ui.Error{Err: err, Hint: f.hint(err)}
	if refused(err) {
		out.Code = ui.CodeRefused
	}
	return out
}

// hint repeats -f in a hint that says "ingot lock".
func (f recipeFlag) hint(err error) string {
	var malformed *lock.FormatError
	if errors.As(err, &malformed) {
		return "restore " + f.lockPath() + " from version control, or remove it and type: ingot lock" + f.arg()
	}
	var with interface{ Hint() string }
	var own *ui.Error
	hint := ""
	switch {
	case errors.As(err, &own):
		hint = own.Hint
	case errors.As(err, &with):
		hint = with.Hint()
	}
	if rest, ok := strings.CutPrefix(hint, "ingot lock"); ok && !strings.Contains(hint, " -f ") {
		return "ingot lock" + f.arg() + rest
	}
	return hint
}

// refused tells whether a check of what came over the network said no. A local
// file that changed is an error like any other.
func refused(err error) bool {
	var digest *source.DigestError
	if errors.As(err, &digest) && strings.Contains(digest.From, "://") {
		return true
	}
	return slices.ContainsFunc([]error{debian.ErrSignature, debian.ErrUnsigned, debian.ErrExpired, debian.ErrWrongSuite},
		func(target error) bool { return errors.Is(err, target) })
}
