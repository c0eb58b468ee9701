package qemu

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/oracle"
)

// needMachine wants all that a machine of arch needs.
func needMachine(t *testing.T, arch string) {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a machine")
	}
	if m := Tools(arch); len(m) > 0 {
		oracle.Need(t, m[0].Package, m[0].Name)
	}
}

// programs makes PATH a directory with nothing but the given scripts and links.
func programs(t *testing.T, scripts map[string]string, links ...string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range scripts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range links {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
}

// firmware makes FindFirmware find nothing but the given pairs.
func firmware(t *testing.T, pairs ...Firmware) {
	old := known
	t.Cleanup(func() { known = old })
	known = map[string][]Firmware{AMD64: pairs, ARM64: pairs}
}

func TestToolsNamesPackages(t *testing.T) {
	programs(t, nil)
	firmware(t)
	got := Tools(AMD64)
	want := []string{"qemu-system-x86", "ovmf", "swtpm"}
	if len(got) != len(want) {
		t.Fatalf("got %+v", got)
	}
	for i, m := range got {
		if m.Package != want[i] {
			t.Errorf("got package %s, want %s", m.Package, want[i])
		}
	}
	if got := Tools("riscv64"); len(got) != 1 {
		t.Errorf("riscv64: got %+v", got)
	}
}

func TestMissingErrorSaysWhatToInstall(t *testing.T) {
	programs(t, nil)
	_, err := Start(t.Context(), Machine{Arch: ARM64, Image: "x.img"})
	var missing *MissingError
	if !errors.As(err, &missing) || missing.Hint() != "apt-get install qemu-system-arm" {
		t.Fatalf("got %v", err)
	}
	if !strings.Contains(err.Error(), "qemu-system-aarch64 (to run arm64)") {
		t.Errorf("got %v", err)
	}
	programs(t, map[string]string{"qemu-system-aarch64": "exit 1"})
	firmware(t, Firmware{Code: "/nonexistent/code", Vars: "/nonexistent/vars"})
	if _, err = Start(t.Context(), Machine{Arch: ARM64, Image: "x.img"}); !errors.As(err, &missing) || missing.Missing[0].Package != "qemu-efi-aarch64" {
		t.Errorf("got %v", err)
	}
}

func TestFindFirmwareTakesOnlyWholePairs(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"a.code", "b.code", "b.vars"} {
		if err := os.WriteFile(path(name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	firmware(t, Firmware{Code: path("a.code"), Vars: path("a.vars")}, Firmware{Code: path("b.code"), Vars: path("b.vars")})
	got, err := FindFirmware(AMD64)
	if err != nil || got.Code != path("b.code") {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestVarsArePaddedForVirt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vars")
	if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	f := Firmware{Vars: path}
	if b, err := f.vars(ARM64); err != nil || len(b) != armFlash {
		t.Errorf("arm64: got %d bytes, %v", len(b), err)
	}
	if b, err := f.vars(AMD64); err != nil || len(b) != 1 {
		t.Errorf("amd64: got %d bytes, %v", len(b), err)
	}
}
