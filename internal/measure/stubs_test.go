package measure

import (
	"bytes"
	"io"
	"os"
	"testing"

	"github.com/ingot-os/ingot/attest/predict"
	"github.com/ingot-os/ingot/boot/pe"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/internal/rig"
	"github.com/ingot-os/ingot/partition/tree"
)

// around puts the parts of a UKI around another stub, with files for the initrd,
// a section that no stub knows, and another command line.
func around(t *testing.T, stub, uki []byte, cmdline func(string) string) []byte {
	t.Helper()
	f, err := pe.Parse(bytes.NewReader(uki), int64(len(uki)))
	if err != nil {
		t.Fatal(err)
	}
	list := []pe.Section{{Name: ".pcrsig", Data: tree.Bytes("{}")}, {Name: ".pcrpkey", Data: tree.Bytes("a key")},
		{Name: ".uname", Data: tree.Bytes("6.12")}, {Name: ".foo", Data: tree.Bytes("x")}}
	for _, name := range []string{".osrel", ".cmdline", ".initrd", ".linux"} {
		b, err := io.ReadAll(f.Section(name).Data(bytes.NewReader(uki)))
		if err != nil {
			t.Fatal(err)
		}
		if name == ".cmdline" {
			b = []byte(cmdline(string(b)))
		}
		list = append(list, pe.Section{Name: name, Data: tree.Bytes(b)})
	}
	plan, err := pe.AppendSections(stub, list)
	if err != nil {
		t.Fatal(err)
	}
	var image bytes.Buffer
	if _, err := plan.WriteTo(&image); err != nil {
		t.Fatal(err)
	}
	return image.Bytes()
}

// boots starts a machine with the image in its slot and compares.
func boots(t *testing.T, stub []byte, cmdline func(string) string) {
	t.Helper()
	set, spec := openSet(t)
	image := around(t, stub, read(t, set.UKI()), cmdline)
	e := record(t, qemu.Machine{Image: withUKI(t, set, image), Vars: rig.Vars(set, spec)})
	compare(t, must(t, file(t, "other.efi", image), Options{Boot: predict.Disk, Disk: set.Image()}), e)
}

// TestStub252 boots an image that was put together around the stub of Debian 12.
func TestStub252(t *testing.T) {
	stub := read(t, oracle.Need(t, "systemd-boot-efi", "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"))
	if !bytes.Contains(stub, []byte("systemd-stub 252.")) {
		t.Skip("the installed systemd-boot-efi is not 252, as in Debian 12")
	}
	boots(t, stub, func(s string) string { return " " + s + " \n" })
}

// TestOtherStub does it with a stub that INGOT_STUB names, without and with
// Secure Boot: no release of Debian has those of 254 and 262 in a suite that stays
// as it is. Recordings of such boots are tested in attest/predict.
func TestOtherStub(t *testing.T) {
	name := os.Getenv("INGOT_STUB")
	if name == "" {
		t.Skip("INGOT_STUB names no stub to boot (linuxx64.efi.stub of a package systemd-boot-efi)")
	}
	stub, cmdline := read(t, name), func(s string) string { return " a\tb  " + s + " \n" }
	boots(t, stub, cmdline)
	set, spec := openSet(t)
	image := around(t, stub, read(t, set.UKI()), cmdline)
	e, keys := enforced(t, set, spec, image)
	compare(t, must(t, file(t, "signed.efi", image), Options{Boot: predict.Disk, Disk: set.Image(), SecureBoot: true, Keys: keys}), e)
}
