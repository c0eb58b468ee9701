package serve

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ingot-os/ingot/internal/bootrule"
	"github.com/ingot-os/ingot/internal/regular"
	"github.com/ingot-os/ingot/internal/strictyaml"
)

// ruling is a rules file, and the programs that it names.
type ruling struct {
	rules    *bootrule.Rules
	programs map[string][]byte // by name
	stamp    string            // of the file
}

// loadRules reads the rules file, or makes rules of the default.
func (t *site) loadRules(context.Context) error {
	x := &ruling{stamp: stampOf(t.c.Load().Rules)}
	var err error
	if t.c.Load().Rules == "" {
		x.rules, err = t.only()
	} else {
		err = x.read(t.c.Load().Rules)
	}
	if err != nil {
		if old := t.ruled.Load(); old != nil { // said once for each change
			kept := *old
			kept.stamp = x.stamp
			t.ruled.Store(&kept)
		}
		return err
	}
	t.ruled.Store(x)
	t.metrics.rules.Set(float64(len(x.rules.Rules)))
	return nil
}

// only is what all machines boot without a rules file.
func (t *site) only() (*bootrule.Rules, error) {
	text := t.c.Load().Default
	if text == "" {
		text = "local"
		for i, r := range t.offered.Load().list {
			if i > 0 && r.Name != text {
				text = "local"
				break
			}
			text = r.Name
		}
	}
	target, err := bootrule.ParseTarget(text)
	if err != nil {
		return nil, t.c.Load().explain("default", err)
	}
	return bootrule.Only(target), nil
}

func (x *ruling) read(path string) error {
	data, err := regular.Read(path, bootrule.MaxSize)
	if err != nil {
		return fmt.Errorf("read rules: %w", err)
	}
	if x.rules, err = bootrule.Parse(path, data); err != nil {
		return err
	}
	x.programs = map[string][]byte{}
	var errs strictyaml.Errors
	for name := range x.rules.Programs {
		errs = append(errs, x.program(filepath.Dir(path), name)...)
	}
	errs.Sort()
	return errs.Err()
}

// program reads a program of the rules; what is wrong is said at its line.
func (x *ruling) program(dir, name string) strictyaml.Errors {
	p := x.rules.Programs[name]
	file := below(dir, p.File)
	at := func(key, hint, format string, args ...any) strictyaml.Errors {
		return strictyaml.Errors{x.rules.Errorf(fmt.Sprintf("programs[%q].%s", name, key), hint, "load programs."+name+": "+format, args...)}
	}
	data, err := regular.Read(file, maxProgram)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return at("file", "put the program there; or take "+name+" out of programs:, and out of what names it", "%v", err)
	case err != nil:
		return at("file", "name a file that the server's user may read, of 64 MiB at most", "%v", err)
	}
	sum := sha256.Sum256(data)
	if have := hex.EncodeToString(sum[:]); have != p.SHA256 {
		return at("sha256", fmt.Sprintf("if the file is the one you mean, write under programs.%s: sha256: %s", name, have), "%s has the SHA-256 %s, not %s", file, have, p.SHA256)
	}
	x.programs[name] = data
	return nil
}

// maxProgram bounds a program of the rules in bytes.
const maxProgram = 64 << 20

// rules is how many rules there are.
func (t *site) rules() int { return len(t.ruled.Load().rules.Rules) }

// rulesChanged reports whether the rules file is another one than was read.
func (t *site) rulesChanged() bool {
	return t.c.Load().Rules != "" && stampOf(t.c.Load().Rules) != t.ruled.Load().stamp
}

func stampOf(path string) string {
	info, err := os.Stat(path)
	switch {
	case path == "" || errors.Is(err, fs.ErrNotExist):
		return ""
	case err != nil:
		return err.Error()
	}
	return fmt.Sprint(info.Size(), info.ModTime().UnixNano())
}
