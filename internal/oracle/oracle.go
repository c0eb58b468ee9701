// Package oracle lets tests ask programs of other parties: what ingot writes is
// read by the tools that its users have, and must be the same to both.
//
// A developer without a tool sees its test skipped, with the Debian package
// that has it; where INGOT_REQUIRE_TOOLS=1 is set, as make test does, the test
// fails instead, so that nothing is left out in silence.
//
//	sgdisk := oracle.Need(t, "gdisk", "sgdisk")
//	out := oracle.Run(t, sgdisk, "-v", disk)
//
// It is for tests only and imports nothing of ingot.
package oracle

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Required reports whether a test that cannot run is an error.
func Required() bool { return os.Getenv("INGOT_REQUIRE_TOOLS") == "1" }

// Missing ends a test that lacks something: it fails where all is required, and
// is skipped elsewhere. The words say what to install.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if Required() {
		t.Fatalf(format, args...)
	} else {
		t.Skipf(format, args...)
	}
}

// Need returns the path of the first that exists of some programs and files of
// the Debian package pkg. Programs are looked for in PATH and in the folders of
// the administrator, which are in no PATH of an ordinary user.
func Need(t testing.TB, pkg string, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, ok := find(name); ok {
			return path
		}
	}
	Missing(t, "none of %q is here: install the package %s", names, pkg)
	return ""
}

// ReadFile returns what a file of the Debian package pkg holds.
func ReadFile(t testing.TB, pkg, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(Need(t, pkg, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func find(name string) (string, bool) {
	for _, dir := range []string{"", "/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, true
		}
		if filepath.IsAbs(name) {
			break
		}
	}
	_, err := os.Stat(name)
	return name, filepath.IsAbs(name) && err == nil
}

// Command prepares a program to run in English and UTC, so that what it says is
// the same everywhere; mtools check the volume first, whatever their
// configuration says. A name without a slash is looked for as Need does.
func Command(name string, args ...string) *exec.Cmd {
	if path, ok := find(name); ok {
		name = path
	}
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TZ=UTC", "MTOOLS_SKIP_CHECK=0")
	return cmd
}

// Run runs a program that must succeed and returns all that it prints.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	return Pipe(t, nil, name, args...)
}

// Pipe is Run with something to read.
func Pipe(t testing.TB, stdin []byte, name string, args ...string) string {
	t.Helper()
	cmd := Command(name, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%.4000s", name, args, err, out)
	}
	return string(out)
}
