package main

import (
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/ingot-os/ingot/internal/inspect"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/ui"
)

type inspectCmd struct {
	Path string `arg:"" help:"Image set, image, device, UKI, initramfs, root, manifest or lock." type:"path"`
}

// Run prints the artifact as stable text or JSON.
func (c *inspectCmd) Run(v *verb) error {
	n, err := inspect.Path(c.Path)
	if err != nil {
		return noArtifact(err)
	}
	if v.ui.JSON {
		return v.ui.PrintJSON(n)
	}
	return n.WriteText(v.ui.Out)
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
	diffs, err := inspect.Compare(c.A, c.B)
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
