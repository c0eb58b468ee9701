package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/agent/install"
	"github.com/ingot-os/ingot/internal/qemu"
)

// TestNetbootInstall: a machine with an empty disk boots by PXE, runs from memory, and does
// not touch the disk. With a ticket it installs itself there, starts from the disk by the
// boot entries that it wrote, and is trusted with the same reference; its journal then
// keeps a second install away.
func TestNetbootInstall(t *testing.T) {
	needs(t, qemu.AMD64)
	l := newRAMLab(t, "install: {to: {maxSize: 4G}}\n", "")
	blank := filepath.Join(t.TempDir(), "blank.img")
	if err := os.WriteFile(blank, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(blank, 1<<30); err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(t.TempDir(), "disk.img")
	power := func() *guest { return l.boot(func(m *qemu.Machine) { m.Image, m.Disk = blank, disk }) }
	g := power()
	g.wait(healthy)
	l.server.Await("ram-1 waits for approval", 2*time.Minute)
	l.hosts("ram-1", "--approve")
	l.server.Await("ram-1 is trusted", 2*time.Minute)
	if c := l.look(disk); c != install.Blank {
		t.Fatalf("without a ticket the disk holds %s", c)
	}
	g.unplug()
	l.hosts(ramMAC, "--boot-once", "install") // it is for the next boot
	g = power()
	g.wait(`install: version 1.0.0 is on /dev/vda`)
	g.wait(`BdsDxe: starting Boot[0-9A-F]+ "tally slot-a"`)
	for end := time.Now().Add(4 * time.Minute); ; time.Sleep(time.Second) {
		shown := l.hosts("ram-1")
		if regexp.MustCompile(`(?m)^ *boot +disk`).MatchString(shown) && strings.Contains(shown, "trusted") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the machine is not trusted from its disk:\n%s", shown)
		}
	}
	g.unplug()
	if c := l.look(disk); c != install.Installed {
		t.Errorf("the disk holds %s", c)
	}
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
