package netboot

import "testing"

// TestArchs: numbers as firmware sends them. 7 and 9 are the pair that tables swap.
func TestArchs(t *testing.T) {
	for a, want := range map[Arch]struct {
		goarch    string
		http, efi bool
	}{
		0: {"amd64", false, false}, 7: {"amd64", false, true}, 9: {"amd64", false, true}, 16: {"amd64", true, true},
		11: {"arm64", false, true}, 19: {"arm64", true, true}, 6: {"", false, true}, 41: {"", false, false}, 1234: {}, Unknown: {},
	} {
		if a.GOARCH() != want.goarch || a.HTTP() != want.http || a.UEFI() != want.efi {
			t.Errorf("%s: %q, HTTP %t, UEFI %t", a, a.GOARCH(), a.HTTP(), a.UEFI())
		}
	}
	if s := Arch(1234).String(); s != "unknown (1234)" {
		t.Errorf("%q", s)
	}
}

func TestMAC(t *testing.T) {
	for _, s := range []string{"52:54:00:12:34:56", "52-54-00-12-34-56", "525400123456", "52:54:00:12:34:56"} {
		m, err := ParseMAC(s)
		if err != nil || m.String() != "52:54:00:12:34:56" || m.Plain() != "525400123456" {
			t.Errorf("%s: %s, %v", s, m, err)
		}
	}
	for _, s := range []string{"", "52:54:00:12:34", "52:54:00:12:34:5g", "52:54:00:12:34:56:78"} {
		if _, err := ParseMAC(s); err == nil {
			t.Errorf("%q is an address", s)
		}
	}
}
