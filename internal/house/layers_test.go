// Package house tests the repository itself: who may import whom, what pure
// packages may not touch, and that every package says what it is.
package house

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

const module = "github.com/ingot-os/ingot/"

// layers is the policy. A package may import packages of lower layers only;
// within one layer nothing imports each other, except in internal,
// where the order of the list decides: a package may import those before it.
// A package that is not listed is an error, so the table stays complete.
var layers = [][]string{
	{ // 0 pure: no os, net, exec, log, clock, randomness
		"partition/tree", "partition/gpt", "partition/fat", "partition/squashfs", "partition/verity", "partition/state", "partition/luks",
		"partition/blocks", "partition/qcow2", "partition/vhd", "partition/vmdk", "partition/iso", "partition/frames", "partition/blockmap",
		"initramfs/kmod",
		"boot/cmdline", "boot/pe", "boot/efivar", "boot/varstore", "boot/bls", "boot/slot",
		"boot/pkcs7", "boot/authenticode", "boot/esl",
		"attest/pcr", "attest/phase", "attest/statement", "attest/eventlog", "attest/predict", "attest/quote", "attest/policy",
		"pxe/netboot", "pxe/dhcp", "pxe/dhcp6", "pxe/limit",
	},
	{ // 1 edges: each wraps one outside thing
		"partition/erofs", "initramfs/gobuild", "attest/tpm", "pxe/tftp", "pxe/httpboot", "pxe/dhcpd", "pxe/dhcpd6",
	},
	{ // 2 chapter roots
		"initramfs", "partition", "boot", "attest",
	},
	{ // 3 writes whole layouts to devices, so it stands on its chapter root
		"partition/flash",
	},
	{ // 4 composition; order matters
		"internal/house", "internal/oracle", "internal/netlab", "internal/tpmtest", "internal/disktest", "internal/golden", "internal/testkey",
		"internal/regular", "internal/visible", "internal/pemfile", "internal/testmark", "internal/jsondoc", "internal/sparse", "internal/delta",
		"internal/appliance", "internal/audit", "internal/attestapi", "internal/updateapi", "internal/netslot", "internal/assign", "internal/trust", "internal/strictyaml", "internal/bootrule", "internal/timeline", "internal/machine", "internal/recipe",
		"internal/keys", "internal/lock", "internal/source", "internal/initbin", "internal/release", "internal/chain", "internal/depot", "internal/bootfiles",
		"internal/dsse", "internal/hostclient", "internal/accept", "internal/sbom", "internal/provenance", "internal/measure", "internal/reference", "internal/verify", "internal/fleet", "internal/ear", "internal/evidence", "internal/verifier", "internal/dispatch", "internal/vuln", "internal/imageset", "internal/signing", "internal/build", "internal/inspect", "internal/reproduce",
		"internal/qemu", "internal/rig", "internal/smoke",
		"internal/simhost", "internal/replay", "internal/agent", "internal/hosttest", "internal/slotdisk", "internal/stick", "internal/ui", "internal/attestd", "internal/serve", "internal/powercut", "internal/e2e", "internal/bench",
	},
	{ // 5 programs
		"cmd/ingot", "cmd/ingot-init", "cmd/ingot-init-fleet", "packaging",
	},
}

// compositionLayer is the index of internal in layers.
const compositionLayer = 4

// pureOrder lists what a pure package may import of its own layer: formats
// that speak about trees or stand on another format. Of these, one may import
// those before it.
var pureOrder = []string{"partition/tree", "partition/blocks", "boot/cmdline", "partition/gpt", "boot/pe", "boot/pkcs7", "boot/efivar",
	"boot/authenticode", "boot/esl", "attest/pcr", "attest/eventlog", "attest/quote", "attest/statement", "pxe/netboot"}

// pureRoots are chapter roots that are as pure as layer 0.
var pureRoots = []string{"attest"}

// impure are imports that no package of layer 0 may have.
var impure = []string{"os", "net", "net/http", "os/exec", "log", "log/slog", "math/rand", "math/rand/v2", "crypto/rand", "syscall", "golang.org/x/sys/unix"}

// clock are the functions of package time that read the clock.
var clock = []string{"Now", "Since", "Until", "After", "Tick", "NewTimer", "NewTicker", "Sleep", "AfterFunc"}

type source struct {
	pkg  string // path below the module
	path string
	file *ast.File
}

func sources(t *testing.T) []source {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	var out []source
	fset := token.NewFileSet()
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if skipDir(root, path, d.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		f, err := parser.ParseFile(fset, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, filepath.Dir(path))
		out = append(out, source{filepath.ToSlash(rel), path, f})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func skipDir(root, path, name string) bool {
	if path == root {
		return false
	}
	if name == "testdata" || name == "out" || strings.HasPrefix(name, ".") {
		return true
	}
	_, err := os.Stat(filepath.Join(path, "go.mod")) // an example's own module
	return err == nil
}

// home gives the layer and the position of a package; a package below a listed
// one belongs to it (internal/agent/netconf to internal/agent).
func home(pkg string) (layer, pos int, ok bool) {
	best := -1
	for l, names := range layers {
		for p, n := range names {
			if (pkg == n || strings.HasPrefix(pkg, n+"/") && l >= compositionLayer) && len(n) > best {
				layer, pos, ok, best = l, p, true, len(n)
			}
		}
	}
	return layer, pos, ok
}

func TestImportsGoDownOnly(t *testing.T) {
	for _, s := range sources(t) {
		layer, pos, ok := home(s.pkg)
		if !ok {
			t.Errorf("%s: package %s is not in the layer table of internal/house", s.path, s.pkg)
			continue
		}
		if strings.HasSuffix(s.path, "_test.go") {
			continue
		}
		for _, imp := range s.file.Imports {
			p, found := strings.CutPrefix(strings.Trim(imp.Path.Value, `"`), module)
			if !found || p == s.pkg {
				continue
			}
			l, q, ok := home(p)
			if !ok || !mayImport(s.pkg, layer, pos, p, l, q) {
				t.Errorf("%s: %s (layer %d) may not import %s (layer %d)", s.path, s.pkg, layer, p, l)
			}
		}
	}
}

func mayImport(pkg string, layer, pos int, imp string, l, q int) bool {
	switch {
	case l < layer:
		return true
	case l > layer:
		return false
	case layer == 0:
		at, own := slices.Index(pureOrder, imp), slices.Index(pureOrder, pkg)
		return at >= 0 && (own < 0 || at < own)
	case layer == compositionLayer:
		return q <= pos
	}
	return false
}

func TestPurePackagesTouchNothing(t *testing.T) {
	for _, s := range sources(t) {
		if layer, _, ok := home(s.pkg); !ok || layer != 0 && !slices.Contains(pureRoots, s.pkg) || strings.HasSuffix(s.path, "_test.go") {
			continue
		}
		for _, imp := range s.file.Imports {
			if p := strings.Trim(imp.Path.Value, `"`); slices.Contains(impure, p) {
				t.Errorf("%s: a pure package imports %s", s.path, p)
			}
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(clock, sel.Sel.Name) {
				t.Errorf("%s: a pure package calls time.%s", s.path, sel.Sel.Name)
			}
			return true
		})
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	docs := map[string]int{}
	for _, s := range sources(t) {
		if strings.HasSuffix(s.file.Name.Name, "_test") {
			continue
		}
		if s.file.Doc != nil {
			docs[s.pkg]++
		} else {
			docs[s.pkg] += 0
		}
	}
	for pkg, n := range docs {
		if n != 1 {
			t.Errorf("%s: %d package comments, want 1", pkg, n)
		}
	}
}

func TestExportedNamesAreDocumented(t *testing.T) {
	for _, s := range sources(t) {
		if strings.HasSuffix(s.path, "_test.go") {
			continue
		}
		for _, d := range s.file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && d.Doc == nil && !slices.Contains(selfEvident, d.Name.Name) && (d.Recv == nil || exportedReceiver(d)) {
					t.Errorf("%s: func %s has no comment", s.path, d.Name.Name)
				}
			case *ast.GenDecl:
				checkSpecs(t, s.path, d)
			}
		}
	}
}

// selfEvident are methods whose interface says all there is to say.
var selfEvident = []string{"Error", "String", "Unwrap"}

func exportedReceiver(d *ast.FuncDecl) bool {
	typ := d.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	id, ok := typ.(*ast.Ident)
	return ok && id.IsExported()
}

func checkSpecs(t *testing.T, path string, d *ast.GenDecl) {
	for _, spec := range d.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			if spec.Name.IsExported() && spec.Doc == nil && d.Doc == nil {
				t.Errorf("%s: type %s has no comment", path, spec.Name.Name)
			}
		case *ast.ValueSpec:
			if spec.Names[0].IsExported() && spec.Doc == nil && d.Doc == nil && spec.Comment == nil {
				t.Errorf("%s: %s has no comment", path, spec.Names[0].Name)
			}
		}
	}
}
