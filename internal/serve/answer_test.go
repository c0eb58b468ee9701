package serve

import (
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/verifier"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// TestOperatorsAreToldTheSame: what operators read of a machine is what it is told itself, also
// when the release that the rules give it is none that its firmware can start.
func TestOperatorsAreToldTheSame(t *testing.T) {
	for _, tt := range []struct {
		name        string
		asks        []netboot.Client
		would, file string
	}{
		{"a BIOS without ipxe.bios", []netboot.Client{{Arch: netboot.BIOS}}, "local", ""},
		{"iPXE of the card", []netboot.Client{{Arch: netboot.BIOS, IPXE: true}}, "hello-1.0.0", "boot.ipxe"},
		{"a BIOS that had iPXE here before", []netboot.Client{{Arch: netboot.BIOS}, {Arch: netboot.BIOS, IPXE: true}}, "local", ""},
		{"HTTP", []netboot.Client{{Arch: netboot.HTTPX64}}, "hello-1.0.0", "hello-1.0.0.efi"},
		{"TFTP, which is off", []netboot.Client{{Arch: netboot.EFIX64}}, "local", ""},
		{"not heard: nobody knows whether by TFTP", nil, "hello-1.0.0", "hello-1.0.0.efi"},
		{"32 bits", []netboot.Client{{Arch: netboot.EFI32}}, "local", ""},
	} {
		s := ruled(t, "format: 1\ndefault: hello\n")
		s.c.Store(&Config{Rules: s.c.Load().Rules, TFTP: TFTP{Off: true}})
		var told netboot.Answer
		for _, c := range tt.asks {
			c.MAC, c.Link = known, "eth1"
			told = s.Decide(t.Context(), c)
		}
		s.boots.Saw(netboot.Event{Time: time.Now(), Stage: netboot.Asked, MAC: known})
		d, err := s.boots.Boot(t.Context(), known.String())
		if err != nil {
			t.Fatal(err)
		}
		lines, err := s.boots.Lines(t.Context())
		if err != nil || len(lines) != 1 {
			t.Fatal(lines, err)
		}
		m := d.Machines[0]
		if lines[0].Would != tt.would || m.Would != tt.would || strings.TrimPrefix(m.Path, "boot/"+known.Plain()+"/") != tt.file {
			t.Errorf("%s: hosts say %q, --explain %q, file %q", tt.name, lines[0].Would, m.Would, m.Path)
		}
		if refused := tt.would == "local"; refused && (m.Chain || lines[0].Why != m.Why || m.Why == "" || told.Verb == netboot.Refuse && m.Why != told.Reason) {
			t.Errorf("%s: %q, %q, chain %t; it is told %q", tt.name, lines[0].Why, m.Why, m.Chain, told.Reason)
		}
		err = s.boots.Order(t.Context(), known.String(), verifier.BootOrder{Action: verifier.OrderOnce, Boot: "hello"}, "alice")
		if (err != nil) != (tt.would == "local") {
			t.Errorf("%s: ordered once: %v", tt.name, err)
		}
	}
}
