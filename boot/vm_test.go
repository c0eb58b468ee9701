package boot_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/boot"
	"github.com/ingot-os/ingot/boot/bls"
	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/boot/pe"
	"github.com/ingot-os/ingot/boot/varstore"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/partition/tree"
)

// TestSlotsBoot starts a machine whose boot entries were written into its
// flash before its first boot: BootNext once, then the first of BootOrder,
// both on partitions that are no EFI system partitions.
func TestSlotsBoot(t *testing.T) {
	for _, arch := range []string{boot.AMD64, boot.ARM64} {
		t.Run(arch, func(t *testing.T) { testSlotsBoot(t, arch) })
	}
}

func testSlotsBoot(t *testing.T, arch string) {
	dir := t.TempDir()
	disk, vars := filepath.Join(dir, "disk"), filepath.Join(dir, "vars")
	path := boot.FallbackPath(arch)
	parts := makeDisk(t, disk, []part{
		{"ef00", "11111111-0000-4000-8000-000000000001", map[string][]byte{path: app(arch, "fallback", resetShutdown)}},
		{slotType, "11111111-0000-4000-8000-00000000000a", map[string][]byte{path: app(arch, "slot-a", resetShutdown)}},
		{slotType, "11111111-0000-4000-8000-00000000000b", map[string][]byte{path: app(arch, "slot-b", resetCold)}},
	})
	image := oracle.ReadFile(t, firmwares[arch].pkg, firmwares[arch].vars)
	writeVars(t, vars, image, map[string][]byte{
		efivar.BootName(0x10): slot(t, parts[1], path, "ingot slot A"),
		efivar.BootName(0x11): slot(t, parts[2], path, "ingot slot B"),
		efivar.BootOrder:      efivar.MarshalOrder(0x10, 0x11),
		efivar.BootNext:       efivar.MarshalOrder(0x11),
	})
	console := runVM(t, arch, vars, disk, "")
	if diff := cmp.Diff([]string{"slot-b", "slot-a"}, appsIn(console)); diff != "" {
		t.Errorf("order of boots (-want +got):\n%s\n%s", diff, console)
	}
	checkVars(t, vars, slot(t, parts[1], path, "ingot slot A"))
}

func slot(t *testing.T, p efivar.HDPartition, path, title string) []byte {
	t.Helper()
	b, err := efivar.SlotEntry(p, path, title, nil).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func writeVars(t *testing.T, path string, image []byte, vars map[string][]byte) {
	t.Helper()
	s, err := varstore.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range vars {
		if err := s.Set(varstore.Variable{Name: name, GUID: efivar.Global, Attributes: efivar.BootAttributes, Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, s.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// checkVars reads the flash after the firmware has written to it: BootNext was
// used up, our entries are as we wrote them and still come first, and the
// firmware's own entries decode.
func checkVars(t *testing.T, path string, wantA []byte) {
	t.Helper()
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := varstore.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Get(efivar.BootNext, efivar.Global); ok {
		t.Error("BootNext is still there after the boot")
	}
	v, _ := s.Get(efivar.BootName(0x10), efivar.Global)
	if !bytes.Equal(v.Data, wantA) {
		t.Errorf("Boot0010 = %x, want %x", v.Data, wantA)
	}
	v, _ = s.Get(efivar.BootOrder, efivar.Global)
	order, err := efivar.ParseOrder(v.Data)
	if err != nil || len(order) < 3 || order[0] != 0x10 || order[1] != 0x11 {
		t.Errorf("BootOrder = %x, %v; want 0010, 0011 and entries of the firmware", order, err)
	}
	for _, n := range order {
		v, _ := s.Get(efivar.BootName(n), efivar.Global)
		o, err := efivar.ParseLoadOption(v.Data)
		if err != nil {
			t.Errorf("%s: %v", efivar.BootName(n), err)
			continue
		}
		t.Logf("%s %s", efivar.BootName(n), o)
		if b, err := o.MarshalBinary(); err != nil || !bytes.Equal(b, v.Data) {
			t.Errorf("%s written back = %x, %v; want %x", efivar.BootName(n), b, err, v.Data)
		}
	}
}

// uki turns a test application into an image that systemd-boot lists.
func uki(t *testing.T, name, version string, reset byte) []byte {
	t.Helper()
	p, err := pe.AppendSections(app(boot.AMD64, name, reset), []pe.Section{
		{Name: ".osrel", Data: tree.Bytes(osRelease(name, version))},
		{Name: ".cmdline", Data: tree.Bytes("console=ttyS0")},
		{Name: ".sdmagic", Data: tree.Bytes("#### LoaderInfo: systemd-stub 257 ####\x00")},
		{Name: ".linux", Data: tree.Bytes("none")},
	})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := p.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestSystemdBoot boots a disk that has systemd-boot and no boot entries: the
// newer image is tried once, then its counter is used up and the older one runs.
func TestSystemdBoot(t *testing.T) {
	loader := oracle.ReadFile(t, "systemd-boot-efi", "/"+boot.LoaderPath(boot.AMD64))
	files, err := bls.Files(bls.ESP{
		Fallback: boot.FallbackPath(boot.AMD64), Loader: tree.Bytes(loader),
		Images: []bls.Image{
			{Name: bls.ImageName{Stem: "app_1"}, Content: tree.Bytes(uki(t, "app 1", "1", resetShutdown))},
			{Name: bls.ImageName{Stem: "app_2", Counted: true, Left: 1}, Content: tree.Bytes(uki(t, "app 2", "2", resetCold))},
		},
		Entries: []bls.Entry{{Name: "tool", Title: "A tool", EFI: "/EFI/BOOT/BOOTX64.EFI"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	content := map[string][]byte{}
	for _, n := range files.Nodes() {
		if n.Mode.IsRegular() {
			content[n.Path] = readNode(t, n)
		}
	}
	dir := t.TempDir()
	disk, vars := filepath.Join(dir, "disk"), filepath.Join(dir, "vars")
	makeDisk(t, disk, []part{{"ef00", "11111111-0000-4000-8000-000000000001", content}})
	image := oracle.ReadFile(t, "ovmf", firmwares[boot.AMD64].vars)
	writeVars(t, vars, image, nil)
	console := runVM(t, boot.AMD64, vars, disk, "")
	if diff := cmp.Diff([]string{"app 2", "app 1"}, appsIn(console)); diff != "" {
		t.Errorf("order of boots (-want +got):\n%s\n%s", diff, console)
	}
	listing := oracle.Run(t, oracle.Need(t, "mtools", "mdir"), "-b", "-i", fmt.Sprintf("%s@@%d", disk, mib), "::EFI/Linux")
	if !strings.Contains(listing, "app_2+0-1.efi") {
		t.Errorf("EFI/Linux after its one try:\n%s", listing)
	}
}

func readNode(t *testing.T, n *tree.Node) []byte {
	t.Helper()
	r, err := n.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
