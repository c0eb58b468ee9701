package main

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/ingot-os/ingot/internal/inspect"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/ui"
)

type inspectCmd struct {
	Path string `arg:"" help:"Anything that ingot writes: image set, image, device, boot file, root, document, evidence, state of a server." type:"path"`
}

// Run prints the artifact as stable text or JSON.
func (c *inspectCmd) Run(v *verb) error {
	n, err := abandon(v.ctx, func() (*inspect.Node, error) { return inspect.Path(c.Path) })
	if err != nil {
		return noArtifact(err)
	}
	if v.ui.JSON {
		return v.ui.PrintJSON(n)
	}
	return n.WriteText(v.ui.Out)
}

// abandon gives up on f, which only reads and knows no context, when the
// operator interrupts: a whole disk takes minutes.
func abandon[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := f()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// noArtifact says what to name when a directory is no image set.
func noArtifact(err error) error {
	var missing *fs.PathError
	if errors.As(err, &missing) && filepath.Base(missing.Path) == release.ManifestName && errors.Is(err, fs.ErrNotExist) {
		return &ui.Error{Err: err, Hint: "name an image set (OUT/NAME-VERSION as ingot build prints it) or a file"}
	}
	return err
}

type diffCmd struct {
	A string `arg:"" help:"One artifact." type:"path"`
	B string `arg:"" help:"The other." type:"path"`
}

// Run prints every structural difference, the first one first, and exits with 4 when there is any.
func (c *diffCmd) Run(v *verb) error {
	diffs, err := abandon(v.ctx, func() ([]inspect.Difference, error) { return inspect.Compare(c.A, c.B) })
	if err != nil {
		return noArtifact(err)
	}
	if v.ui.JSON {
		if diffs == nil {
			diffs = []inspect.Difference{}
		}
		if err := v.ui.PrintJSON(diffs); err != nil {
			return err
		}
	} else if err := v.ui.Differences(c.A, c.B, diffs); err != nil {
		return err
	}
	if len(diffs) > 0 {
		return ui.Exit(ui.CodeDiffers)
	}
	return nil
}
