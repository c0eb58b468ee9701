package e2e

import (
	"math/rand/v2"
	"os"
	"testing"

	"github.com/ingot-os/ingot/internal/qemu"
)

// TestNetbootLarge: firmware boots a UKI of more than 100 MB by TFTP, whose block numbers
// begin anew after 65,535 blocks of 1468 bytes, 96 MB, under Secure Boot.
func TestNetbootLarge(t *testing.T) {
	needs(t, qemu.AMD64)
	f, _ := chainRelease(t)
	noise := make([]byte, 100<<20)
	rand.NewChaCha8([32]byte{}).Read(noise)
	if err := os.WriteFile(f.file("noise"), noise, 0o644); err != nil {
		t.Fatal(err)
	}
	set := f.release(t, "1.1.0", "disk: {slot: 64M}=disk: {slot: 288M, esp: 288M};arch: amd64=arch: amd64\nfiles: [{path: /noise, source: noise}]")
	if info, err := os.Stat(set.UKI()); err != nil || info.Size() < 120_000_000 {
		t.Fatalf("the UKI has %d bytes, %v", info.Size(), err)
	}
	l := startChainLab(t, f.keys, set, "")
	g := l.on(l.space.Tap("vm0", "br0"), func(m *qemu.Machine) {
		*m = enforcing(t, *m, set)
		m.TPM = false
	})
	g.wait(healthy)
	l.story("loads tally-1.1.0 by TFTP", "has loaded tally-1.1.0 by TFTP")
}
