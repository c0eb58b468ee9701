package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/internal/release"
)

// TestNetbootARM64: AAVMF boots the example for 64-bit ARM by PXE from the server that
// serves it, and the machine is trusted with the reference of the release.
func TestNetbootARM64(t *testing.T) {
	needs(t, qemu.ARM64)
	keys, set := armRelease(t)
	l := startChainLab(t, keys, set, "")
	g := l.on(l.space.Tap("vm0", "br0"), func(m *qemu.Machine) { m.Arch = qemu.ARM64 })
	g.wait(healthy)
	l.story("asks: DISCOVER on br0, UEFI ARM64 \\(11\\)", "is offered hello-arm64-1.0.0 by TFTP", "looks at hello-arm64-1.0.0", "has loaded hello-arm64-1.0.0 by TFTP")
	name := l.approve()
	l.server.Await(name+" is trusted", 2*time.Minute)
}

// armRelease is examples/hello for 64-bit ARM, signed, and attesting to the server that it
// finds by DHCP.
func armRelease(t *testing.T) (keys string, set *release.Set) {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(hello)); err != nil {
		t.Fatal(err)
	}
	keys = filepath.Join(dir, "own")
	recipe := filepath.Join(dir, "arm64.yaml")
	edit(t, recipe, "arch: arm64=arch: arm64\ntrust: {keys: ./trust}\nattest: {interval: 2s}")
	must(t, "keys", "init", keys, "--test", "--name", "arm")
	must(t, "keys", "export", keys, filepath.Join(dir, "trust"))
	must(t, "lock", "-f", recipe, "--update", "ingot", "--update", "go")
	built := must(t, "build", "-f", recipe, "-o", filepath.Join(dir, "out"), "--keys", keys)
	set, err := release.Open(built)
	if err != nil {
		t.Fatal(err)
	}
	return keys, set
}
