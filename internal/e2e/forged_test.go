package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/partition"
)

// TestForgedBoots: one machine with its own TPM is approved, pulled from its
// plug, and booted again with a changed kernel, initrd and command line. The
// server refuses each by the name of the section, and trusts the machine again
// when the change is undone; a policy that wants Secure Boot refuses even that.
func TestForgedBoots(t *testing.T) {
	needs(t, "amd64")
	l := newLab(t)
	state, disk := filepath.Join(t.TempDir(), "state"), filepath.Join(t.TempDir(), "edge.img")
	stop := l.serve(t, state)
	vm := on(t, l.machine(t, "edge-1", disk))
	l.until(t, "edge-1", "pending", pending)
	l.host(t, "edge-1", "--approve")
	s := l.until(t, "edge-1", "trusted", trusted)
	if s.Last == nil || s.Last.Slot != "a" || s.Last.Boot != "disk" {
		t.Errorf("genuine: %+v", s.Last)
	}
	if v := s.Verdict; v == nil || v.SlotBy != "init" || v.Compared == 0 || len(v.NotChecked) == 0 {
		t.Errorf("genuine: verdict %+v", v)
	}
	vm.Close() // the plug: the TPM is not shut down

	slot := slotA(t, l)
	build := l.set.Manifest.Build
	for _, c := range []struct{ section, old, new string }{
		{".cmdline", "ingot.build=" + build, "ingot.build=" + flipped(build)},
		{".initrd", "hello from %s, uid %d", "HELLO from %s, uid %d"},
		{".linux", "(debian-kernel@lists.debian.org)", "(Debian-kernel@lists.debian.org)"},
	} {
		t.Run(c.section, func(t *testing.T) {
			before := l.host(t, "edge-1").Last.Seq
			undo := swap(t, disk, slot.Start, slot.Size, c.old, c.new)
			defer undo()
			vm := on(t, l.machine(t, "edge-1", disk))
			defer vm.Close()
			s := l.until(t, "edge-1", "judged", func(s standing) bool { return s.Last != nil && s.Last.Seq > before })
			if s.Standing != "refused" || s.Last.Code != attest.ImageUnknown {
				t.Errorf("%s, %+v", s.Standing, s.Last)
			}
			if s.Verdict == nil || !slices.ContainsFunc(s.Verdict.Findings, func(f attest.Finding) bool { return f.Section == c.section }) {
				t.Errorf("%s is not named: %+v", c.section, s.Verdict)
			}
		})
	}

	on(t, l.machine(t, "edge-1", disk))
	l.until(t, "edge-1", "trusted again", trusted)
	stop()
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(policy, []byte("secureBoot: true\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	l.serve(t, state, "--policy", policy)
	s = l.until(t, "edge-1", "refused", func(s standing) bool { return s.Standing == "refused" })
	if s.Last.Code != attest.SecureBootOff {
		t.Errorf("without Secure Boot: %+v", s.Last)
	}
}

// TestAnotherTPM: a machine with the name of another is not let in; an operator
// allows the name again, and vouches for the new TPM.
func TestAnotherTPM(t *testing.T) {
	needs(t, "amd64")
	l := newLab(t)
	l.serve(t, filepath.Join(t.TempDir(), "state"))
	first := on(t, l.machine(t, "edge-2", ""))
	l.until(t, "edge-2", "pending", pending)
	l.host(t, "edge-2", "--approve")
	l.until(t, "edge-2", "trusted", trusted)
	first.Close()

	second := on(t, l.machine(t, "edge-2", ""))
	g := &guest{second, t, 9443}
	g.wait(`listening on`)
	eventually(t, "a refusal of the key", func() bool {
		a := g.status().Attestation
		return a.State == "refused" && strings.Contains(fmt.Sprint(a.Findings), string(attest.AKKey))
	})
	if s := l.host(t, "edge-2"); s.Standing == "refused" || s.Rejected == nil || s.Rejected.Code != attest.AKKey {
		t.Errorf("what another sends counts for the host: %+v", s)
	}
	l.host(t, "edge-2", "--reenrol")
	l.until(t, "edge-2", "pending again", pending)
	l.host(t, "edge-2", "--approve")
	l.until(t, "edge-2", "trusted", trusted)
}

// TestAttestedNetboot: the same release from TFTP is trusted by the same
// reference; by way of iPXE, which replaces the command line, it is refused.
func TestAttestedNetboot(t *testing.T) {
	needs(t, "amd64")
	l := newLab(t)
	rom := oracle.Need(t, "ipxe-qemu", "/usr/lib/ipxe/qemu/efi-virtio.rom")
	blank := filepath.Join(t.TempDir(), "blank.img") // nothing to boot
	if err := os.WriteFile(blank, make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, rom string
		code      attest.Code
	}{{"firmware", "", ""}, {"ipxe", rom, attest.CmdlineReplaced}} {
		t.Run(c.name, func(t *testing.T) {
			l.serve(t, filepath.Join(t.TempDir(), "state"))
			on(t, qemu.Machine{Arch: qemu.AMD64, Image: blank, TPM: true, Forwards: []qemu.Forward{{Guest: 9443}}, ExtraArgs: []string{
				"-netdev", "user,id=pxe,net=10.0.9.0/24,tftp=" + l.set.Dir + ",bootfile=/" + filepath.Base(l.set.UKI()),
				"-device", "virtio-net-pci,netdev=pxe,bootindex=1,romfile=" + c.rom}})
			s := l.until(t, "", "pending", pending)
			l.host(t, s.Name, "--approve")
			s = l.until(t, s.Name, "judged", func(s standing) bool { return s.Last != nil && s.Last.Seq > 0 && s.Standing != "unknown" })
			if s.Last.Code != c.code {
				t.Errorf("%+v", s.Last)
			}
			if c.code == "" && (s.Last.Boot != "pxe" || s.Last.Slot != "") {
				t.Errorf("a boot from the network: %+v", s.Last)
			}
		})
	}
}

func slotA(t *testing.T, l *lab) (p struct{ Start, Size int64 }) {
	t.Helper()
	for _, q := range l.set.Manifest.Disk.Partitions {
		if q.Role == partition.SlotA {
			p.Start, p.Size = q.Start, q.Size
		}
	}
	return p
}

// flipped is a digest with another last digit.
func flipped(digest string) string {
	last := "0"
	if strings.HasSuffix(digest, "0") {
		last = "1"
	}
	return digest[:len(digest)-1] + last
}
