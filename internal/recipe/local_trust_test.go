package recipe

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLocalTrustIsBounded: what a recipe names as a key is not read before it
// is known to be a file of that size.
func TestLocalTrustIsBounded(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large.pem")
	if err := os.WriteFile(large, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, 1<<42); err != nil { // reading it would never end
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "pipe.pem"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"large.pem": "the file is too large", "pipe.pem": "not a regular file"} {
		r := &Recipe{Dir: dir, Trust: &Trust{Image: []string{name}}}
		if _, err := r.LocalTrust(); err == nil || !strings.Contains(err.Error(), name+" cannot be read: "+want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}
