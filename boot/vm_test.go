package boot_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/boot"
	"github.com/ingot-os/ingot/boot/bls"
	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/boot/pe"
	"github.com/ingot-os/ingot/boot/varstore"
	"github.com/ingot-os/ingot/partition/gpt"
	"github.com/ingot-os/ingot/partition/tree"
)

// need returns the first of the files that exists. Without one it skips the
// test, or fails it where all tools are required.
func need(t *testing.T, pkg string, files ...string) string {
	t.Helper()
	for _, f := range files {
		if p, err := exec.LookPath(f); err == nil {
			return p
		}
		if _, err := os.Stat(f); err == nil {
			return f
		}
	}
	if os.Getenv("INGOT_REQUIRE_TOOLS") == "1" {
		t.Fatalf("none of %q: install %s", files, pkg)
	}
	t.Skipf("none of %q: install %s", files, pkg)
	return ""
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// part is one FAT partition of a test disk.
type part struct {
	typ   string // sgdisk type code or GUID
	guid  string
	files map[string][]byte
}

// slotType is any GUID that firmware does not know.
const slotType = "7d3c1a6e-2f7b-4c55-9a1e-0d6a5b4c3f21"

const mib = 1 << 20

// partSize is the size of each test partition; FAT16 is enough for firmware.
const partSize = 16 * mib

// makeDisk writes a GPT disk with mtools and sgdisk and returns its partitions
// as a boot entry names them.
func makeDisk(t *testing.T, path string, parts []part) []efivar.HDPartition {
	t.Helper()
	sgdisk, mformat := need(t, "gdisk", "sgdisk"), need(t, "mtools", "mformat")
	mmd, mcopy := need(t, "mtools", "mmd"), need(t, "mtools", "mcopy")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, int64(len(parts)*partSize+2*mib)); err != nil {
		t.Fatal(err)
	}
	args := []string{"-a", "2048"}
	var out []efivar.HDPartition
	for i, p := range parts {
		start := mib + i*partSize
		args = append(args, "-n", fmt.Sprintf("%d:%d:+%d", i+1, start/512, partSize/512-1), "-t", fmt.Sprintf("%d:%s", i+1, p.typ), "-u", fmt.Sprintf("%d:%s", i+1, p.guid))
		out = append(out, efivar.HDPartition{Number: uint32(i + 1), Start: uint64(start / 512), Size: partSize / 512, GUID: gpt.MustGUID(p.guid)})
	}
	run(t, sgdisk, append(args, path)...)
	for i, p := range parts {
		at := fmt.Sprintf("%s@@%d", path, mib+i*partSize)
		run(t, mformat, "-i", at, "-T", fmt.Sprint(partSize/512), "-h", "16", "-s", "32", "-v", "T", "::")
		for name, content := range p.files {
			local := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(local, content, 0o644); err != nil {
				t.Fatal(err)
			}
			for dir := filepath.Dir(name); dir != "."; dir = filepath.Dir(dir) {
				exec.Command(mmd, "-D", "s", "-i", at, "::"+filepath.Dir(dir)).Run() // it may exist
				exec.Command(mmd, "-D", "s", "-i", at, "::"+dir).Run()
			}
			run(t, mcopy, "-i", at, local, "::"+name)
		}
	}
	return out
}

// firmware says how to start a machine of an architecture.
type firmware struct {
	qemu, qemuPackage string
	args              []string
	code, vars, pkg   string
}

var firmwares = map[string]firmware{
	boot.AMD64: {"qemu-system-x86_64", "qemu-system-x86", []string{"-machine", "q35"}, "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd", "ovmf"},
	boot.ARM64: {"qemu-system-aarch64", "qemu-system-arm", []string{"-machine", "virt", "-cpu", "cortex-a57"}, "/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd", "qemu-efi-aarch64"},
}

// runVM boots a disk until the guest powers off or the text is on the console,
// and returns the console.
func runVM(t *testing.T, arch, vars, disk, until string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a machine")
	}
	f := firmwares[arch]
	qemu := need(t, f.qemuPackage, f.qemu)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	args := append(append([]string{}, f.args...), "-accel", "tcg", "-m", "256", "-display", "none", "-monitor", "none", "-serial", "stdio", "-net", "none",
		"-drive", "if=pflash,format=raw,unit=0,readonly=on,file="+need(t, f.pkg, f.code),
		"-drive", "if=pflash,format=raw,unit=1,file="+vars,
		"-drive", "if=none,id=d,format=raw,file="+disk, "-device", "virtio-blk-pci,drive=d")
	cmd := exec.CommandContext(ctx, qemu, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var console bytes.Buffer
	for buf := make([]byte, 4096); ; {
		n, err := out.Read(buf)
		console.Write(buf[:n])
		if until != "" && strings.Contains(console.String(), until) {
			cancel()
		}
		if err != nil {
			break
		}
	}
	err = cmd.Wait()
	if ctx.Err() == context.DeadlineExceeded {
		t.Fatalf("machine did not power off: %v\n%s\n%s", err, stderr.String(), console.String())
	}
	return console.String()
}

// appsIn lists the test applications in the order in which they spoke.
func appsIn(console string) (out []string) {
	for _, line := range strings.Split(console, "APP<")[1:] {
		name, _, _ := strings.Cut(line, ">")
		out = append(out, name)
	}
	return out
}

func app(arch, name string, reset byte) []byte {
	return efiApp(arch, "\r\nAPP<"+name+">\r\n", reset)
}

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
	image, err := os.ReadFile(need(t, firmwares[arch].pkg, firmwares[arch].vars))
	if err != nil {
		t.Fatal(err)
	}
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
	loader, err := os.ReadFile(need(t, "systemd-boot-efi", "/"+boot.LoaderPath(boot.AMD64)))
	if err != nil {
		t.Fatal(err)
	}
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
	image, err := os.ReadFile(need(t, "ovmf", firmwares[boot.AMD64].vars))
	if err != nil {
		t.Fatal(err)
	}
	writeVars(t, vars, image, nil)
	console := runVM(t, boot.AMD64, vars, disk, "")
	if diff := cmp.Diff([]string{"app 2", "app 1"}, appsIn(console)); diff != "" {
		t.Errorf("order of boots (-want +got):\n%s\n%s", diff, console)
	}
	listing := run(t, need(t, "mtools", "mdir"), "-b", "-i", fmt.Sprintf("%s@@%d", disk, mib), "::EFI/Linux")
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
