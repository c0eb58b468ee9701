package predict

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/internal/oracle"
)

// TestSections: which sections are measured and in what order is a matter of
// the stub's version, not of the image's section table.
func TestSections(t *testing.T) {
	for version, want := range map[string]string{
		"252.39-1~deb12u2": ".linux .osrel .cmdline .initrd .splash .dtb .pcrpkey",
		"253":              ".linux .osrel .cmdline .initrd .splash .dtb .pcrpkey",
		"254.1":            ".linux .osrel .cmdline .initrd .splash .dtb .uname .sbat .pcrpkey",
		"255~rc1":          ".linux .osrel .cmdline .initrd .splash .dtb .uname .sbat .pcrpkey",
		"256":              ".linux .osrel .cmdline .initrd .ucode .splash .dtb .uname .sbat .pcrpkey",
		"257.13-1~deb13u1": ".linux .osrel .cmdline .initrd .ucode .splash .dtb .uname .sbat .pcrpkey",
	} {
		p := mustPredict(t, sha, everything(version)...)
		var twice []string
		for _, name := range strings.Fields(want) {
			twice = append(twice, name+" (name)", name)
		}
		if diff := cmp.Diff(twice, names(p, 11)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", version, diff)
		}
	}
}

// TestContent: a section's name is measured with its NUL, its content as it is
// in memory.
func TestContent(t *testing.T) {
	p := mustPredict(t, sha, stubOf("257"), linux, sec{".initrd", "abc", 6000}, sec{name: ".osrel"})
	if got, want := digest(t, p, ".initrd (name)"), sum(".initrd\x00"); got != want {
		t.Errorf("name: %s, want %s", got, want)
	}
	if got, want := digest(t, p, ".initrd"), sum("abc"+strings.Repeat("\x00", 5997)); got != want {
		t.Errorf("content: %s, want %s", got, want)
	}
	for _, e := range p.Events {
		if e.Name == ".osrel" {
			t.Error("an empty section is measured")
		}
	}
}

// TestFirstSectionWins: the stub takes the first of two sections of one name.
func TestFirstSectionWins(t *testing.T) {
	p := mustPredict(t, sha, stubOf("257"), linux, sec{name: ".cmdline", data: "first"}, sec{name: ".cmdline", data: "second"})
	if p.Cmdline != "first" || digest(t, p, ".cmdline") != sum("first") {
		t.Errorf("predicted %q", p.Cmdline)
	}
}

func TestUnknownStubs(t *testing.T) {
	for _, version := range []string{"251", "258", "261.1", "999", "x", ""} {
		_, err := predictOf(t, sha, stubOf(version), linux)
		var v *VersionError
		if !errors.As(err, &v) || !strings.Contains(err.Error(), "252, 253, 254, 255, 256, 257") {
			t.Errorf("version %q: %v", version, err)
		}
	}
	for want, sections := range map[string][]sec{
		"no section .linux":                     {stubOf("257")},
		"no section .sdmagic":                   {linux},
		"does not name the stub":                {linux, {name: ".sdmagic", data: "#### LoaderInfo: systemd-stub"}},
		"in memory, 512 in the file":            {linux, stubOf("257"), {".osrel", "x", 2 << 20}},
		"no rules":                              {linux, {name: ".sdmagic", data: "#### LoaderInfo: systemd-boot 257 ####"}},
		".profile: what is measured depends":    append(everything("257"), sec{name: ".profile", data: "x"}),
		".dtbauto: what is measured depends on": append(everything("257"), sec{name: ".dtbauto", data: "x"}),
	} {
		if _, err := predictOf(t, sha, sections...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestCmdline: who decides what the kernel is told, and that it is measured
// with its NUL.
func TestCmdline(t *testing.T) {
	own := []sec{stubOf("257"), linux, {name: ".cmdline", data: "own\x00junk"}}
	for name, c := range map[string]struct {
		sections []sec
		secure   bool
		options  string
		want     string
		replaced bool
	}{
		"own":               {own, false, "", "own", false},
		"replaced":          {own, false, "x.efi", "x.efi", true},
		"own, secure boot":  {own, true, "x.efi", "own", false},
		"none, secure boot": {own[:2], true, "x.efi", "x.efi", false},
		"none":              {own[:2], false, "", "", false},
	} {
		p := mustPredict(t, with(func(o *Options) { o.Boot, o.SecureBoot, o.LoadOptions = Kernel, c.secure, c.options }), c.sections...)
		if p.Cmdline != c.want || p.Replaced != c.replaced {
			t.Errorf("%s: %q, replaced %v", name, p.Cmdline, p.Replaced)
		}
		if got, want := digest(t, p, "LOADED_IMAGE::LoadOptions"), sum(utf16of(c.want)); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		if c.want == "x.efi" && digest(t, p, "load options") != sum(utf16of("x.efi")) {
			t.Errorf("%s: PCR 12", name)
		}
	}
}

// TestCmdlineSpace: what each stub makes of white space, as booted.
func TestCmdlineSpace(t *testing.T) {
	for _, c := range []struct{ version, in, want string }{
		{"252", " a\tb  c \n", " a b  c"}, {"257", " a\tb  c \n", "a b  c"}, {"255", "a\tb \x00", "a b"},
		{"255", " a", ""}, {"252", "\xc3\xa4", ""}, {"257", " \n", ""},
	} {
		p, err := predictOf(t, sha, stubOf(c.version), linux, sec{name: ".cmdline", data: c.in})
		if wrong := c.want == "" && c.in != " \n"; wrong != (err != nil) || !wrong && p.Cmdline != c.want {
			t.Errorf("%s %q: %v, %v", c.version, c.in, p, err)
		}
	}
}

// TestInitrd: one part is handed over as it lies, several are padded.
func TestInitrd(t *testing.T) {
	p := mustPredict(t, sha, stubOf("252"), linux, sec{name: ".initrd", data: "odd"}, sec{name: ".osrel", data: "ID=x"})
	if got := digest(t, p, "Linux initrd"); got != sum("odd") {
		t.Errorf("one part: %s", got)
	}
	p = mustPredict(t, sha, stubOf("257"), linux, sec{name: ".initrd", data: "odd"}, sec{name: ".ucode", data: "micro"}, sec{name: ".osrel", data: "ID=x"})
	if got, want := digest(t, p, "Linux initrd"), sum("micro\x00\x00\x00odd\x00"+string(cpio("os-release", []byte("ID=x")))); got != want {
		t.Errorf("three parts: %s, want %s", got, want)
	}
	p = mustPredict(t, sha, stubOf("252"), linux)
	if got := names(p, 9); len(got) != 1 {
		t.Errorf("without an initrd: %q", got)
	}
}

// TestCpio has GNU cpio unpack the archive of one file.
func TestCpio(t *testing.T) {
	dir := t.TempDir()
	c := oracle.Command(oracle.Need(t, "cpio", "cpio"), "-idm", "--quiet")
	c.Dir, c.Stdin = dir, bytes.NewReader(cpio("os-release", []byte("ID=x\n")))
	if out, err := c.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(filepath.Join(dir, ".extra/os-release"))
	info, err2 := os.Stat(filepath.Join(dir, ".extra/os-release"))
	if err != nil || err2 != nil || string(b) != "ID=x\n" || info.Mode().Perm() != 0o444 {
		t.Errorf("%q, %v, %v, %v", b, info, err, err2)
	}
}

// TestSystemdMeasure has systemd's own tool compute PCR 11.
func TestSystemdMeasure(t *testing.T) {
	tool := oracle.Need(t, "systemd", "/usr/lib/systemd/systemd-measure")
	dir := t.TempDir()
	args := []string{"calculate", "--bank=sha1", "--bank=sha256", "--bank=sha384", "--phase="}
	sections := []sec{stubOf("252")}
	for _, s := range everything("252")[4:] {
		if s.name == ".ucode" || s.name == ".uname" { // newer than the tool of 252
			continue
		}
		file := filepath.Join(dir, s.name[1:])
		if err := os.WriteFile(file, []byte(s.data), 0o644); err != nil {
			t.Fatal(err)
		}
		args, sections = append(args, fmt.Sprintf("--%s=%s", s.name[1:], file)), append(sections, s)
	}
	out := oracle.Run(t, tool, args...)
	p := mustPredict(t, Options{Boot: Disk, Banks: []pcr.Bank{pcr.SHA1, pcr.SHA256, pcr.SHA384}}, sections...)
	lines := regexp.MustCompile(`11:(sha\d+)=([0-9a-f]+)`).FindAllStringSubmatch(out, -1)
	if len(lines) != 3 {
		t.Fatalf("%s", out)
	}
	for _, m := range lines {
		bank, err := pcr.ParseBank(m[1])
		if err != nil || p.PCRs[bank][11].String() != m[2] {
			t.Errorf("%s: predicted %s, systemd-measure says %s", m[1], p.PCRs[bank][11], m[2])
		}
	}
}
