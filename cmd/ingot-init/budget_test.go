package main

import (
	"bytes"
	"debug/buildinfo"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/oracle"
)

// The budget of PID 1, in bytes. The hard limit is what was promised; the aim
// keeps the whole image of the smallest example within 24 MB: 11.74 MB of
// kernel, 5.39 MB of a Go service, 0.65 MB of modules and 0.09 MB of stub leave this.
// What fetches a root payload over the network is 0.04 MB of it, the place of slots among
// the firmware's entries 0.01 MB, its patrol 0.01 MB, firmware that does not use BootNext
// and the entry of the selector's spare copy 0.01 MB.
//
// Nothing is inlined: that makes 0.52 MB of the smaller program and 1.04 MB of the
// other. sort.Slice in place of slices.SortFunc made 0.02 MB less of each type that was sorted.
// The keeper of the slots, with what a trial needs, came to 0.52 MB.
//
// What attests is 3.5 MB larger: crypto/tls, crypto/x509 and go-tpm, 0.5 MB for
// encrypted data, 0.9 MB that take updates, and 0.11 MB that install
// and look at all disks before they do. The log of a trial that failed, who approved it and
// how long it took are 0.01 MB. It has no smallest example to fit
// into; its aim is what it is, and a little. A variable of json/v2's readers in package attest would add
// 0.6 MB.
const limit = 12 << 20

// variants are the programs by folder, each with its aim in bytes.
var variants = []struct {
	dir    string
	aim    int64
	golden string
}{
	{".", 6110 * 1000, "testdata/deps.txt"},
	{"../ingot-init-fleet", 9790 * 1000, "testdata/deps-fleet.txt"},
}

var update = flag.Bool("update", false, "rewrite testdata/deps.txt")

// build compiles the program as a release does.
func build(t *testing.T, dir, goarch string) string {
	t.Helper()
	goTool := oracle.Need(t, "golang-go", "go")
	out := filepath.Join(t.TempDir(), "ingot-init")
	cmd := exec.Command(goTool, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-gcflags=all=-l", "-o", out, dir)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+goarch, "GOFLAGS=")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, b)
	}
	return out
}

func TestSize(t *testing.T) {
	for _, v := range variants {
		st, err := os.Stat(build(t, v.dir, "amd64"))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d bytes", v.dir, st.Size())
		switch {
		case st.Size() > limit:
			t.Errorf("%s: %d bytes, the limit is %d", v.dir, st.Size(), limit)
		case st.Size() > v.aim:
			t.Errorf("%s: %d bytes, the aim is %d: find what grew, or raise the aim with a reason", v.dir, st.Size(), v.aim)
		}
	}
}

// maxOthers bounds the packages of other modules in each variant: the one with TLS and TPM has
// come to it.
const maxOthers = 80

// others counts the packages of a list that are neither of the standard library nor ingot's.
func others(list []byte) (n int) {
	for line := range strings.Lines(string(list)) {
		if path, ok := strings.CutPrefix(line, "package "); ok && !strings.HasPrefix(path, "github.com/ingot-os/ingot/") {
			n++
		}
	}
	return n
}

// TestDeps compares the packages of other modules that are linked with a golden
// list, so that a new one is seen in a change, and counts them. go test -run Deps -update rewrites it.
func TestDeps(t *testing.T) {
	for _, v := range variants {
		got := deps(t, v.dir, build(t, v.dir, "amd64"))
		if *update {
			if err := os.WriteFile(v.golden, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(v.golden)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("dependencies differ from %s (run with -update after review):\n%s", v.golden, difference(want, got))
		}
		if n := others(got); n > maxOthers {
			t.Errorf("%s links %d packages of other modules, at most %d: what it needs of a new one may be written here instead", v.dir, n, maxOthers)
		}
		unwanted := []string{"std net/http", "std text/template", "std html/template"}
		if v.dir == "." { // these are what the other variant is for
			unwanted = append(unwanted, "std crypto/tls", "std crypto/x509", "module github.com/google/go-tpm")
		}
		for _, bad := range unwanted {
			if bytes.Contains(got, []byte("\n"+bad+"\n")) {
				t.Errorf("%s: %s is linked: its size does not belong in PID 1", v.dir, bad)
			}
		}
	}
}

// TestOnlyTheReaperWaits: os/exec would lose its children's exits to the reaper
// of PID 1. Dependencies import it for functions that are never called here.
func TestOnlyTheReaperWaits(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "../../internal/agent/...", ".", "../ingot-init-fleet").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); slices.Contains(f, "os/exec") {
			t.Errorf("%s imports os/exec", f[0])
		}
	}
}

// deps lists modules with versions, packages of them, and packages of the
// standard library.
func deps(t *testing.T, dir, binary string) []byte {
	t.Helper()
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, m := range info.Deps {
		lines = append(lines, "module "+m.Path)
	}
	cmd := exec.Command("go", "list", "-deps", "-f", "{{if .Standard}}std{{else}}package{{end}} {{.ImportPath}}", dir)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		kind, path, _ := strings.Cut(strings.TrimSpace(line), " ")
		// internal packages of the standard library change with every Go release
		if kind == "std" && (strings.Contains(path, "internal/") || strings.HasPrefix(path, "internal") || strings.HasPrefix(path, "vendor/") || strings.Contains(path, "/internal")) {
			continue
		}
		lines = append(lines, kind+" "+path)
	}
	slices.Sort(lines)
	return []byte(strings.Join(slices.Compact(lines), "\n") + "\n")
}

func difference(want, got []byte) string {
	a, b := strings.Split(string(want), "\n"), strings.Split(string(got), "\n")
	var out []string
	for _, l := range a {
		if !slices.Contains(b, l) {
			out = append(out, "-"+l)
		}
	}
	for _, l := range b {
		if !slices.Contains(a, l) {
			out = append(out, "+"+l)
		}
	}
	return strings.Join(out, "\n")
}

// TestBuildsForArm64 keeps the second architecture compiling.
func TestBuildsForArm64(t *testing.T) {
	if testing.Short() {
		t.Skip("a cross build of everything")
	}
	for _, v := range variants {
		build(t, v.dir, "arm64")
	}
}

// TestRefusesToRunElsewhere starts the program as an ordinary process.
func TestRefusesToRunElsewhere(t *testing.T) {
	for _, v := range variants {
		out, err := exec.Command(build(t, v.dir, "amd64")).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "PID 1") {
			t.Errorf("%s outside of a machine: %v, %q; want a refusal", v.dir, err, out)
		}
	}
}
