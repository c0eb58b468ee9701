package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/rig"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/blockmap"
)

var outputs = variant{example: hello, edit: "version: 1.0.0=version: 1.0.0\noutputs: [qcow2, vhd, vmdk, iso, zst]"}

// outputFile is a file of the set with all outputs.
func outputFile(t *testing.T, suffix string) string {
	t.Helper()
	return filepath.Join(image(t, outputs), "hello-1.0.0"+suffix)
}

// TestOutputsHoldTheDisk asks the tools of each format.
func TestOutputsHoldTheDisk(t *testing.T) {
	needs(t, "amd64")
	oracle.Need(t, "qemu-utils", "qemu-img")
	oracle.Need(t, "bmap-tools", "bmaptool")
	oracle.Need(t, "zstd", "zstd")
	oracle.Need(t, "xorriso", "xorriso")
	raw := outputFile(t, ".img")
	info, err := os.Stat(raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []struct{ suffix, format string }{{".qcow2", "qcow2"}, {".vhd", "vpc"}, {".vmdk", "vmdk"}} {
		name := outputFile(t, f.suffix)
		if f.format != "vpc" { // which qemu-img cannot check
			oracle.Run(t, "qemu-img", "check", "-f", f.format, name)
		}
		oracle.Run(t, "qemu-img", "compare", "-f", "raw", "-F", f.format, raw, name)
		var found struct {
			Size int64 `json:"virtual-size"`
		}
		if err := json.Unmarshal([]byte(oracle.Run(t, "qemu-img", "info", "--output=json", "-f", f.format, name)), &found); err != nil || found.Size != info.Size() {
			t.Errorf("%s: a disk of %d bytes, want %d (%v)", f.suffix, found.Size, info.Size(), err)
		}
	}
	oracle.Run(t, "zstd", "-t", outputFile(t, ".img.zst"))
	if out := oracle.Run(t, "xorriso", "-indev", outputFile(t, ".iso"), "-report_el_torito", "plain"); !strings.Contains(out, "UEFI  y") || strings.Contains(out, "WARNING") {
		t.Errorf("xorriso:\n%s", out)
	}
}

// TestBmaptoolWritesTheDisk lets bmaptool read the map and the frames. It makes
// a file empty first, so the copy is the image.
func TestBmaptoolWritesTheDisk(t *testing.T) {
	needs(t, "amd64")
	oracle.Need(t, "bmap-tools", "bmaptool")
	to := filepath.Join(t.TempDir(), "stick")
	oracle.Run(t, "bmaptool", "copy", outputFile(t, ".img.zst"), to)
	oracle.Run(t, "cmp", outputFile(t, ".img"), to)
}

// TestBlockMapLeavesNothingOut writes mapped blocks over old bytes, as bmaptool
// does with a used stick: what the map leaves out must be what nobody reads.
func TestBlockMapLeavesNothingOut(t *testing.T) {
	needs(t, "amd64")
	oracle.Need(t, "dosfstools", "fsck.fat")
	data, err := os.ReadFile(outputFile(t, ".img.bmap"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := blockmap.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	image, err := os.Open(outputFile(t, ".img"))
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	to := filepath.Join(t.TempDir(), "stick")
	stick, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	defer stick.Close()
	old := bytes.Repeat([]byte{0x05}, 1<<20) // in a FAT: a cluster number, and one that exists
	for off := int64(0); off < m.Size; off += int64(len(old)) {
		if _, err := stick.WriteAt(old, off); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range m.Ranges {
		b := make([]byte, (r.Last-r.First+1)*m.BlockSize)
		if _, err := image.ReadAt(b, r.First*m.BlockSize); err != nil {
			t.Fatal(err)
		}
		if _, err := stick.WriteAt(b, r.First*m.BlockSize); err != nil {
			t.Fatal(err)
		}
	}
	r := ingot(t, "inspect", to)
	if r.code != 0 || strings.Contains(r.out, "problem") || !strings.Contains(r.out, "EFI/BOOT/BOOTX64.EFI") {
		t.Errorf("inspect: %s%s", r.out, r.stderr)
	}
	set, err := release.Open(filepath.Dir(outputFile(t, ".img")))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range set.Manifest.Disk.Partitions {
		switch p.Role {
		case partition.ESP, partition.SlotA, partition.SlotB:
			part := filepath.Join(t.TempDir(), p.Role)
			oracle.Run(t, "dd", "if="+to, "of="+part, "bs=1M", "status=none", "iflag=skip_bytes,count_bytes", fmt.Sprintf("skip=%d", p.Start), fmt.Sprintf("count=%d", p.Size))
			oracle.Run(t, "fsck.fat", "-n", part)
		case partition.State:
			b := make([]byte, p.Size)
			if _, err := stick.ReadAt(b, p.Start); err != nil || !bytes.Equal(b, make([]byte, p.Size)) {
				t.Errorf("old records are left in the state partition (%v)", err)
			}
		case partition.Data:
			b := make([]byte, 1<<20)
			if _, err := stick.ReadAt(b, p.Start); err != nil || !bytes.Equal(b, make([]byte, len(b))) {
				t.Errorf("an old file system is left in the data partition (%v)", err)
			}
		}
	}
}

// TestISOBoots runs the appliance from a CD and from a stick, without a disk.
func TestISOBoots(t *testing.T) {
	needs(t, "amd64")
	for _, bus := range []string{"virtio", "usb"} {
		t.Run(bus, func(t *testing.T) {
			v := boot(t, image(t, outputs), "--boot", "iso", "--bus", bus)
			if s := v.Status; !s.Healthy || s.Boot.Role != "ram" || s.Boot.State != "absent" || s.Data.State != "ram" {
				t.Errorf("got %+v and data %+v, want to run from memory", s.Boot, s.Data)
			}
			if len(v.Status.Problems) > 0 {
				t.Errorf("the machine has problems: %q", v.Status.Problems)
			}
		})
	}
}

// TestContainersBoot attaches the containers as they are, and the VMDK, to which
// QEMU cannot write as it is compressed, under an overlay.
func TestContainersBoot(t *testing.T) {
	needs(t, "amd64")
	oracle.Need(t, "qemu-utils", "qemu-img")
	overlay := filepath.Join(t.TempDir(), "overlay")
	oracle.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "vmdk", "-b", outputFile(t, ".vmdk"), overlay)
	set, err := release.Open(image(t, outputs))
	if err != nil {
		t.Fatal(err)
	}
	spec, err := rig.Spec(set)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []struct{ kind, file, format string }{
		{"qcow2", outputFile(t, ".qcow2"), "qcow2"}, {"vhd", outputFile(t, ".vhd"), "vpc"}, {"vmdk", overlay, "qcow2"},
	} {
		t.Run(f.kind, func(t *testing.T) {
			limit, _ := time.ParseDuration(bootLimit)
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			vm, err := qemu.Start(ctx, qemu.Machine{Arch: "amd64", Image: f.file, Format: f.format, Vars: rig.Vars(set, spec)})
			if err != nil {
				t.Fatal(err)
			}
			defer vm.Close()
			if _, err := vm.WaitLine(ctx, regexp.MustCompile("ingot: hello 1.0.0 healthy after")); err != nil {
				t.Fatal(err)
			}
			if err := vm.PowerDown(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}
