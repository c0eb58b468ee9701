package boot_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/boot"
	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/boot/pe"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/partition/gpt"
	"github.com/ingot-os/ingot/partition/tree"
)

// fakeStub is a stub by all that Assemble looks at.
func fakeStub(t *testing.T, arch, version string) tree.Bytes {
	t.Helper()
	magic := "#### LoaderInfo: systemd-stub " + version + " ####\x00"
	return write(t, app(arch, "stub", resetShutdown), pe.Section{Name: ".sdmagic", Data: tree.Bytes(magic)})
}

func write(t *testing.T, stub []byte, sections ...pe.Section) tree.Bytes {
	t.Helper()
	p, err := pe.AppendSections(stub, sections)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := p.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const kernelRelease = "6.12.0-test"

// fakeKernel is an EFI application with the header of a kernel.
func fakeKernel(arch string) tree.Bytes {
	b := efiApp(arch, strings.Repeat("kernel", 100), resetShutdown)
	if arch == boot.ARM64 {
		copy(b[56:], "ARM\x64")
		return b
	}
	copy(b[0x202:], "HdrS")
	le.PutUint16(b[0x206:], 0x20f)
	le.PutUint16(b[0x236:], 1)
	le.PutUint16(b[0x20e:], 0x100) // kernel_version is at 0x300
	copy(b[0x300:], kernelRelease+" (someone@somewhere) #1 SMP\x00")
	return b
}

func example(t *testing.T, arch string) boot.UKI {
	return boot.UKI{
		Arch: arch, Stub: fakeStub(t, arch, "257.13-1"), Kernel: fakeKernel(arch), Initrd: tree.Bytes("070701 an archive"),
		Cmdline: "console=ttyS0 panic=10", OSRelease: osRelease("an image", "1.0"), Uname: kernelRelease,
	}
}

func assemble(t *testing.T, u boot.UKI) []byte {
	t.Helper()
	p, err := boot.Assemble(u)
	if err != nil {
		t.Fatal(err)
	}
	// The output is overwritten, so that a byte that is not written shows.
	out := make([]byte, p.Size())
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range out {
		out[i] = byte(rng.Uint32())
	}
	w := bytes.NewBuffer(out[:0])
	if n, err := p.WriteTo(w); err != nil || n != p.Size() {
		t.Fatalf("WriteTo = %d, %v; Size = %d", n, err, p.Size())
	}
	return w.Bytes()
}

func inspect(t *testing.T, b []byte) boot.Info {
	t.Helper()
	info, err := boot.Inspect(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// TestAssemble reads back what was put in.
func TestAssemble(t *testing.T) {
	for _, arch := range []string{boot.AMD64, boot.ARM64} {
		u := example(t, arch)
		u.Microcode, u.Splash = tree.Bytes("070701 microcode"), tree.Bytes("BM a picture")
		b := assemble(t, u)
		info := inspect(t, b)
		if info.Arch != arch || info.Stub != "systemd-stub 257.13-1" || info.Cmdline != u.Cmdline || info.Uname != kernelRelease || info.Signed || info.Problem != "" {
			t.Errorf("%s: %+v", arch, info)
		}
		if want := (boot.OSRelease{ID: "ingot", PrettyName: "an image", VersionID: "1.0", ImageVersion: "1.0"}); info.OS != want {
			t.Errorf("%s: os-release %+v, want %+v", arch, info.OS, want)
		}
		want := map[string]any{".osrel": u.OSRelease, ".cmdline": u.Cmdline, ".uname": u.Uname, ".splash": u.Splash, ".ucode": u.Microcode, ".initrd": u.Initrd, ".linux": u.Kernel}
		for _, s := range info.Sections {
			content := b[s.Offset : s.Offset+s.Size]
			if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != s.SHA256 {
				t.Errorf("%s: %s: sha256 %s is not of the %d bytes at %#x", arch, s.Name, s.SHA256, s.Size, s.Offset)
			}
			if w, ok := want[s.Name]; ok && fmt.Sprintf("%s", w) != string(content) {
				t.Errorf("%s: %s holds %q, want %q", arch, s.Name, content, w)
			}
			delete(want, s.Name)
		}
		if len(want) > 0 {
			t.Errorf("%s: sections %v are missing", arch, want)
		}
	}
}

// TestAssembleDebianStub puts a UKI on the stub of the installed package and
// has binutils list it.
func TestAssembleDebianStub(t *testing.T) {
	stub := oracle.ReadFile(t, "systemd-boot-efi", "/"+boot.StubPath(boot.AMD64))
	u := example(t, boot.AMD64)
	u.Stub = tree.Bytes(stub)
	b := assemble(t, u)
	info := inspect(t, b)
	if !strings.HasPrefix(info.Stub, "systemd-stub 25") || info.Problem != "" || !strings.Contains(info.SBAT, "\nsystemd") {
		t.Errorf("stub %q, problem %q, sbat %q", info.Stub, info.Problem, info.SBAT)
	}
	path := filepath.Join(t.TempDir(), "uki.efi")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(oracle.Need(t, "binutils", "objdump"), "-h", path).CombinedOutput()
	if err != nil {
		t.Fatalf("objdump: %v\n%s", err, out)
	}
	for _, s := range info.Sections {
		if !strings.Contains(string(out), fmt.Sprintf(" %s ", s.Name)) || !strings.Contains(string(out), fmt.Sprintf("%08x  2**", s.Offset)) {
			t.Errorf("objdump does not list %s at %#x:\n%s", s.Name, s.Offset, out)
		}
	}
}

// TestAssembleGolden holds the whole layout as text: a change here changes the
// digest of every image.
func TestAssembleGolden(t *testing.T) {
	info := inspect(t, assemble(t, example(t, boot.AMD64)))
	var got strings.Builder
	for _, s := range info.Sections {
		fmt.Fprintf(&got, "%-9s %#06x %#06x+%d %.16s\n", s.Name, s.VirtualAddress, s.Offset, s.Size, s.SHA256)
	}
	fmt.Fprintf(&got, "authenticode %s\n", info.Authenticode)
	want, err := os.ReadFile("testdata/uki.txt")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("layout (-want +got):\n%s", diff)
	}
}

func TestAssembleRefuses(t *testing.T) {
	flip := func(b tree.Bytes, off int, v byte) tree.Bytes { b = bytes.Clone(b); b[off] = v; return b }
	for _, c := range []struct {
		name, want string
		change     func(*boot.UKI)
	}{
		{"architecture", `check architecture: "riscv64"`, func(u *boot.UKI) { u.Arch = "riscv64" }},
		{"no stub", "read stub: no stub", func(u *boot.UKI) { u.Stub = nil }},
		{"stub of another architecture", "read stub: machine 0xaa64 is not amd64", func(u *boot.UKI) { u.Stub = fakeStub(t, boot.ARM64, "257") }},
		{"stub is no PE file", "read stub: pe: offset 0x0, e_magic", func(u *boot.UKI) { u.Stub = tree.Bytes("#!/bin/sh") }},
		{"stub is a UKI", "it is a UKI already", func(u *boot.UKI) { u.Stub = tree.Bytes(assemble(t, *u)) }},
		{"stub is no stub", "not an EFI program of systemd", func(u *boot.UKI) { u.Stub = tree.Bytes(app(boot.AMD64, "x", 0)) }},
		{"stub is the loader", "not systemd-stub", func(u *boot.UKI) {
			u.Stub = write(t, app(boot.AMD64, "x", 0), pe.Section{Name: ".sdmagic", Data: tree.Bytes("#### LoaderInfo: systemd-boot 257 ####")})
		}},
		{"stub with two sections of one name", `second section named ".sbat"`, func(u *boot.UKI) {
			u.Stub = write(t, fakeStub(t, boot.AMD64, "257"), pe.Section{Name: ".sbat", Data: tree.Bytes("a")}, pe.Section{Name: ".sbat", Data: tree.Bytes("b")})
		}},
		{"stub with a section that is longer in memory", `section ".sdmagic" has 0x227 bytes in memory and 0x200 in the file`, func(u *boot.UKI) {
			stub := bytes.Clone(fakeStub(t, boot.AMD64, "257"))
			stub[bytes.Index(stub, []byte(".sdmagic"))+8+1] += 2 // VirtualSize
			u.Stub = tree.Bytes(stub)
		}},
		{"huge stub", "read stub: 17825792 bytes", func(u *boot.UKI) { u.Stub = make(tree.Bytes, 17<<20) }},
		{"no kernel", "check kernel: no kernel", func(u *boot.UKI) { u.Kernel = nil }},
		{"kernel is no PE file", "not a kernel with an EFI stub", func(u *boot.UKI) { u.Kernel = tree.Bytes("\x7fELF") }},
		{"kernel of another architecture", "check kernel: machine 0xaa64", func(u *boot.UKI) { u.Kernel = fakeKernel(boot.ARM64) }},
		{"no bzImage", "not a bzImage", func(u *boot.UKI) { u.Kernel = flip(fakeKernel(boot.AMD64), 0x202, 0) }},
		{"old kernel", "boot protocol 0x20b", func(u *boot.UKI) { u.Kernel = flip(fakeKernel(boot.AMD64), 0x206, 0x0b) }},
		{"32-bit kernel", "not a 64-bit kernel", func(u *boot.UKI) { u.Kernel = flip(fakeKernel(boot.AMD64), 0x236, 0) }},
		{"other kernel", `calls itself "6.12.0-test", not "6.1"`, func(u *boot.UKI) { u.Uname = "6.1" }},
		{"no initrd", "check initrd: none", func(u *boot.UKI) { u.Initrd = nil }},
		{"initrd is something else", "check initrd: begins with", func(u *boot.UKI) { u.Initrd = tree.Bytes("hsqs....") }},
		{"empty initrd", "check initrd", func(u *boot.UKI) { u.Initrd = tree.Bytes("") }},
		{"microcode for an old stub", "does not load microcode", func(u *boot.UKI) {
			u.Stub, u.Microcode = fakeStub(t, boot.AMD64, "252.39-1~deb12u2"), tree.Bytes("070701")
		}},
		{"splash", "not a BMP", func(u *boot.UKI) { u.Splash = tree.Bytes("\x89PNG") }},
		{"no console", "no console=", func(u *boot.UKI) { u.Cmdline = "quiet" }},
		{"no command line", "no console=", func(u *boot.UKI) { u.Cmdline = "" }},
		{"console for init", "no console=", func(u *boot.UKI) { u.Cmdline = "quiet -- console=ttyS0" }},
		{"line break", "one space between them", func(u *boot.UKI) { u.Cmdline = "console=ttyS0\n" }},
		{"NUL", "control character", func(u *boot.UKI) { u.Cmdline = "console=ttyS0\x00" }},
		{"quote", "unbalanced quote", func(u *boot.UKI) { u.Cmdline = `console=ttyS0 a="b` }},
		{"long command line", "more than the kernel's 2047", func(u *boot.UKI) { u.Cmdline = "console=ttyS0 " + strings.Repeat("x", 2034) }},
		{"no os-release", "ID and PRETTY_NAME", func(u *boot.UKI) { u.OSRelease = "" }},
		{"bad os-release", `line 2: "PRETTY NAME=x" is not KEY=VALUE`, func(u *boot.UKI) { u.OSRelease = "ID=x\nPRETTY NAME=x\n" }},
		{"budget", "more than the budget of 1000", func(u *boot.UKI) { u.Budget = 1000 }},
	} {
		u := example(t, boot.AMD64)
		c.change(&u)
		_, err := boot.Assemble(u)
		if err == nil || !strings.HasPrefix(err.Error(), "assemble uki: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	u := example(t, boot.ARM64)
	u.Kernel = flip(fakeKernel(boot.ARM64), 56, 0)
	if _, err := boot.Assemble(u); err == nil || !strings.Contains(err.Error(), "neither an arm64 Image") {
		t.Errorf("arm64 kernel without magic: %v", err)
	}
	u = example(t, boot.AMD64)
	u.Cmdline = "console=ttyS0 " + strings.Repeat("x", 2033)
	if _, err := boot.Assemble(u); err != nil {
		t.Errorf("command line of 2047 bytes: %v", err)
	}
}

// TestAssembleOldArm64Stub takes a stub whose marks are behind its sections.
func TestAssembleOldArm64Stub(t *testing.T) {
	u := example(t, boot.ARM64)
	u.Stub = tree.Bytes(append(app(boot.ARM64, "stub", resetShutdown), "...#### LoaderInfo: systemd-stub 252.39 ####\x00"...))
	p, err := boot.Assemble(u)
	if err != nil || p.Stub != "systemd-stub 252.39" {
		t.Fatalf("Assemble = %+v, %v", p, err)
	}
}

// TestInspectOthers describes programs that are no UKI of ours.
func TestInspectOthers(t *testing.T) {
	kernel := inspect(t, fakeKernel(boot.AMD64))
	if kernel.Stub != "" || !strings.Contains(kernel.Problem, "no .linux") || len(kernel.Authenticode) != 64 {
		t.Errorf("kernel: %+v", kernel)
	}
	uki := assemble(t, example(t, boot.AMD64))
	double := inspect(t, write(t, uki, pe.Section{Name: ".cmdline", Data: tree.Bytes("another")}))
	if !strings.Contains(double.Problem, `second section named ".cmdline"`) || double.Cmdline != "console=ttyS0 panic=10" {
		t.Errorf("two command lines: problem %q, command line %q; the first counts", double.Problem, double.Cmdline)
	}
	loose := inspect(t, write(t, app(boot.AMD64, "x", 0), pe.Section{Name: ".osrel", Data: tree.Bytes("ID=x\n!\n")}))
	if loose.OS.ID != "x" {
		t.Errorf("half an os-release: %+v", loose.OS)
	}
	if _, err := boot.Inspect(bytes.NewReader(nil), 0); err == nil {
		t.Error("an empty file: no error")
	}
	large := write(t, app(boot.AMD64, "x", 0), pe.Section{Name: ".cmdline", Data: make(tree.Bytes, 1<<20)})
	if _, err := boot.Inspect(bytes.NewReader(large), int64(len(large))); err == nil {
		t.Error("a command line of 1 MiB was read into memory")
	}
}

// TestInspectLoader reads systemd-boot of the installed package.
func TestInspectLoader(t *testing.T) {
	b := oracle.ReadFile(t, "systemd-boot-efi", "/"+boot.LoaderPath(boot.AMD64))
	if info := inspect(t, b); !strings.HasPrefix(info.Stub, "systemd-boot 25") || info.Arch != boot.AMD64 {
		t.Errorf("loader: %+v", info)
	}
}

func TestPaths(t *testing.T) {
	for got, want := range map[string]string{
		boot.FallbackPath(boot.AMD64): "EFI/BOOT/BOOTX64.EFI",
		boot.FallbackPath(boot.ARM64): "EFI/BOOT/BOOTAA64.EFI",
		boot.SparePath(boot.AMD64):    "EFI/INGOT/BOOTX64.EFI",
		boot.StubPath(boot.ARM64):     "usr/lib/systemd/boot/efi/linuxaa64.efi.stub",
		boot.LoaderPath(boot.AMD64):   "usr/lib/systemd/boot/efi/systemd-bootx64.efi",
	} {
		if got != want {
			t.Errorf("path %s, want %s", got, want)
		}
	}
	if boot.KnownArch("mips") || !boot.KnownArch("arm64") {
		t.Error("KnownArch")
	}
}

func TestSlotOption(t *testing.T) {
	part := efivar.HDPartition{Number: 2, Start: 264192, Size: 524288, GUID: gpt.MustGUID("5b4a1c4e-9f0d-8c4e-9a51-0c2f4be5a002")}
	got := boot.SlotOption(boot.ARM64, "hello", "slot-a", part).String()
	if want := `hello slot-a HD(2,GPT,5B4A1C4E-9F0D-8C4E-9A51-0C2F4BE5A002,0x40800,0x80000)/\EFI\BOOT\BOOTAA64.EFI`; got != want {
		t.Errorf("entry %s, want %s", got, want)
	}
}

// The spare copy stands before the recipe's programs: a machine without a slot that
// starts comes to the selector, and not to a memory test. It has one entry.
func TestESPOptions(t *testing.T) {
	esp := efivar.HDPartition{Number: 1, Start: 2048, Size: 262144, GUID: gpt.MustGUID("5b4a1c4e-9f0d-8c4e-9a51-0c2f4be5a001")}
	programs := []efivar.LoadOption{efivar.SlotEntry(esp, `\EFI\memtest.efi`, "Memory test", nil)}
	titles := func() (out []string) {
		for _, o := range boot.ESPOptions(boot.AMD64, "hello", esp, programs) {
			out = append(out, o.Description+" "+o.Path().File())
		}
		return out
	}
	if got, want := titles(), []string{`hello spare \EFI\INGOT\BOOTX64.EFI`, `Memory test \EFI\memtest.efi`}; !slices.Equal(got, want) {
		t.Errorf("entries %q, want %q", got, want)
	}
	programs = append(programs, efivar.SlotEntry(esp, `\EFI\ingot\bootx64.efi`, "Rescue", nil))
	if got, want := titles(), []string{`Memory test \EFI\memtest.efi`, `Rescue \EFI\ingot\bootx64.efi`}; !slices.Equal(got, want) {
		t.Errorf("entries %q, want %q", got, want)
	}
}

// FuzzInspect: no program, however broken, makes the reader fail otherwise
// than by an error.
func FuzzInspect(f *testing.F) {
	f.Add(app(boot.AMD64, "x", 0))
	f.Add([]byte(fakeKernel(boot.AMD64)))
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := boot.Inspect(bytes.NewReader(b), int64(len(b)))
		if err == nil && len(info.Authenticode) != 64 {
			t.Errorf("digest %q", info.Authenticode)
		}
	})
}

func ExampleAssemble() {
	_, err := boot.Assemble(boot.UKI{Arch: boot.AMD64})
	fmt.Println(err)
	// Output: assemble uki: read stub: no stub given
}
