package nvram

import (
	"slices"
	"testing"

	"github.com/ingot-os/ingot/boot/efivar"
)

// TestOrder: each place has the slots where its policy says, and loses no entry of others.
func TestOrder(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	// What OVMF 2022.11 has by itself for a network card: PXE over IPv4 behind its MAC.
	network := efivar.LoadOption{Attributes: efivar.Active, Description: "UEFI PXEv4", Paths: []efivar.DevicePath{{
		{Type: 3, SubType: 11, Data: make([]byte, 33)}, {Type: 3, SubType: 12, Data: make([]byte, 23)}}}}
	shell := entry("shell", 1, "11111111-dd6b-8423-8675-9fad8241f15c").Option
	for n, o := range map[uint16]efivar.LoadOption{0: shell, 2: network, 3: network, 0x10: entry("slot-a", 2, guidA).Option, 0x11: entry("slot-b", 3, guidB).Option} {
		b, err := o.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		write(t, s, efivar.BootName(n), b)
	}
	for name, c := range map[string]struct {
		at     Place
		before []uint16
		want   []uint16
	}{
		"first":                      {First, []uint16{2, 0, 3}, []uint16{0x11, 0x10, 2, 0, 3}},
		"first, as it was":           {First, []uint16{0x11, 0x10, 2}, []uint16{0x11, 0x10, 2}},
		"behind the network":         {BehindNetwork, []uint16{0, 2, 0x10, 3}, []uint16{2, 3, 0x11, 0x10, 0}},
		"behind no network":          {BehindNetwork, []uint16{0}, []uint16{0x11, 0x10, 0}},
		"kept: new":                  {Kept, []uint16{2, 0}, []uint16{2, 0, 0x11, 0x10}},
		"kept: change places":        {Kept, []uint16{2, 0x10, 0, 0x11}, []uint16{2, 0x11, 0, 0x10}},
		"kept: one":                  {Kept, []uint16{0x10, 2}, []uint16{0x11, 2, 0x10}},
		"kept: an order of nothing":  {Kept, nil, []uint16{0x11, 0x10}},
		"first: an order of nothing": {First, nil, []uint16{0x11, 0x10}},
	} {
		write(t, s, efivar.BootOrder, efivar.MarshalOrder(c.before...))
		if err := s.Order([]uint16{0x11, 0x10}, c.at); err != nil {
			t.Fatal(err)
		}
		if got := s.order(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %04X, want %04X", name, got, c.want)
		}
	}
}
