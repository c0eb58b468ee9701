package boot

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseOSRelease(t *testing.T) {
	got, err := parseOSRelease("# comment\n\nID=debian\nPRETTY_NAME=\"Debian GNU/Linux \\\"13\\\" \\$x\"\nVERSION='a \\b'\nEMPTY=\nEMPTY2=\"\"\n")
	want := map[string]string{"ID": "debian", "PRETTY_NAME": `Debian GNU/Linux "13" $x`, "VERSION": `a \b`, "EMPTY": "", "EMPTY2": ""}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for _, s := range []string{"ID", "=x", "A B=x", "ID=\"x", "ID='", "ID=a b", "ID=$x"} {
		if got, err := parseOSRelease(s); err == nil {
			t.Errorf("%q = %v, want an error", s, got)
		}
	}
}

func TestMajorVersion(t *testing.T) {
	for s, want := range map[string]int{"systemd-stub 257.13-1~deb13u1": 257, "systemd-stub 252": 252, "systemd-stub": 0, "systemd-stub v1": 0} {
		if got := majorVersion(s); got != want {
			t.Errorf("%q = %d, want %d", s, got, want)
		}
	}
}

func FuzzOSRelease(f *testing.F) {
	f.Add("ID=x\nPRETTY_NAME=\"a b\"\n")
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := parseOSRelease(s); err == nil {
			checkOSRelease(s)
		}
	})
}
