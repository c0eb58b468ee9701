package measure

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/predict"
	"github.com/ingot-os/ingot/boot"
	"github.com/ingot-os/ingot/boot/pe"
	"github.com/ingot-os/ingot/internal/build/buildtest"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/internal/rig"
	"github.com/ingot-os/ingot/internal/source"
	"github.com/ingot-os/ingot/internal/source/deb"
)

// debian13 takes a file out of a package of Debian 13.
func debian13(t *testing.T, pkg, name string) string {
	t.Helper()
	f, err := source.New(source.Options{})
	if err != nil {
		t.Fatal(err)
	}
	in, _, err := f.Package(t.Context(), "trixie", boot.AMD64, pkg)
	if err != nil {
		t.Fatal(err)
	}
	in.Name = pkg
	path, err := f.Fetch(t.Context(), in, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := deb.Extract(path, name, &b); err != nil {
		t.Fatal(err)
	}
	return file(t, filepath.Base(name), b.Bytes())
}

func file(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// ukify lets systemd's own program make a UKI of Debian 13's version.
func ukify(t *testing.T, stub string, parts map[string][]byte, more ...string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("downloads packages")
	}
	python := oracle.Need(t, "python3", "/usr/bin/python3")
	oracle.Need(t, "python3-pefile", "/usr/lib/python3/dist-packages/pefile.py")
	out := filepath.Join(t.TempDir(), "ukify.efi")
	args := []string{debian13(t, "systemd-ukify", "usr/bin/ukify"), "build", "--stub", stub, "--output", out}
	for _, option := range []string{"linux", "initrd"} {
		args = append(args, "--"+option, file(t, option, parts[option]))
	}
	for _, option := range []string{"os-release", "cmdline"} {
		args = append(args, "--"+option, "@"+file(t, option, parts[option]))
	}
	oracle.Run(t, python, append(append(args, "--uname", "6.12.0-tiny"), more...)...)
	return out
}

// TestUkify boots an image that ukify of Debian 13 has made around the stub of
// Debian 13.
func TestUkify(t *testing.T) {
	set, spec := openSet(t)
	uki := read(t, set.UKI())
	f, err := pe.Parse(bytes.NewReader(uki), int64(len(uki)))
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string][]byte{}
	for option, section := range map[string]string{"linux": ".linux", "initrd": ".initrd", "os-release": ".osrel", "cmdline": ".cmdline"} {
		s := f.Section(section)
		parts[option] = uki[s.Offset : int64(s.Offset)+s.DataSize()]
	}
	name := ukify(t, debian13(t, "systemd-boot-efi", boot.StubPath(boot.AMD64)), parts)
	e := record(t, qemu.Machine{Image: withUKI(t, set, read(t, name)), Vars: rig.Vars(set, spec)})
	compare(t, must(t, name, Options{Boot: predict.Disk, Disk: set.Image()}), e)
}

// TestUkify252 compares an image that ukify has made around the stub of Debian
// 12 with systemd-measure of Debian 12.
func TestUkify252(t *testing.T) {
	measure := oracle.Need(t, "systemd", "/usr/lib/systemd/systemd-measure")
	stub := oracle.Need(t, "systemd-boot-efi", "/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
	if !bytes.Contains(read(t, stub), []byte("systemd-stub 252.")) {
		t.Skip("the installed systemd-boot-efi is not 252, as in Debian 12")
	}
	parts := map[string][]byte{"linux": buildtest.Kernel(), "initrd": bytes.Repeat([]byte("070701"), 999), "os-release": []byte("ID=test\n"), "cmdline": []byte("console=ttyS0 quiet")}
	// ukify adds a line to the stub's .sbat, which grows over the section behind
	// it: an image that two readers read in two ways.
	if _, err := Of(ukify(t, stub, parts), Options{Boot: predict.PXE, Banks: banks}); err == nil || !strings.Contains(err.Error(), `section ".sdmagic" at 0x19100 lies inside ".sbat"`) {
		t.Errorf("sections that overlap: %v", err)
	}
	name := ukify(t, stub, parts, "--sbat", "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md")
	p := must(t, name, Options{Boot: predict.PXE})
	if !strings.HasPrefix(p.Stub, "systemd-stub 252.") {
		t.Errorf("the stub is %q", p.Stub)
	}
	args := []string{"calculate", "--phase="}
	for option, section := range map[string]string{"linux": "linux", "initrd": "initrd", "os-release": "osrel", "cmdline": "cmdline"} {
		args = append(args, fmt.Sprintf("--%s=%s", section, file(t, section, parts[option])))
	}
	for bank := range p.PCRs {
		args = append(args, "--bank="+bank.String())
	}
	lines := regexp.MustCompile(`11:(sha\d+)=([0-9a-f]+)`).FindAllStringSubmatch(oracle.Run(t, measure, args...), -1)
	if len(lines) != len(p.PCRs) {
		t.Fatalf("systemd-measure says %q", lines)
	}
	for _, m := range lines {
		bank, err := pcr.ParseBank(m[1])
		if err != nil || p.PCRs[bank][11].String() != m[2] {
			t.Errorf("%s: predicted %s, systemd-measure says %s", m[1], p.PCRs[bank][11], m[2])
		}
	}
}
