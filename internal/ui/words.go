package ui

import (
	"fmt"
	"strings"

	"github.com/ingot-os/ingot/internal/inspect"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/source"
)

// Built is the result of ingot build: the directory on Out, and on a terminal
// what is in it and what to do next.
func (u *UI) Built(dir string, unchanged bool, m *release.Manifest) error {
	if err := u.Print("%s", dir); err != nil {
		return err
	}
	if !u.Terminal {
		return nil
	}
	if unchanged {
		u.Say("nothing has changed since the last build")
	}
	for _, f := range m.Files {
		u.Say("%-28s %9s  sha256 %s", f.Name, Size(f.Size), Short(f.SHA256))
	}
	u.Hint("ingot run %s", dir)
	return nil
}

// Differences is the result of ingot diff, one difference a line.
func (u *UI) Differences(a, b string, diffs []inspect.Difference) error {
	if len(diffs) == 0 {
		u.Note("no differences")
		return nil
	}
	if err := u.Print("A: %s\nB: %s", a, b); err != nil {
		return err
	}
	for _, d := range diffs {
		if err := u.Print("%s", d); err != nil {
			return err
		}
	}
	u.Note("%s", Plural(len(diffs), "difference"))
	return nil
}

// Version is the result of ingot version: of the program, of the images it
// makes, and of the Go toolchain that compiled it.
func (u *UI) Version(version string, format int, goVersion string) error {
	if u.JSON {
		return u.PrintJSON(struct {
			Version string `json:"version"`
			Format  int    `json:"format"`
			Go      string `json:"go,omitempty"`
		}{version, format, goVersion})
	}
	line := fmt.Sprintf("ingot %s, image format %d", version, format)
	if goVersion != "" {
		line += ", go " + strings.TrimPrefix(goVersion, "go")
	}
	return u.Print("%s", line)
}

// Transfer draws the progress of a download.
func (u *UI) Transfer(p source.Progress) { u.Progress("fetch "+p.Name, p.Done, p.Total, p.End) }

// Short is the first 12 digits of a digest: enough for a person to compare.
func Short(digest string) string {
	if len(digest) > 12 {
		return digest[:12]
	}
	return digest
}
