package recipe

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/internal/testmark"
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

// TestBareTestKeys: a public key has no name that says TEST; the text of its file does, in a
// file of its own and in a directory.
func TestBareTestKeys(t *testing.T) {
	const want = "trust names TEST keys"
	for _, test := range []bool{false, true} {
		dir := t.TempDir()
		data, err := os.ReadFile("testdata/good/trust/image.pem")
		if err != nil {
			t.Fatal(err)
		}
		if test {
			block, _ := pem.Decode(data)
			data = testmark.PEM(block)
		}
		if err := os.WriteFile(filepath.Join(dir, "image.pem"), data, 0o644); err != nil {
			t.Fatal(err)
		}
		for _, trust := range []string{"{image: [" + dir + "/image.pem]}", "{keys: " + dir + "}"} {
			rep := examine(t, "trust: "+trust+"\n", Facts{})
			if len(rep.Errors) > 0 || strings.Contains(rep.Warnings.Error(), want) != test {
				t.Errorf("%s, TEST %v: errors %v, warnings %v", trust, test, rep.Errors, rep.Warnings)
			}
		}
	}
}
