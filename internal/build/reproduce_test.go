package build

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestRepeats builds one lock twenty times, each from nothing: maps are walked
// in another order each time, and goroutines end in another order.
func TestRepeats(t *testing.T) {
	a := &edited{version: "1.0.0", compress: "zstd", root: "squashfs", services: 1, modules: 2, tree: 2}
	b := newBench(t, "")
	a.write(b)
	o := b.options()
	first := b.clean(o)
	for i := range 19 {
		o.Workers = 1 + i%8
		again := b.clean(o)
		if !sameSet(t, first, again) {
			explain(t, first, again)
			t.Fatalf("build %d differs from the first", i+2)
		}
		os.RemoveAll(filepath.Dir(again))
	}
}

// hostState are the functions that answer differently on another host, for
// another user or at another time.
var hostState = map[string][]string{
	"time":         {"Now", "Since", "Until"},
	"os":           {"Hostname", "Getuid", "Geteuid", "Getgid", "Getegid", "Getpid", "Getwd", "UserHomeDir", "UserCacheDir", "Environ", "Getenv", "LookupEnv"},
	"os/user":      {"Current", "Lookup"},
	"math/rand":    {"*"},
	"math/rand/v2": {"*"},
	"crypto/rand":  {"*"},
}

// known are the uses that never reach a byte of an image.
var known = map[string]string{
	"internal/build/step.go time.Now":           "times of steps, for progress and trace",
	"internal/build/programs.go os.UserHomeDir": "where the Go toolchain keeps its cache",
	"initramfs/gobuild/gobuild.go os.LookupEnv": "what the Go toolchain needs to run at all",
	"initramfs/gobuild/gobuild.go os.Environ":   "asks the Go toolchain for its settings",
}

// TestNoHostState reads the source of everything that decides about bytes: no
// clock, no randomness, no user, no host name, no environment. It is why the
// clock of a build cannot matter, beyond the one that a test can move.
func TestNoHostState(t *testing.T) {
	used := map[string]bool{}
	for _, dir := range []string{"internal/build", "internal/release", "internal/lock/local", "internal/initbin", "initramfs", "partition", "boot"} {
		err := filepath.WalkDir(filepath.Join("../..", dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() {
				if slices.Contains([]string{"flash", "testdata", "buildtest", "generate", "template"}, d.Name()) {
					return filepath.SkipDir // writes devices, not images; or is not in the program
				}
				return nil
			}
			if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
				rel, _ := filepath.Rel("../..", path)
				checkSource(t, path, filepath.ToSlash(rel), used)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for use, why := range known {
		if !used[use] {
			t.Errorf("%s is listed as known (%q), used: %v", use, why, used[use])
		}
	}
}

func checkSource(t *testing.T, path, name string, used map[string]bool) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	imports := map[string]string{} // local name -> path
	for _, i := range f.Imports {
		p := strings.Trim(i.Path.Value, `"`)
		local := strings.TrimSuffix(p, "/v2")
		local = local[strings.LastIndexByte(local, '/')+1:]
		if i.Name != nil {
			local = i.Name.Name
		}
		imports[local] = p
	}
	ast.Inspect(f, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		x, ok := sel.X.(*ast.Ident)
		if !ok {
			return true
		}
		bad := hostState[imports[x.Name]]
		if !slices.Contains(bad, sel.Sel.Name) && !slices.Contains(bad, "*") {
			return true
		}
		use := name + " " + imports[x.Name] + "." + sel.Sel.Name
		used[use] = true
		if _, ok := known[use]; !ok {
			t.Errorf("%s: a build must not depend on it", use)
		}
		return true
	})
}
