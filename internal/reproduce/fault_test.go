package reproduce_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/build/buildtest"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/reproduce"
)

// fault is a bug that a builder could have: a line of ingot that a broken
// ingot has otherwise. It is active when the environment names it.
type fault struct {
	name     string
	file     string // of this repository
	old, new string
	form     string // key of forms; "" is the usual one
	line     string // what reproduce prints first
}

const (
	img      = "disk tiny-1.0.0.img → "
	uki      = img + "partition 1 esp → fat esp → file EFI/BOOT/BOOTX64.EFI → pe EFI/BOOT/BOOTX64.EFI"
	inInitrd = uki + " → section .initrd → cpio initramfs"
	rootA    = img + "partition 4 root-a → squashfs root-a"
)

// on is a Go condition: the environment names the fault.
func on(name string) string { return fmt.Sprintf("os.Getenv(%q) == %q", "INGOT_FAULT", name) }

var faults = []fault{
	{name: "mtime", file: "initramfs/write.go",
		old:  "Size: e.size, ModTime: time.Unix(epoch, 0),",
		new:  "Size: e.size, ModTime: func() time.Time { if " + on("mtime") + ` && e.node.Path == "bin/run" { return time.Unix(1800000000, 0) }; return time.Unix(epoch, 0) }(),`,
		line: "mtime: " + inInitrd + " → file bin/run: mtime: 2027-01-15T08:00:00Z, 2026-01-02T03:04:05Z"},
	{name: "mtime in FAT", file: "partition/fat/structs.go",
		old:  "	t := time.Unix(epoch, 0).UTC()\n",
		new:  "	if " + on("mtime in FAT") + " { epoch = 1800000000 }\n	t := time.Unix(epoch, 0).UTC()\n",
		line: "mtime: " + img + "partition 1 esp → fat esp → dir EFI: write time: 2027-01-15 08:00:00, 2026-01-02 03:04:04"},
	{name: "mtime in squashfs", file: "partition/squashfs/inodes.go",
		old:  "i.uid, i.gid, t.epoch, i.number}",
		new:  "i.uid, i.gid, func() uint32 { if " + on("mtime in squashfs") + ` && i.node.Path == "bin/tool" { return 1800000000 }; return t.epoch }(), i.number}`,
		line: "mtime: " + rootA + " → file bin/tool: mtime: 2027-01-15T08:00:00Z, 2026-01-02T03:04:05Z"},
	{name: "mtime in erofs", file: "partition/erofs/source.go", form: "erofs",
		old:  "Mtime: uint64(o.Epoch), Rdev",
		new:  "Mtime: uint64(o.Epoch) + map[bool]uint64{true: 60}[" + on("mtime in erofs") + ` && n.Path == "bin/tool"], Rdev`,
		line: "mtime: " + img + "partition 4 root-a → erofs root-a → file bin/tool: mtime: 2026-01-02T03:05:05Z, 2026-01-02T03:04:05Z"},
	{name: "file order", file: "initramfs/entry.go",
		old:  "		return slices.Compare(components(a.node.Path), components(b.node.Path))\n	})\n	return all",
		new:  "		return slices.Compare(components(a.node.Path), components(b.node.Path))\n	})\n	if n := len(all); " + on("file order") + " { all[n-1], all[n-2] = all[n-2], all[n-1] }\n	return all",
		line: "file order: " + inInitrd + " → entry "},
	{name: "UUID of the disk", file: "partition/layout.go",
		old:  `Disk: GUID(s.Name, id, "disk")}`,
		new:  `Disk: GUID(s.Name, id, "disk"+map[bool]string{true: "x"}[` + on("UUID of the disk") + "])}",
		line: "UUID: disk tiny-1.0.0.img: disk guid: "},
	{name: "UUID of verity", file: "internal/build/root.go",
		old:  `UUID: [16]byte(partition.GUID(b.o.Lock.Name, "verity", "root"))}`,
		new:  `UUID: [16]byte(partition.GUID(b.o.Lock.Name, "verity", "root"))}` + "\n	if " + on("UUID of verity") + " { p.UUID[0]++ }",
		line: "UUID: " + rootA + " → verity at "},
	{name: "FAT serial", file: "partition/id.go",
		old:  "	return max(binary.BigEndian.Uint32(sum[:]), 1)",
		new:  "	if " + on("FAT serial") + " { return 0x12345678 }\n	return max(binary.BigEndian.Uint32(sum[:]), 1)",
		line: "FAT serial: " + img + "partition 1 esp → fat esp: serial: 1234-5678, "},
	{name: "PE time stamp", file: "boot/pe/append.go",
		old:  "le.PutUint32(coff[offTimeDateStamp:], 0)",
		new:  "if " + on("PE time stamp") + " { le.PutUint32(coff[offTimeDateStamp:], 1800000000) }",
		line: "PE time stamp: " + uki + ": time date stamp: 1800000000, 0"},
	{name: "salt", file: "internal/build/root.go",
		old:  `salt := sha256.Sum256([]byte("ingot verity salt\x00" + b.o.Lock.Name))`,
		new:  `salt := sha256.Sum256([]byte("ingot verity salt\x00" + b.o.Lock.Name))` + "\n	if " + on("salt") + " { salt[0]++ }",
		line: "verity salt: " + rootA + " → verity at "},
	{name: "xattr", file: "internal/build/root.go",
		old:  "	if b.o.Recipe.Root.Format == \"erofs\" {",
		new:  "	if n := t.Get(\"bin/tool\"); " + on("xattr") + " { n.Xattrs = map[string][]byte{\"security.selinux\": []byte(\"unconfined_u\\x00\")} }\n	if b.o.Recipe.Root.Format == \"erofs\" {",
		line: "xattr: " + rootA + " → file bin/tool: security.selinux: 756e636f6e66696e65645f7500 only in A"},
	{name: "inode number", file: "initramfs/entry.go",
		old:  "				for ino = hash(g); used[ino]; ino++ {",
		new:  "				for ino = hash(g) + map[bool]uint32{true: 1}[" + on("inode number") + "]; used[ino]; ino++ {",
		line: "inode number: " + inInitrd + " → dir bin: inode: "},
	{name: "inode number in squashfs", file: "partition/squashfs/plan.go",
		old:  "number: uint32(len(p.inodes) + 1), data",
		new:  "number: uint32(len(p.inodes) + 1) + map[bool]uint32{true: 7}[" + on("inode number in squashfs") + "], data",
		line: "inode number: " + rootA},
	{name: "padding", file: "boot/pe/plan.go",
		old:  "func writeZeros(w io.Writer, n int64) (int64, error) {\n",
		new:  "func writeZeros(w io.Writer, n int64) (int64, error) {\n	if " + on("padding") + " { zeros = [4096]byte{1, 2, 3} }\n",
		line: "padding: " + uki + " → padding after "},
	{name: "compressor level", file: "partition/squashfs/plan.go",
		old:  "		o.Level = 3\n",
		new:  "		o.Level = 3\n		if " + on("compressor level") + " { o.Level = 11 }\n",
		line: "compressor level: " + rootA + ": compressor level: 11, 3"},
	{name: "compressor level of the initramfs", file: "initramfs/zstd.go", form: "zstd",
		old:  "zstd.WithEncoderLevel(zstd.SpeedDefault)",
		new:  "zstd.WithEncoderLevel(map[bool]zstd.EncoderLevel{false: zstd.SpeedDefault, true: zstd.SpeedFastest}[" + on("compressor level of the initramfs") + "])",
		line: "compressor level: " + inInitrd + ": zstd frame "},
}

// broken compiles an ingot that has all faults, each of them switched on by
// its name in INGOT_FAULT.
func broken(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	text := map[string]string{}
	for _, f := range faults {
		path := filepath.Join(root, f.file)
		if text[path] == "" {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			text[path] = string(data)
		}
		if strings.Count(text[path], f.old) != 1 {
			t.Fatalf("%s: %s has no line %q, or several", f.name, f.file, f.old)
		}
		text[path] = strings.Replace(text[path], f.old, f.new, 1)
	}
	dir := t.TempDir()
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for path, s := range text {
		if !regexp.MustCompile(`(?m)^\t"os"$`).MatchString(s) {
			s = strings.Replace(s, "import (\n", "import (\n\t\"os\"\n", 1)
		}
		to := filepath.Join(dir, fmt.Sprint(len(overlay.Replace), ".go"))
		if err := os.WriteFile(to, []byte(s), 0o644); err != nil {
			t.Fatal(err)
		}
		overlay.Replace[path] = to
	}
	list, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), list, 0o644); err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(dir, "ingot")
	cmd := exec.Command("go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-ldflags=-s -w", "-o", exe, "./cmd/ingot")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("compile a broken ingot: %v\n%s", err, out)
	}
	return exe
}

// TestFaults lets an ingot with one fault make a release, and a good one find
// out which. All digests of the release are those of the faulty files: nothing
// but the structure tells.
func TestFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles ingot")
	}
	exe := broken(t)
	for form := range forms {
		a := appliance(t, form)
		_, l, _ := a.Locked()
		if err := l.Write(filepath.Join(a.Dir, "appliance.lock")); err != nil {
			t.Fatal(err)
		}
		if form == "" { // a broken ingot without an active fault is a good one
			if r := reproduced(t, a, madeBy(t, exe, "", a)); !r.Same {
				t.Fatalf("no fault, but %v", r.Causes)
			}
		}
		for _, f := range faults {
			if f.form != form && (form != "formats" || f.name != "FAT serial") {
				continue
			}
			t.Run(f.name, func(t *testing.T) {
				r := reproduced(t, a, madeBy(t, exe, f.name, a))
				if r.Same || len(r.Causes) == 0 {
					t.Fatalf("not found: %+v", r)
				}
				if got := r.Causes[0].String(); !strings.HasPrefix(got, f.line) {
					t.Errorf("the first line is\n  %s\nwant\n  %s", got, f.line)
				}
				kind, _, _ := strings.Cut(f.line, ":")
				for _, c := range r.Causes {
					if c.Kind != kind || !strings.HasPrefix(c.Where, "disk ") && !strings.HasPrefix(c.Where, "iso ") {
						t.Errorf("another cause: %s", c)
					}
				}
			})
		}
	}
}

// madeBy lets a program build an appliance.
func madeBy(t *testing.T, exe, fault string, a *buildtest.Appliance) *release.Set {
	t.Helper()
	out := t.TempDir()
	cmd := exec.Command(exe, "build", "-f", a.Dir, "-o", out, "--vendor", a.Vendor, "--offline", "--unsigned")
	cmd.Env = append(os.Environ(), "INGOT_FAULT="+fault, "INGOT_CACHE="+t.TempDir())
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("build: %v %s", err, err.(*exec.ExitError).Stderr)
	}
	set, err := release.Open(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// forms are recipes for other writers, by what they add to the usual one.
var forms = map[string]string{
	"":        "root: {directory: ./rootfs}\n",
	"zstd":    "root: {directory: ./rootfs}\ncompress: zstd\n",
	"erofs":   "root: {directory: ./rootfs, format: erofs}\n",
	"formats": "outputs: [qcow2, vhd, vmdk, iso, zst]\n",
}

// appliance is a small recipe with a root payload whose files fill whole blocks.
func appliance(t *testing.T, form string) *buildtest.Appliance {
	t.Helper()
	more := "files:\n  - {path: /bin/run, source: ./run, mode: \"0755\"}\nservices: [{name: one, command: /bin/run}]\n" + forms[form]
	a := buildtest.New(t, more)
	a.File("run", string(buildtest.Program()), 0o755)
	var words strings.Builder
	for i := range 30000 {
		fmt.Fprintf(&words, "word %d of %x\n", i, i*i*7919)
	}
	a.File("rootfs/bin/tool", words.String(), 0o755)
	a.File("rootfs/etc/motd", "hello\n", 0o644)
	a.File("modules/6.12.0-tiny/modules.builtin", "kernel/efivarfs.ko\nkernel/button.ko\nkernel/dm_mod.ko\nkernel/dm_verity.ko\nkernel/squashfs.ko\nkernel/erofs.ko\nkernel/overlay.ko\nkernel/loop.ko\n", 0o644)
	a.File("modules/6.12.0-tiny/kernel/one.ko", string(buildtest.Module("one", "", "note")), 0o644)
	text, err := os.ReadFile(filepath.Join(a.Dir, "appliance.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	a.File("appliance.yaml", strings.Replace(string(text), "kernel: {file: ./vmlinuz}", "kernel: {file: ./vmlinuz, modules: ./modules/6.12.0-tiny}", 1), 0o644)
	return a
}

// reproduced runs Run on a set with the recipe and a lock of the appliance.
func reproduced(t *testing.T, a *buildtest.Appliance, set *release.Set) *reproduce.Result {
	t.Helper()
	r, l, f := a.Locked()
	res, err := reproduce.Run(t.Context(), reproduce.Options{
		Set: set, Recipe: r, Lock: l, Fetcher: f, Version: set.Manifest.Tools.Ingot,
	})
	if err != nil {
		t.Fatal(err)
	}
	return res
}
