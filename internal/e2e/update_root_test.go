package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/partition"
)

// TestUpdateRoot: root partitions switch with their slots. A root that does not
// fit the hash in its boot file, as published or as it rotted on the disk after it
// was written, is found by dm-verity, and the machine goes back.
func TestUpdateRoot(t *testing.T) {
	needs(t, "amd64")
	f := newFoundry(t, "go:\n  - package: ./service\n    name: tally\n    tags: [nethttpomithttp2]\n=root: {directory: rootfs, format: erofs}\n;slot: 64M=slot: 80M, root: 16M")
	serviceRoot(t, f)
	b := newBox(t, f, f.release(t, "1.0.0", ""), nil)
	b.on()
	b.runs("1.0.0")

	// The service is some megabytes: its middle is a block that its start needs.
	rotten := f.forged(t, f.release(t, "2.0.0", ""), func(img *os.File) {
		for off := int64(1 << 20); off < 4<<20; off += 4096 {
			rot(t, img, partition.RootA, off)
			rot(t, img, partition.RootB, off)
		}
	})
	b.refutes(t, bad{set: rotten, cause: slot.CorruptRoot, chain: []string{"slot-b", "slot-a"}, final: true})

	fine := f.release(t, "1.1.0", "")
	b.stage(fine)
	b.withDisk(func(disk *os.File) {
		for off := int64(1 << 20); off < 4<<20; off += 4096 {
			rot(t, disk, partition.RootB, off)
		}
	})
	b.approve(fine)
	b.runs("1.0.0")
	b.blames("1.1.0", slot.CorruptRoot, true)

	b.update(f.release(t, "1.2.0", ""))
	b.blessed("1.2.0", slot.B)
}

// serviceRoot puts the service into the directory that becomes the root.
func serviceRoot(t *testing.T, f *foundry) {
	t.Helper()
	bin := f.file("rootfs/bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-tags=nethttpomithttp2", "-o", filepath.Join(bin, "tally"), ".")
	c.Dir, c.Env = f.file("service"), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("build the service: %v\n%s", err, out)
	}
}
