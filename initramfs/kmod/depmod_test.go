package kmod

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/partition/tree"
)

// unpack writes a tree below a new directory.
func unpack(t *testing.T, tr *tree.Tree) string {
	t.Helper()
	dir := t.TempDir()
	for _, n := range tr.Nodes() {
		p := filepath.Join(dir, n.Path)
		if n.Mode.IsDir() {
			if err := os.MkdirAll(p, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		r, err := n.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// depmod runs the real one over dir and returns the lines of its text files.
func depmod(t *testing.T, dir, version string) map[string][]string {
	t.Helper()
	cmd := exec.Command(oracle.Need(t, "kmod", "depmod"), "-b", dir, version)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("depmod: %v\n%s", err, out)
	}
	lists := map[string][]string{}
	for _, name := range []string{"modules.dep", "modules.alias", "modules.softdep"} {
		b, err := os.ReadFile(filepath.Join(dir, "lib/modules", version, name))
		if err != nil {
			t.Fatal(err)
		}
		lists[name] = textLines(string(b))
	}
	return lists
}

// textLines drops comments and empty lines.
func textLines(s string) []string {
	return slices.DeleteFunc(strings.Split(s, "\n"), func(l string) bool { return l == "" || strings.HasPrefix(l, "#") })
}

// sortDeps orders the dependencies of each line: any order that puts a module
// before what it needs is right, and checkOrder sees to that.
func sortDeps(lines []string) []string {
	out := slices.Clone(lines)
	for i, l := range out {
		f := strings.Fields(l)
		slices.Sort(f[1:])
		out[i] = strings.Join(f, " ")
	}
	return out
}

// checkOrder verifies that modprobe, which loads a line from its end, finds
// the needs of each module loaded.
func checkOrder(t *testing.T, lines []string) {
	t.Helper()
	needs := map[string][]string{}
	for _, l := range lines {
		f := strings.Fields(l)
		needs[strings.TrimSuffix(f[0], ":")] = f[1:]
	}
	for m, deps := range needs {
		for i, d := range deps {
			for _, n := range needs[d] {
				if !slices.Contains(deps[i+1:], n) {
					t.Errorf("%s: %s comes after %s, which needs it", m, n, d)
				}
			}
		}
	}
}

// compareDepmod writes a selection and lets depmod write the same files.
func compareDepmod(t *testing.T, sel Selection) {
	t.Helper()
	tr, err := sel.Tree()
	if err != nil {
		t.Fatal(err)
	}
	ours := map[string][]string{}
	for _, name := range []string{"modules.dep", "modules.alias", "modules.softdep"} {
		n := tr.Get("lib/modules/" + sel.Version + "/" + name)
		ours[name] = textLines(string(n.Content.(tree.Bytes)))
	}
	theirs := depmod(t, unpack(t, tr), sel.Version)
	checkOrder(t, ours["modules.dep"])
	ours["modules.dep"], theirs["modules.dep"] = sortDeps(ours["modules.dep"]), sortDeps(theirs["modules.dep"])
	for name := range ours {
		if d := cmp.Diff(theirs[name], ours[name]); d != "" {
			t.Errorf("%s (-depmod +ours)\n%s", name, d)
		}
	}
}

func TestDepmodAgrees(t *testing.T) {
	set := open(t, example(t))
	for _, names := range [][]string{{"top"}, {"fs-thing", "virtio"}, set.names()} {
		sel, err := set.Select(names)
		if err != nil {
			t.Fatal(err)
		}
		compareDepmod(t, sel)
	}
}

// TestRealKernels runs over unpacked kernel packages, when there are some:
// INGOT_KERNELS=DIR:DIR, each with lib/modules/VERSION or usr/lib/modules/VERSION.
func TestRealKernels(t *testing.T) {
	dirs := os.Getenv("INGOT_KERNELS")
	if dirs == "" {
		t.Skip("INGOT_KERNELS names no unpacked kernel packages")
	}
	for _, dir := range filepath.SplitList(dirs) {
		start := time.Now()
		set, err := Open(dirTree(t, dir, ""))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d names, opened in %v", set.Version(), len(set.names()), time.Since(start))
		for g := range Groups {
			start := time.Now()
			sel, err := set.Select([]string{g})
			if err != nil {
				t.Fatal(err)
			}
			tr, err := sel.Tree()
			if err != nil {
				t.Fatal(err)
			}
			var size int64
			for _, n := range tr.Nodes() {
				size += n.Size()
			}
			t.Logf("%-9s %v: %d modules, %.1f MB, %d firmware; load %v; built in %v; missing %v", g, time.Since(start).Round(time.Millisecond), len(sel.Modules), float64(size)/1e6, len(sel.Firmware), sel.Load, sel.Builtin, sel.Missing)
			compareDepmod(t, sel)
		}
		if os.Getenv("INGOT_KERNELS_WHOLE") == "1" {
			start := time.Now()
			sel, err := set.Select(set.names())
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("whole: %d modules in %v", len(sel.Modules), time.Since(start))
			compareDepmod(t, sel)
		}
	}
}

func TestGroupsAreNormal(t *testing.T) {
	for g, members := range Groups {
		seen := map[string]bool{}
		for _, m := range members {
			if m != normal(m) || seen[m] {
				t.Errorf("group %s: %s is twice or not normal", g, m)
			}
			seen[m] = true
		}
	}
}

func TestKeepsModuleBytes(t *testing.T) {
	raw := append(ko("top", nil), "~Module signature appended~\n"...)
	tr := &tree.Tree{}
	if err := tr.Add(tree.Node{Path: "lib/modules/1/kernel/top.ko.xz", Mode: 0o644, Content: tree.Bytes(packXZ(t, raw))}); err != nil {
		t.Fatal(err)
	}
	sel, err := open(t, tr).Select([]string{"top"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := sel.Tree()
	if err != nil {
		t.Fatal(err)
	}
	if b := got.Get("lib/modules/1/kernel/top.ko").Content.(tree.Bytes); !bytes.Equal(b, raw) {
		t.Errorf("module changed: %d bytes, want %d", len(b), len(raw))
	}
}
