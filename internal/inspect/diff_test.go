package inspect_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/build/buildtest"
	"github.com/ingot-os/ingot/internal/golden"
	"github.com/ingot-os/ingot/internal/inspect"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/partition/gpt"
	"github.com/ingot-os/ingot/partition/state"
)

// one is a pair of images that differ in one thing, and where diff has to say
// so first. Either an input of the build is changed, or bytes of the result.
type one struct {
	name   string
	first  string // start of the first difference
	edit   func(yaml string) string
	change func(a *buildtest.Appliance)
	patch  func(t *testing.T, img *os.File, m *release.Manifest)
	file   string // suffix of the file that is compared: .img unless said
}

func replaced(old, new string) func(string) string {
	return func(y string) string { return strings.Replace(y, old, new, 1) }
}

const (
	esp      = "partition 1 esp"
	espUKI   = esp + " → fat esp → file EFI/BOOT/BOOTX64.EFI → pe EFI/BOOT/BOOTX64.EFI"
	inInitrd = espUKI + " → section .initrd → cpio initramfs"
)

// pairs are the structures of an image set, one by one (B17).
var pairs = []one{
	{name: "command line", first: espUKI + " → section .cmdline: text: quiet, loglevel=7", edit: replaced("[quiet]", "[loglevel=7]")},
	{name: "command line word more", first: espUKI + " → section .cmdline: text: debug only in B", edit: replaced("[quiet]", "[quiet, debug]")},
	{name: "byte of a file", first: inInitrd + " → file etc/inline: sha256:", edit: replaced(`"text\n"`, `"texs\n"`)},
	{name: "mode of a file", first: inInitrd + " → file etc/script: mode: 0755, 0750", edit: replaced(`"0755", owner`, `"0750", owner`)},
	{name: "owner of a file", first: inInitrd + " → file etc/script: owner: 1000:1000, 7:8", edit: replaced(`owner: web`, `owner: "7:8"`)},
	{name: "file more", first: inInitrd + " → file etc/new: only in B", edit: replaced("files:\n", "files:\n  - {path: /etc/new, content: x}\n")},
	{name: "file less", first: inInitrd + " → file etc/inline: only in A", edit: replaced("  - {path: /etc/inline, content: \"text\\n\"}\n", "")},
	{name: "argument of a service", first: inInitrd + " → file etc/ingot/appliance.json → configuration appliance.json: services[0].args[0]: a, b", edit: replaced("[a]", "[b]")},
	{name: "epoch", first: inInitrd + ": times:", change: inYAML("03:04:05Z", "03:04:06Z")},
	{name: "version", first: espUKI + ": os: tiny 1.0.0, tiny 1.0.1", change: inYAML("version: 1.0.0", "version: 1.0.1")},
	{name: "compression", first: inInitrd + ": compression: none, zstd", change: inYAML("data:", "compress: zstd\ndata:")},
	{name: "kernel", first: espUKI + " → section .linux: sha256:", change: func(a *buildtest.Appliance) {
		k := buildtest.Kernel()
		k[len(k)-1] = 1
		a.File("vmlinuz", string(k), 0o644)
	}},
	{name: "module", first: inInitrd + " → file lib/modules/6.12.0-tiny/kernel/one.ko: sha256:", change: func(a *buildtest.Appliance) {
		a.File("modules/6.12.0-tiny/kernel/one.ko", string(buildtest.Module("one", "", "NOTE")), 0o644)
	}},
	{name: "slot size", first: "disk: size: ", change: inYAML("slot: 36M", "slot: 37M")},
	{name: "mode in the root payload", first: "partition 4 root-a → squashfs root-a → file etc/motd: mode: 0644, 0755", change: func(a *buildtest.Appliance) {
		a.File("rootfs/etc/motd", "hello\n", 0o755)
	}},
	{name: "content of the root payload", first: "partition 4 root-a → squashfs root-a → file etc/motd: sha256:", change: func(a *buildtest.Appliance) {
		a.File("rootfs/etc/motd", "hellO\n", 0o644)
	}},

	{name: "serial of a FAT", first: esp + " → fat esp: serial:", patch: at("esp", 67, 1)},
	{name: "byte in no file of a FAT", first: esp + " → fat esp → clusters of no file: byte 37748735: 0x00, 0x01", patch: at("esp", -1, 1)},
	{name: "code of the stub in slot B", first: "partition 3 slot-b → fat slot-b → file EFI/BOOT/BOOTX64.EFI → pe EFI/BOOT/BOOTX64.EFI → section .text: sha256:", patch: inUKI("slot-b", 0x600)},
	{name: "disk guid", first: "disk: disk guid:", patch: table(func(t *gpt.Table) { t.Disk[0] ^= 1 })},
	{name: "partition guid", first: "partition 2 slot-a: guid:", patch: table(func(t *gpt.Table) { t.Partitions[1].GUID[0] ^= 1 })},
	{name: "partition type", first: "partition 2 slot-a: type:", patch: table(func(t *gpt.Table) { t.Partitions[1].Type[0] ^= 1 })},
	{name: "partition attributes", first: "partition 2 slot-a: attributes: 0x4 only in B", patch: table(func(t *gpt.Table) { t.Partitions[1].Attributes = 4 })},
	{name: "partition name", first: "partition 2 slot-a: only in A", patch: table(func(t *gpt.Table) { t.Partitions[1].Name = "other" })},
	{name: "primary partition table", first: "disk: problem: primary partition table:", patch: flip(512 + 60)},
	{name: "boot code", first: "protective MBR: byte 10:", patch: flip(10)},
	{name: "gap before the first partition", first: "space outside of partitions: byte 700000: 0x00, 0x01", patch: flip(700000)},
	{name: "salt of verity", first: "partition 4 root-a → squashfs root-a → verity at 8192: salt:", patch: at("root-a", 8192+88, 0xff)},
	{name: "hash of verity", first: "partition 4 root-a → squashfs root-a → verity at 8192 → hash tree: byte 12300:", patch: at("root-a", 12300, 1)},
	{name: "machine configuration", first: "partition 6 state → state state: only in B", patch: machine},

	{name: "section header of a UKI", first: "headers: byte 1055:", file: ".efi", patch: flip(1055)},
	{name: "padding of a UKI", first: "padding after headers: byte 1500:", file: ".efi", patch: flip(1500)},
	{name: "time stamp of a UKI", first: "pe: time date stamp: 0, 1", file: ".efi", patch: flip(0x288)},
	{name: "hash of verity in the root file", first: "verity at 8192 → hash tree: byte 12300:", file: ".root", patch: flip(12300)},
}

// inYAML changes the head of the recipe.
func inYAML(old, new string) func(a *buildtest.Appliance) {
	return func(a *buildtest.Appliance) {
		text, err := os.ReadFile(filepath.Join(a.Dir, "appliance.yaml"))
		if err != nil || !bytes.Contains(text, []byte(old)) {
			panic(fmt.Sprint("no ", old, " in the recipe: ", err))
		}
		a.File("appliance.yaml", strings.Replace(string(text), old, new, 1), 0o644)
	}
}

// flip changes one byte.
func flip(off int64) func(*testing.T, *os.File, *release.Manifest) {
	return func(t *testing.T, f *os.File, _ *release.Manifest) { xor(t, f, off, 1) }
}

func xor(t *testing.T, f *os.File, off int64, with byte) {
	t.Helper()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, off); err != nil {
		t.Fatal(err)
	}
	b[0] ^= with
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
}

func part(t *testing.T, m *release.Manifest, role string) release.Partition {
	t.Helper()
	for _, p := range m.Disk.Partitions {
		if p.Role == role {
			return p
		}
	}
	t.Fatalf("no partition %s", role)
	return release.Partition{}
}

// at changes one byte of a partition, counted from its end when off is negative.
func at(role string, off int64, with byte) func(*testing.T, *os.File, *release.Manifest) {
	return func(t *testing.T, f *os.File, m *release.Manifest) {
		p := part(t, m, role)
		if off < 0 {
			off += p.Size
		}
		xor(t, f, p.Start+off, with)
	}
}

// inUKI changes one byte of the boot file in a partition, found by its head.
func inUKI(role string, off int64) func(*testing.T, *os.File, *release.Manifest) {
	return func(t *testing.T, f *os.File, m *release.Manifest) {
		p := part(t, m, role)
		head := make([]byte, p.Size/2)
		if _, err := f.ReadAt(head, p.Start); err != nil {
			t.Fatal(err)
		}
		i := bytes.Index(head, []byte("MZ\x00\x00"))
		if i < 0 {
			t.Fatal("no boot file in the partition")
		}
		xor(t, f, p.Start+int64(i)+off, 1)
	}
}

// table writes both copies of a changed partition table.
func table(change func(t *gpt.Table)) func(*testing.T, *os.File, *release.Manifest) {
	return func(t *testing.T, f *os.File, m *release.Manifest) {
		tab, _, err := gpt.Read(f, m.Disk.Size)
		if err != nil {
			t.Fatal(err)
		}
		change(&tab)
		if err := tab.Write(f); err != nil {
			t.Fatal(err)
		}
	}
}

// machine puts a machine.yaml on the state partition, as flash does.
func machine(t *testing.T, f *os.File, m *release.Manifest) {
	if err := state.Store(window{f, part(t, m, "state").Start}, state.Machine, []byte("hostname: one\n")); err != nil {
		t.Fatal(err)
	}
}

type window struct {
	*os.File
	off int64
}

func (w window) ReadAt(b []byte, off int64) (int, error)  { return w.File.ReadAt(b, w.off+off) }
func (w window) WriteAt(b []byte, off int64) (int, error) { return w.File.WriteAt(b, w.off+off) }

// file returns the path of a file of a set by its suffix.
func file(set *release.Set, suffix string) string {
	return filepath.Join(set.Dir, set.Manifest.Stem()+suffix)
}

// TestDiffNamesThePlace compares pairs that differ in one thing. The first
// difference is that thing; all of them are in the golden file.
func TestDiffNamesThePlace(t *testing.T) {
	set := base(t)
	var text strings.Builder
	for _, p := range pairs {
		t.Run(p.name, func(t *testing.T) {
			suffix := p.file
			if suffix == "" {
				suffix = ".img"
			}
			other := other(t, p, set, suffix)
			diffs, err := inspect.Compare(file(set, suffix), other)
			if err != nil {
				t.Fatal(err)
			}
			if len(diffs) == 0 || !strings.HasPrefix(diffs[0].String(), p.first) {
				t.Errorf("the first difference is not %q but\n  %v", p.first, diffs[:min(1, len(diffs))])
			}
			fmt.Fprintf(&text, "== %s\n", p.name)
			for _, d := range diffs {
				fmt.Fprintln(&text, d)
			}
		})
	}
	if !t.Failed() {
		golden.Equal(t, "testdata/diff.txt", mask(text.String()))
	}
}

// other makes the second file of a pair.
func other(t *testing.T, p one, set *release.Set, suffix string) string {
	t.Helper()
	if p.patch == nil {
		return file(make1(t, p.edit, p.change), suffix)
	}
	path := filepath.Join(t.TempDir(), filepath.Base(file(set, suffix)))
	copySparse(t, file(set, suffix), path)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p.patch(t, f, set.Manifest)
	return path
}

func copySparse(t testing.TB, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(int64(len(data))); err != nil {
		t.Fatal(err)
	}
	const step = 64 << 10
	for off := 0; off < len(data); off += step {
		b := data[off:min(off+step, len(data))]
		if len(bytes.Trim(b, "\x00")) == 0 {
			continue
		}
		if _, err := f.WriteAt(b, int64(off)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDiffOfSets: of two sets the changed input comes first.
func TestDiffOfSets(t *testing.T) {
	a := base(t)
	b := make1(t, nil, func(a *buildtest.Appliance) { a.File("rootfs/etc/motd", "hello there\n", 0o644) })
	diffs, err := inspect.Compare(a.Dir, b.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if want := "manifest manifest.json → input root: sha256:"; len(diffs) == 0 || !strings.HasPrefix(diffs[0].String(), want) {
		t.Errorf("the first difference is not %q but\n  %v", want, diffs[:min(1, len(diffs))])
	}
	if same, err := inspect.Compare(a.Dir, a.Dir); err != nil || len(same) != 0 {
		t.Errorf("a set differs from itself: %v, %v", same, err)
	}
	// A byte that no structure accounts for.
	dir := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(dir, os.DirFS(a.Dir)); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, filepath.Base(a.Image())), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	xor(t, f, 700000, 1)
	f.Close()
	diffs, err = inspect.Compare(a.Dir, dir)
	if err != nil || len(diffs) != 1 || diffs[0].String() != "disk tiny-1.0.0.img → space outside of partitions: byte 700000: 0x00, 0x01" {
		t.Errorf("one byte of a set: %v, %v", diffs, err)
	}
}

// TestDiffIsNeverSilent flips bytes all over the files of a set: Compare says
// something each time.
func TestDiffIsNeverSilent(t *testing.T) {
	set := base(t)
	for _, suffix := range []string{".img", ".efi", ".root"} {
		path := filepath.Join(t.TempDir(), "copy"+suffix)
		copySparse(t, file(set, suffix), path)
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		steps := int64(6)
		for i := range steps {
			off := info.Size() / steps * i
			off += int64(binary.LittleEndian.Uint32([]byte(fmt.Sprintf("%04d", i*37))) % 4096)
			xor(t, f, off, 1)
			if diffs, err := inspect.Compare(file(set, suffix), path); err != nil || len(diffs) == 0 {
				t.Errorf("%s: byte %d flipped: %v, %v", suffix, off, diffs, err)
			}
			xor(t, f, off, 1)
		}
		if diffs, err := inspect.Compare(file(set, suffix), path); err != nil || len(diffs) > 0 {
			t.Errorf("%s: the same bytes differ: %v, %v", suffix, diffs, err)
		}
	}
}
