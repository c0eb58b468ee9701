package predict

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestStub262: the kernel is not in PCR 4, the sections and the initrd are
// those of 257, and what depends on the machine is an error.
func TestStub262(t *testing.T) {
	parts := everything("262.1-1")
	p := mustPredict(t, sha, parts...)
	if diff := cmp.Diff([]string{calling, "separator", "UKI"}, names(p, 4)); diff != "" {
		t.Errorf("PCR 4 (-want +got):\n%s", diff)
	}
	old := mustPredict(t, sha, everything("257.13-1~deb13u1")...)
	for _, register := range []int{9, 11, 12} {
		if diff := cmp.Diff(ofRegister(old, register), ofRegister(p, register)); diff != "" {
			t.Errorf("PCR %d (-257 +262):\n%s", register, diff)
		}
	}
	for cmdline, ok := range map[string]bool{"console=ttyS0": true, "quiet console=ttyS0": true, " \tconsole=x": true, "": false, "quiet": false,
		"noconsole=x": false, "netconsole=y a": false, `a="b console=x"`: true} {
		_, err := predictOf(t, sha, stubOf("262"), linux, sec{name: ".cmdline", data: cmdline})
		if ok != (err == nil) || err != nil && !strings.Contains(err.Error(), "has no console=") {
			t.Errorf("%q: %v", cmdline, err)
		}
	}
	// The loader's file name takes the place of the image's own words.
	o := with(func(o *Options) { o.Boot, o.LoadOptions = IPXE, "x.efi" })
	if _, err := predictOf(t, o, parts...); err == nil || !strings.Contains(err.Error(), `"x.efi" has no console=`) {
		t.Errorf("load options: %v", err)
	}
	o.SecureBoot = true
	mustPredict(t, o, parts...)
}

// TestBootSecret: systemd-boot brings the folder in which the stub of 262 keeps
// what its secret is made of.
func TestBootSecret(t *testing.T) {
	loader := build(sec{name: ".sdmagic", data: "#### LoaderInfo: systemd-boot 257.13 ####"}, sec{name: ".text", data: "loader"})
	o := with(func(o *Options) {
		o.Loader = &Program{Image: strings.NewReader(string(loader)), Size: int64(len(loader))}
	})
	mustPredict(t, o, everything("257.13")...)
	if _, err := predictOf(t, o, everything("262.1-1")...); err == nil || !strings.Contains(err.Error(), "boot secret") {
		t.Errorf("beside systemd-boot: %v", err)
	}
}
