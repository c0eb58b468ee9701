package e2e

import (
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/agent/install"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/partition"
)

// TestNetbootInstall: a machine with an empty disk boots by PXE with a ticket and installs
// itself there. The power goes meanwhile: it boots by PXE again and begins anew. Then it
// starts from the disk by the boot entries that it wrote, and is trusted with the same
// reference. What is on the disk satisfies other tools. It starts from there again
// without a network to boot from, and a second ticket does not install it again.
func TestNetbootInstall(t *testing.T) {
	needs(t, qemu.AMD64)
	sgdisk, fsck := oracle.Need(t, "gdisk", "sgdisk"), oracle.Need(t, "dosfstools", "fsck.fat")
	l := newRAMLab(t, "install: {to: {path: /dev/disk/by-path/virtio-pci-*, maxSize: 4G}}\n", "")
	blank := filepath.Join(t.TempDir(), "blank.img")
	if err := os.WriteFile(blank, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(blank, 1<<30); err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(t.TempDir(), "disk.img")
	power := func(first bool) *guest {
		return l.boot(func(m *qemu.Machine) { m.Image, m.Disk, m.Net.First = blank, disk, first })
	}
	l.hosts(ramMAC, "--boot-once", "install")
	g := power(true)
	g.wait(healthy)
	l.server.Await("ram-1 waits for approval", 2*time.Minute)
	if c := l.look(disk); c != install.Blank { // a ticket is for machines that are trusted
		t.Fatalf("before it was approved the machine has written: the disk holds %s", c)
	}
	l.hosts("ram-1", "--approve")
	g.wait(`install: version 1.0.0 goes to /dev/vda`)
	for end := time.Now().Add(time.Minute); l.look(disk) == install.Blank && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond) // its first write
	}
	g.unplug()
	if c := l.look(disk); c != install.Unfinished {
		t.Fatalf("after the cut the disk holds %s", c)
	}

	g = power(true)
	g.wait(`install: version 1.0.0 is on /dev/vda`)
	g.wait(fromSlotA)
	l.awaitDisk()
	g.unplug()
	if c := l.look(disk); c != install.Installed {
		t.Errorf("the disk holds %s", c)
	}
	if out := oracle.Run(t, sgdisk, "-v", disk); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk: %s", out)
	}
	for _, p := range l.set.Manifest.Disk.Partitions {
		if p.Role == partition.ESP || p.Role == partition.SlotA || p.Role == partition.SlotB {
			oracle.Run(t, fsck, "-n", l.cut(disk, p))
		}
	}

	g = power(false)
	g.wait(fromSlotA)
	g.wait(healthy)
	g.unplug()

	before := sumOf(t, disk)
	l.hosts("ram-1", "--boot-once", "install")
	g = power(true)
	g.wait(`install: /dev/vda .*: it holds an installed system: the ticket does not force it`)
	g.unplug()
	if sumOf(t, disk) != before {
		t.Error("the disk was written although the install was refused")
	}
}

// fromSlotA is what OVMF says when it starts the first slot by its boot entry.
const fromSlotA = `BdsDxe: starting Boot[0-9A-F]+ "tally slot-a"`

// awaitDisk waits until the server trusts the machine as started from its disk.
func (l *ramLab) awaitDisk() {
	l.t.Helper()
	for end := time.Now().Add(4 * time.Minute); ; time.Sleep(time.Second) {
		shown := l.hosts("ram-1")
		if regexp.MustCompile(`(?m)^ *boot +disk`).MatchString(shown) && strings.Contains(shown, "trusted") {
			return
		}
		if time.Now().After(end) {
			l.t.Fatalf("the machine is not trusted from its disk:\n%s", shown)
		}
	}
}

// cut copies a partition out of a disk.
func (l *ramLab) cut(disk string, p release.Partition) string {
	l.t.Helper()
	f, err := os.Open(disk)
	if err != nil {
		l.t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, p.Size)
	if _, err := f.ReadAt(b, p.Start); err != nil {
		l.t.Fatal(err)
	}
	out := filepath.Join(l.t.TempDir(), p.Role)
	if err := os.WriteFile(out, b, 0o644); err != nil {
		l.t.Fatal(err)
	}
	return out
}

func sumOf(t *testing.T, file string) (sum [sha256.Size]byte) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// look says what a disk holds.
func (l *ramLab) look(disk string) install.Content {
	l.t.Helper()
	f, err := os.Open(disk)
	if err != nil {
		l.t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		l.t.Fatal(err)
	}
	c, err := install.Look(f, info.Size())
	if err != nil {
		l.t.Fatal(err)
	}
	return c
}
