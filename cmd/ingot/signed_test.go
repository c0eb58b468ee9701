package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/fat"
)

// TestSbverify: every EFI program of a signed set verifies with the tool of
// the Linux distributions and the db certificate, and none with another one:
// the boot file itself, its copies on the ESP and in both slots, and the
// loader, when there is one.
func TestSbverify(t *testing.T) {
	oracle.Need(t, "sbsigntool", "sbverify")
	f := warm(t)
	keys := filepath.Join(tempDir(t), "keys")
	if res := run1(f.exe, f.root, nil, "keys", "init", keys, "--test"); res.code != 0 {
		t.Fatal(res.stderr)
	}
	for kind, want := range map[string][]string{
		"plain": {"BOOTX64.EFI", "BOOTX64.EFI", "BOOTX64.EFI", "BOOTX64.EFI", "hello-1.0.0.efi"},
		"menu":  {"BOOTX64.EFI", "hello-1.0.0.efi", "hello-1.0.0.efi"}, // the loader, the boot file on the ESP and in the set,
	} {
		t.Run(kind, func(t *testing.T) {
			dir := kindOf(t, f, "", func(_, y string) string {
				if kind == "menu" {
					y += "boot: {loader: systemd-boot}\n"
				}
				return y
			})
			w := newWorld(t, f, dir)
			w.args = []string{"--keys", keys}
			var names []string
			for _, path := range programsOf(t, w.build(t, f)) {
				names = append(names, filepath.Base(path))
				if out := oracle.Run(t, "sbverify", "--cert", filepath.Join(keys, "db.crt"), path); !strings.Contains(out, "Signature verification OK") {
					t.Errorf("%s: %s", path, out)
				}
				if out, err := exec.Command("sbverify", "--cert", filepath.Join(keys, "kek.crt"), path).CombinedOutput(); err == nil {
					t.Errorf("%s verifies with another key: %s", path, out)
				}
			}
			slices.Sort(names)
			if !slices.Equal(names, want) {
				t.Errorf("programs %q, want %q", names, want)
			}
		})
	}
}

// programsOf takes all EFI programs out of a set, and gives their paths.
func programsOf(t *testing.T, dir string) []string {
	t.Helper()
	set, err := release.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(set.Image())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	layout, err := partition.Read(f, set.Manifest.Disk.Size)
	if err != nil {
		t.Fatal(err)
	}
	paths := []string{set.UKI()}
	for _, role := range []string{partition.ESP, partition.SlotA, partition.SlotB} {
		p, ok := layout.Part(role)
		if !ok {
			t.Fatalf("no partition %s", role)
		}
		v, err := fat.Open(p.Section(f), p.Size)
		if err != nil && role != partition.ESP {
			continue // the loader has the boot file on the ESP
		}
		if err != nil {
			t.Fatal(err)
		}
		tree, err := v.Tree()
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range tree.Nodes() {
			if !n.Mode.IsRegular() || !strings.EqualFold(filepath.Ext(n.Path), ".efi") {
				continue
			}
			r, err := n.Content.Open()
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), filepath.Base(n.Path))
			writeFile(t, path, string(data))
			paths = append(paths, path)
		}
	}
	return paths
}
