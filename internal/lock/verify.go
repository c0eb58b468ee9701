package lock

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ingot-os/ingot/internal/lock/local"
	"github.com/ingot-os/ingot/internal/recipe"
)

// Mismatch is one difference between a lock and what it was made from.
type Mismatch struct {
	Name string // of the input, or "recipe"
	Path string // the file
	Want string // what the lock says
	Got  string
	Hint string // the command that accepts what is there
}

// String writes it for people, in one line.
func (m Mismatch) String() string {
	return fmt.Sprintf("check %s: %s: expected %s, got %s", m.Name, m.Path, m.Want, m.Got)
}

// MismatchError is all that Verify found.
type MismatchError []Mismatch

// Error implements error.
func (e MismatchError) Error() string {
	lines := make([]string, len(e))
	for i, m := range e {
		lines[i] = m.String()
	}
	return strings.Join(lines, "\n")
}

// Hint is the command that accepts what is there.
func (e MismatchError) Hint() string {
	if len(e) == 0 {
		return ""
	}
	for _, m := range e {
		if m.Hint != e[0].Hint {
			return "ingot lock"
		}
	}
	return e[0].Hint
}

// Verify compares the recipe and every local file with the lock, by content:
// times are not trusted. All differences come back at once as a MismatchError.
//
// Of a local Go program the files that were locked are compared; a file that
// nothing imported then is seen by the next Resolve.
func Verify(l *Lock, r *recipe.Recipe) error {
	var list MismatchError
	if got := recipe.Digest(r); got != l.Recipe {
		list = append(list, Mismatch{"recipe", r.Path, sum(l.Recipe), sum(got), "ingot lock"})
	}
	for i := range l.Inputs {
		list = append(list, verifyInput(&l.Inputs[i], r.Dir)...)
	}
	if len(list) == 0 {
		return nil
	}
	return list
}

func sum(sha string) string { return "sha256 " + sha }

func verifyInput(in *Input, dir string) []Mismatch {
	hint := "ingot lock --update " + in.Name
	switch in.Kind {
	case KindFile:
		return verifyFile(in, resolvePath(dir, in.Path), hint)
	case KindDir:
		return verifyFiles(in, resolvePath(dir, in.Path), hint)
	case KindGoDir:
		return verifyFiles(in, dir, hint)
	}
	return nil
}

func verifyFile(in *Input, path, hint string) []Mismatch {
	got, _, err := local.HashFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return []Mismatch{{in.Name, path, sum(in.SHA256), local.Nothing, hint}}
	}
	if err != nil {
		return []Mismatch{{in.Name, path, sum(in.SHA256), err.Error(), hint}}
	}
	if got != in.SHA256 {
		return []Mismatch{{in.Name, path, sum(in.SHA256), sum(got), hint}}
	}
	info, err := os.Stat(path)
	if err != nil {
		return []Mismatch{{in.Name, path, sum(in.SHA256), err.Error(), hint}}
	}
	if mode := local.ModeText(info.Mode()); mode != in.Mode {
		return []Mismatch{{in.Name, path, modeName(in.Mode), modeName(mode), hint}}
	}
	return nil
}

func modeName(text string) string {
	if text == "" {
		text = "0644"
	}
	return "mode " + text
}

func verifyFiles(in *Input, dir, hint string) []Mismatch {
	var list []Mismatch
	for _, m := range local.Compare(dir, in.Files, in.Kind == KindDir) {
		list = append(list, Mismatch{in.Name, filepath.Join(dir, filepath.FromSlash(m.Path)), m.Want, m.Got, hint})
	}
	return list
}
