package golden

import (
	"os"
	"path/filepath"
	"testing"
)

type failing struct {
	testing.TB
	failed bool
}

func (f *failing) Errorf(string, ...any) { f.failed = true }

func TestEqual(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "file.txt")
	*update = true
	Equal(t, path, "one\n")
	*update = false
	Equal(t, path, "one\n")
	f := &failing{TB: t}
	Equal(f, path, "two\n")
	if b, err := os.ReadFile(path); !f.failed || err != nil || string(b) != "one\n" {
		t.Errorf("failed: %v; file %q, %v", f.failed, b, err)
	}
}
