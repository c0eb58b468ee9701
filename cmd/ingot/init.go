package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/internal/recipe"
	"github.com/ingot-os/ingot/internal/ui"
)

type initCmd struct {
	Dir string `arg:"" help:"Directory to write the recipe into; made when missing." type:"path"`
}

// Run writes the template; a file that exists is never overwritten.
func (c *initCmd) Run(v *verb) error {
	files := recipe.InitYAML(c.Dir)
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if _, err := os.Lstat(filepath.Join(c.Dir, name)); !errors.Is(err, fs.ErrNotExist) {
			return &ui.Error{Err: fmt.Errorf("write %s: it exists already", filepath.Join(c.Dir, name)), Hint: "choose another directory; nothing was written"}
		}
	}
	if err := c.write(names, files); err != nil {
		return err
	}
	if v.ui.JSON {
		return v.ui.PrintJSON(map[string]any{"dir": c.Dir, "files": names})
	}
	for _, name := range names {
		fmt.Fprintln(v.ui.Out, filepath.Join(c.Dir, name))
	}
	v.ui.Hint("cd %s && ingot lock && ingot build && ingot run out/*", shellWord(c.Dir))
	return nil
}

// shellWord writes a path so that the hint it stands in can be typed.
func shellWord(path string) string {
	if strings.Trim(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._+,@%:-") == "" {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

// write takes back what it wrote when it cannot write everything.
func (c *initCmd) write(names []string, files map[string]string) error {
	for i, name := range names {
		path := filepath.Join(c.Dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o777)
		if err == nil {
			err = os.WriteFile(path, []byte(files[name]), 0o666)
		}
		if err != nil {
			for _, done := range names[:i+1] {
				os.Remove(filepath.Join(c.Dir, done))
			}
			return err
		}
	}
	return nil
}
