package keys

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestHints: what cannot be used is named, with what to do about it.
func TestHints(t *testing.T) {
	dir := copyOf(t, realDir)
	s := open(t, dir)
	if err := errors.Join(os.Chmod(filepath.Join(dir, "hosts.key"), 0o604), os.Remove(filepath.Join(dir, "operator.key")), os.Remove(filepath.Join(dir, "db.key")), os.Remove(filepath.Join(dir, "policy.pub"))); err != nil {
		t.Fatal(err)
	}
	reach := func(p Purpose) error {
		_, err := s.Signer(context.Background(), p, "prod")
		return err
	}
	_, opened := Open(dir)
	_, alone := Reach(context.Background(), "file:"+filepath.Join(dir, "db.key"), s.Public(DB))
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"readable by others":       {reach(Hosts), "chmod 600 " + filepath.Join(dir, "hosts.key")},
		"no operator key":          {reach(Operator), "operators run where the whole key set is, or at least its operator.key"},
		"no private key":           {reach(DB), "at least its db.key"},
		"no public key":            {opened, "copy policy.pub there from the whole key set"},
		"another user's file":      {&FileError{filepath.Join(dir, "image.key"), Image, fs.ErrPermission}, "sudo chown "},
		"another user's directory": {&FileError{filepath.Join(dir, "none", "image.key"), Image, fs.ErrPermission}, filepath.Join(dir, "none") + " is another user's"},
	} {
		var file *FileError
		if !errors.As(c.err, &file) || !strings.Contains(file.Hint(), c.want) {
			t.Errorf("%s: %v, %+v, want a hint with %q", name, c.err, file, c.want)
		}
	}
	var file *FileError
	if !errors.As(alone, &file) || file.Hint() != "" {
		t.Errorf("outside of any set: %v, a hint about a set", alone)
	}
}
