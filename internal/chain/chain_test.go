package chain

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/ingot-os/ingot/boot/pe"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/partition/tree"
	"github.com/ingot-os/ingot/pxe/netboot"
)

func programs(t *testing.T) *ProgramsSet {
	t.Helper()
	dir := t.TempDir()
	entry := func(name, content string) Program {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256([]byte(content))
		return Program{path, strings.ToUpper(hex.EncodeToString(sum[:]))}
	}
	s, err := Load(Programs{BIOS: entry("a", "\x55\xaa bios"), X64: entry("b", "MZ x64"), ARM64: entry("c", "MZ arm64")})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestNext: who gets what. Firmware that starts a UKI gets it, and nothing else unless a
// rule says so: iPXE is not signed by anybody's db key.
func TestNext(t *testing.T) {
	all := programs(t)
	for _, x := range []struct {
		c    netboot.Client
		rule bool
		have *ProgramsSet
		name string
		http bool
	}{
		{netboot.Client{Arch: netboot.EFIX64}, false, all, "u.efi", false},
		{netboot.Client{Arch: netboot.EFIBC}, false, all, "u.efi", false},
		{netboot.Client{Arch: netboot.EFIARM64}, false, nil, "u.efi", false},
		{netboot.Client{Arch: netboot.HTTPX64}, false, all, "u.efi", true},
		{netboot.Client{Arch: netboot.EFIX64, Class: "HTTPClient:Arch:00007"}, false, all, "u.efi", true},
		{netboot.Client{Arch: netboot.EFIX64}, true, all, x64Name, false},
		{netboot.Client{Arch: netboot.HTTPX64}, true, all, x64Name, true},
		{netboot.Client{Arch: netboot.HTTPARM64}, true, all, arm64Name, true},
		{netboot.Client{Arch: netboot.EFIX64}, true, nil, "", false},
		{netboot.Client{Arch: netboot.BIOS}, false, all, biosName, false},
		{netboot.Client{Arch: netboot.HTTPBIOS}, false, all, biosName, true},
		{netboot.Client{Arch: netboot.BIOS}, false, &ProgramsSet{}, "", false},
		{netboot.Client{Arch: netboot.BIOS, IPXE: true}, false, nil, Script, true},
		{netboot.Client{Arch: netboot.EFIX64, IPXE: true}, false, nil, Script, true},
		{netboot.Client{Arch: netboot.EFI32}, false, all, "", false},
		{netboot.Client{Arch: netboot.EFI32}, true, all, "", false},
		{netboot.Client{Arch: netboot.RaspberryPi}, false, all, "", false},
		{netboot.Client{Arch: netboot.Unknown}, false, all, "", false},
		{netboot.Client{Arch: 1234}, false, all, "", false},
	} {
		got := Next(x.c, Options{UKI: "u.efi", IPXE: x.rule, Programs: x.have})
		if got.Name != x.name || got.HTTP != x.http || got.Reason == "" || (got.Program != nil) != strings.Contains(got.Reason, "first") {
			t.Errorf("%s, rule %t: %+v, want %q", x.c.Arch, x.rule, got, x.name)
		}
		if got.Program != nil && x.have.Named(got.Name) != got.Program {
			t.Errorf("%s is not served", got.Name)
		}
	}
}

// TestNextUnscripted: nobody is sent to iPXE when it could not load the release, and the
// reason is said; firmware that needs no iPXE boots.
func TestNextUnscripted(t *testing.T) {
	_, why := (&Parts{UKI: "u.efi", Cmdline: "a ${net0/mac}"}).ScriptFor(netboot.EFIX64)
	o := Options{UKI: "u.efi", Programs: programs(t), Unscripted: why}
	for _, c := range []netboot.Client{{Arch: netboot.BIOS}, {Arch: netboot.BIOS, IPXE: true}, {Arch: netboot.EFIX64, IPXE: true}} {
		if got := Next(c, o); got.Name != "" || got.Program != nil || !strings.Contains(got.Reason, `word "${net0/mac}": iPXE cannot pass it on`) {
			t.Errorf("%s: %+v", c.Arch, got)
		}
	}
	if got := Next(netboot.Client{Arch: netboot.EFIX64}, o); got.Name != "u.efi" {
		t.Errorf("%+v", got)
	}
	o.IPXE = true
	if got := Next(netboot.Client{Arch: netboot.EFIX64}, o); got.Name != "" || !strings.Contains(got.Reason, "a rule says by way of iPXE, and iPXE cannot load the release") {
		t.Errorf("by a rule: %+v", got)
	}
}

func TestLoadErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(file, []byte("MZ"), 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("MZ"))
	right := hex.EncodeToString(sum[:])
	for _, digest := range []string{"", strings.Repeat("0", 64), right[:63]} {
		_, err := Load(Programs{X64: Program{file, digest}})
		var d *DigestError
		if !errors.As(err, &d) || !errors.Is(err, ErrDigest) || !strings.Contains(d.Hint(), right) {
			t.Errorf("%q: %v", digest, err)
		}
	}
	if _, err := Load(Programs{BIOS: Program{file, right}}); err == nil || !strings.Contains(err.Error(), "a program for UEFI") {
		t.Errorf("a UEFI program for the BIOS: %v", err)
	}
	if _, err := Load(Programs{BIOS: Program{file + ".none", right}, X64: Program{file, ""}}); err == nil || !strings.Contains(err.Error(), "bios") || !strings.Contains(err.Error(), "x64") {
		t.Errorf("not all that is wrong: %v", err)
	}
	if s, err := Load(Programs{}); err != nil || s.Named(biosName) != nil {
		t.Error(s, err)
	}
}

// TestDebianPrograms: what the documentation names is there and of the right kind.
func TestDebianPrograms(t *testing.T) {
	entry := func(name string) Program {
		sum := sha256.Sum256(oracle.ReadFile(t, "ipxe", "/usr/lib/ipxe/"+name))
		return Program{"/usr/lib/ipxe/" + name, hex.EncodeToString(sum[:])}
	}
	s, err := Load(Programs{BIOS: entry("undionly.kpxe"), X64: entry("snponly.efi")})
	if err != nil {
		t.Fatal(err)
	}
	x := s.Named(x64Name)
	if f, err := pe.Parse(bytes.NewReader(x.Data), int64(len(x.Data))); err != nil || f.Machine != pe.MachineAMD64 {
		t.Errorf("snponly.efi: %v", err)
	}
}

func TestScripts(t *testing.T) {
	p := &Parts{UKI: "hello-1.0.0.efi", Cmdline: `console=ttyS0  quiet dyndbg="file drivers/usb/* +p" -- single`}
	bios, err := p.BIOSScript()
	want := "#!ipxe\nkernel vmlinuz console=ttyS0 quiet dyndbg=\"file drivers/usb/* +p\" -- single || goto failed\ninitrd initrd || goto failed\nboot || goto failed\n" + tail
	if err != nil || bios != want {
		t.Errorf("%v\n%s", err, bios)
	}
	p.Microcode = &Part{}
	if bios, _ = p.BIOSScript(); !strings.Contains(bios, "initrd ucode || goto failed\ninitrd initrd ||") {
		t.Error(bios)
	}
	p.Dir = "0123456789abcdef/"
	bios, _ = p.BIOSScript()
	for _, want := range []string{"\nkernel 0123456789abcdef/vmlinuz console", "\ninitrd 0123456789abcdef/ucode ||", "\ninitrd 0123456789abcdef/initrd ||"} {
		if !strings.Contains(bios, want) {
			t.Errorf("no %q:\n%s", want, bios)
		}
	}
	uefi, err := p.UEFIScript()
	want = "#!ipxe\nchain --name console=ttyS0 0123456789abcdef/hello-1.0.0.efi quiet dyndbg=\"file drivers/usb/* +p\" -- single || goto failed\n" + tail
	if err != nil || uefi != want {
		t.Errorf("%v\n%s", err, uefi)
	}
}

// hostile are command lines that iPXE would read otherwise than the kernel.
var hostile = []string{"a ${net0/mac}", "a || shell", "a && shell", "a ; shell", "a #b", "#a", `a="b  c"`, "a=\"b\tc\"", "a\x00b", "a=\"b\nshell\"",
	"a=ü", "-n a", "--name b", `"${a}"`, strings.Repeat("a", 2048), `a="b || c"`, `a="  b"`}

func TestHostileCommandLines(t *testing.T) {
	for _, text := range hostile {
		p := &Parts{UKI: "x.efi", Cmdline: text}
		for _, f := range []func() (string, error){p.BIOSScript, p.UEFIScript} {
			if got, err := f(); err == nil {
				t.Errorf("%q:\n%s", text, got)
			}
		}
	}
	// Outside of quotes a line break is white space to the kernel, and here.
	if got, err := (&Parts{Cmdline: "a b\nshell"}).BIOSScript(); err != nil || !strings.Contains(got, "kernel vmlinuz a b shell ||") {
		t.Errorf("%v\n%s", err, got)
	}
	if _, err := (&Parts{}).UEFIScript(); !errors.Is(err, ErrWord) {
		t.Errorf("an empty command line has no name for the image: %v", err)
	}
}

// FuzzScript reads scripts as iPXE does (core/exec.c): whatever the command line, it is
// one command, and hands on the words that the kernel would have had.
func FuzzScript(f *testing.F) {
	for _, text := range append(hostile, "console=ttyS0 quiet", `a="b c" d`) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p := &Parts{UKI: "x.efi", Cmdline: text}
		got, err := p.BIOSScript()
		if err != nil {
			return
		}
		lines := strings.Split(got, "\n")
		if len(lines) != 8 {
			t.Fatalf("%q: %d lines\n%s", text, len(lines), got)
		}
		argv := strings.Fields(lines[1])
		end := slices.IndexFunc(argv, func(w string) bool { return w[0] == '#' || w == "||" || w == "&&" || w == ";" })
		if end != len(argv)-3 || strings.Contains(lines[1], "${") {
			t.Fatalf("%q: %s", text, lines[1])
		}
		if passed := strings.Join(argv[2:end], " "); strings.Join(strings.Fields(text), " ") != passed {
			t.Fatalf("%q is passed on as %q", text, passed)
		}
	})
}

// uki is a UKI and its manifest.
func uki(t *testing.T, cmdline string) ([]byte, *release.Manifest) {
	t.Helper()
	stub := oracle.ReadFile(t, "systemd-boot-efi", "/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
	parts := map[string]tree.Bytes{".linux": bytes.Repeat([]byte("kernel"), 1000), ".initrd": bytes.Repeat([]byte("initrd!"), 3000), ".ucode": []byte("ucode"), ".cmdline": tree.Bytes(cmdline)}
	var add []pe.Section
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		add = append(add, pe.Section{Name: name, Data: parts[name]})
	}
	plan, err := pe.AppendSections(stub, add)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := plan.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	f, err := pe.Parse(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	m := &release.Manifest{Name: "hello", Version: "1.0.0"}
	for name, data := range parts {
		sum := sha256.Sum256(data)
		m.Sections = append(m.Sections, release.Part{Name: name, Offset: int64(f.Section(name).Offset), Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])})
	}
	return b.Bytes(), m
}

type opened struct {
	*bytes.Reader
	begun, closed bool
}

func (o *opened) Begin() error { o.begun = true; return nil }
func (o *opened) Close() error { o.closed = true; return nil }

func TestSplit(t *testing.T) {
	b, m := uki(t, "console=ttyS0 quiet")
	p, err := Split(bytes.NewReader(b), int64(len(b)), m, digest)
	if err != nil {
		t.Fatal(err)
	}
	if p.Cmdline != "console=ttyS0 quiet" || p.UKI != "hello-1.0.0.efi" || p.Microcode == nil || p.Dir != "0123456789abcdef/" || !IsDir(Dir(digest)) {
		t.Errorf("%+v", p)
	}
	for _, name := range []string{Kernel, Initrd, Microcode} {
		part, ok := p.Named(name)
		if !ok {
			t.Fatal(name)
		}
		if err := part.Check(bytes.NewReader(b)); err != nil {
			t.Error(err)
		}
		o := &opened{Reader: bytes.NewReader(b)}
		c := part.Of(o)
		if err := iotest.TestReader(io.NewSectionReader(c, 0, c.Size()), b[part.Offset:part.Offset+part.Size]); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		buf := make([]byte, 10)
		if n, err := c.ReadAt(buf, c.Size()-4); n != 4 || err != io.EOF {
			t.Errorf("%s: %d bytes behind the end, %v", name, n-4, err)
		}
		for _, off := range []int64{-1, c.Size(), c.Size() + 1} {
			if n, err := c.ReadAt(buf, off); n != 0 || err == nil {
				t.Errorf("%s: %d bytes at %d", name, n, off)
			}
		}
		if err := errors.Join(c.Begin(), c.Close()); err != nil || !o.begun || !o.closed {
			t.Error("the file does not know what its part does")
		}
	}
	for _, name := range []string{"", "cmdline", ".linux", p.UKI} {
		if _, ok := p.Named(name); ok {
			t.Errorf("%q is a part", name)
		}
	}
}

// digest is that of a manifest.
var digest = strings.Repeat("0123456789abcdef", 4)

// TestSplitRefuses what is not laid out as the signed manifest says.
func TestSplitRefuses(t *testing.T) {
	for name, change := range map[string]func([]byte, *release.Manifest){
		"offset":             func(_ []byte, m *release.Manifest) { at(m, ".linux").Offset += 512 },
		"size":               func(_ []byte, m *release.Manifest) { at(m, ".initrd").Size-- },
		"no such section":    func(_ []byte, m *release.Manifest) { at(m, ".ucode").Name = ".x" },
		"command line":       func(b []byte, m *release.Manifest) { b[at(m, ".cmdline").Offset] ^= 1 },
		"command line of it": func(_ []byte, m *release.Manifest) { at(m, ".cmdline").SHA256 = strings.Repeat("0", 64) },
	} {
		b, m := uki(t, "console=ttyS0")
		change(b, m)
		if p, err := Split(bytes.NewReader(b), int64(len(b)), m, digest); !errors.Is(err, ErrSections) || p != nil {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	b, m := uki(t, strings.Repeat("a", maxCmdline+1))
	if _, err := Split(bytes.NewReader(b), int64(len(b)), m, digest); err == nil {
		t.Error("a command line without end")
	}
	if _, err := Split(bytes.NewReader(b[:100]), 100, m, digest); err == nil {
		t.Error("half a header")
	}
	b, m = uki(t, "a")
	part := at(m, ".linux")
	b[part.Offset] ^= 1
	p, err := Split(bytes.NewReader(b), int64(len(b)), m, digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kernel.Check(bytes.NewReader(b)); !errors.Is(err, ErrSections) {
		t.Errorf("another kernel: %v", err)
	}
}

func at(m *release.Manifest, name string) *release.Part {
	return &m.Sections[slices.IndexFunc(m.Sections, func(p release.Part) bool { return p.Name == name })]
}

func TestBytes(t *testing.T) {
	stop := errors.New("stop")
	c := Bytes([]byte("text"), func() error { return stop })
	if err := iotest.TestReader(io.NewSectionReader(c, 0, c.Size()), []byte("text")); err != nil || !errors.Is(c.Begin(), stop) || c.Close() != nil {
		t.Error(err)
	}
	if err := Bytes(nil, nil).Begin(); err != nil {
		t.Error(err)
	}
}
