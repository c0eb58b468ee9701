package debian

import (
	"os/exec"
	"testing"

	"github.com/ingot-os/ingot/internal/oracle"
)

var versions = []string{
	"0", "1", "1.0", "1.0-0", "1.0-1", "1.0-1~deb13u1", "1.0-1+deb13u1", "1.0~rc1", "1.0~~", "1.0~~a", "1.0~", "1.0a", "1.0+", "1.0.0",
	"1:0.1", "0:1.0", "1.10", "1.9", "01.9", "6.12.107-1", "6.12.107+deb13-1", "6.12.17-1", "257.13-1~deb13u1", "257.13-1", "2-1-1",
	"1.0-a", "1.0-Z", "1.2.3-4.5", "1.2.3-4+b1", "20250410-2", "99999999999999999999", "100000000000000000000", "1a2", "1a10", "0~0",
}

func TestCompareAgreesWithDpkg(t *testing.T) {
	dpkg := oracle.Need(t, "dpkg", "dpkg")
	for i, a := range versions {
		for _, b := range versions[i:] {
			want := 1
			if exec.Command(dpkg, "--compare-versions", a, "lt", b).Run() == nil {
				want = -1
			} else if exec.Command(dpkg, "--compare-versions", a, "eq", b).Run() == nil {
				want = 0
			}
			if got := Compare(a, b); got != want {
				t.Errorf("Compare(%q, %q) = %d, dpkg says %d", a, b, got, want)
			}
			if got := Compare(b, a); got != -want {
				t.Errorf("Compare(%q, %q) = %d, want %d", b, a, got, -want)
			}
		}
	}
}

func TestCompareNeedsNoDpkg(t *testing.T) {
	rising := []string{"1.0~~", "1.0~~a", "1.0~", "1.0", "1.0-1~deb13u1", "1.0-1", "1.0-1+deb13u1", "1.0a", "1.0+", "1.0.0", "1.9", "1.10", "1:0.1"}
	for i, a := range rising {
		for j, b := range rising {
			if got, want := Compare(a, b), sign(i-j); got != want {
				t.Errorf("Compare(%q, %q) = %d, want %d", a, b, got, want)
			}
		}
	}
}
