package gobuild

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ingot-os/ingot/internal/oracle"
)

// toolchain finds Go.
func toolchain(t testing.TB) Toolchain {
	t.Helper()
	tc, err := Find()
	if errors.Is(err, ErrNoGo) {
		oracle.Missing(t, "%v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return tc
}

// write puts files below a new directory.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	writeInto(t, dir, files)
	return dir
}

func writeInto(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		if err := writeFile(filepath.Join(dir, filepath.FromSlash(name)), []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
}

func sum(t testing.TB, path string) string {
	t.Helper()
	s, err := hashFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sha(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

func build(t testing.TB, tc Toolchain, j Job) string {
	t.Helper()
	j.Output = filepath.Join(t.TempDir(), "out")
	if j.Arch == "" {
		j.Arch = "amd64"
	}
	if err := tc.Build(context.Background(), j); err != nil {
		t.Fatal(err)
	}
	return j.Output
}

func runProgram(t testing.TB, path string, args ...string) string {
	t.Helper()
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", path, args, err, out)
	}
	return string(out)
}

// proxy serves modules, "path@version" to files, from a directory in the
// layout of the module proxy protocol.
func proxy(t testing.TB, tc Toolchain, modules map[string]map[string]string) Toolchain {
	t.Helper()
	root := t.TempDir()
	for mv, files := range modules {
		var path, version string
		if n, err := fmt.Sscanf(mv, "%s %s", &path, &version); n != 2 {
			t.Fatal(err)
		}
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		for name, content := range files {
			w, err := z.Create(path + "@" + version + "/" + name)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write([]byte(content)); err != nil {
				t.Fatal(err)
			}
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		writeInto(t, filepath.Join(root, filepath.FromSlash(path), "@v"), map[string]string{
			version + ".info": fmt.Sprintf(`{"Version":%q,"Time":"2024-01-01T00:00:00Z"}`, version),
			version + ".mod":  files["go.mod"], version + ".zip": b.String(), "list": "",
		})
	}
	tc.host = map[string]string{"GOPROXY": "file://" + root, "GOSUMDB": "off", "GOCACHE": tc.host["GOCACHE"]}
	tc.ModCache = moduleCache(t)
	return tc
}

// moduleCache is an empty one; the go command makes its directories read-only.
func moduleCache(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() {
		err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				err = os.Chmod(p, 0o755)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
	return dir
}
