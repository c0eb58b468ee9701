package serve

import (
	"errors"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/chain"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// TestChainRefused: who would be sent to iPXE, and could not boot by it, is told no by DHCP,
// and the reason is named; so it is to who asks for the script all the same.
func TestChainRefused(t *testing.T) {
	s := ruled(t, "format: 1\nrules:\n  - {name: old, mac: [\"52:54:00:12:34:56\"], boot: hello, chain: ipxe}\ndefault: hello\n")
	b := s.offered.Load().sets[digest0]
	for _, tt := range []struct {
		name  string
		c     netboot.Client
		parts *chain.Parts
		whole error
		want  string
	}{
		{"a BIOS without iPXE", netboot.Client{MAC: other, Arch: netboot.BIOS}, &chain.Parts{Cmdline: "quiet"}, nil, "serve.yaml names no iPXE for BIOS (0) (ipxe.bios)"},
		{"a rule without iPXE", netboot.Client{MAC: known, Arch: netboot.EFIX64}, &chain.Parts{Cmdline: "quiet"}, nil, "serve.yaml names no iPXE for UEFI x86-64 (7) (ipxe.x64)"},
		{"a command line", netboot.Client{MAC: other, Arch: netboot.EFIX64, IPXE: true}, &chain.Parts{Cmdline: "a ; b"}, nil, `word ";": iPXE cannot pass it on`},
		{"a UKI", netboot.Client{MAC: other, Arch: netboot.BIOS, IPXE: true}, nil, errors.New("no section .linux"), "no section .linux"},
		{"32 bits", netboot.Client{MAC: other, Arch: netboot.EFI32}, nil, nil, "UEFI IA-32 (6)"},
		{"a Raspberry Pi", netboot.Client{MAC: other, Arch: netboot.RaspberryPi}, nil, nil, "Raspberry Pi ROM (41)"},
	} {
		b.parts, b.whole = tt.parts, tt.whole
		if a := s.Decide(t.Context(), tt.c); a.Verb != netboot.Refuse || a.Path != "" || !strings.Contains(a.Reason, tt.want) {
			t.Errorf("%s: %+v, want the reason %q", tt.name, a, tt.want)
		}
		if !tt.c.IPXE {
			continue
		}
		_, err := s.Open(t.Context(), netboot.Request{Method: netboot.HTTP, Path: "boot/" + tt.c.MAC.Plain() + "/" + chain.Script})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: the script: %v", tt.name, err)
		}
	}
}
