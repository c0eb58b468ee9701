package kmod

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/partition/tree"
)

func open(t testing.TB, tr *tree.Tree) *Set {
	t.Helper()
	s, err := Open(tr)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// example is a small kernel package: every compression, dependencies over two
// levels, soft dependencies on a module, an alias and a built-in driver.
func example(t testing.TB) *tree.Tree {
	tr := &tree.Tree{}
	add := func(p string, b []byte) {
		t.Helper()
		if err := tr.Add(tree.Node{Path: "usr/lib/modules/6.12-test/" + p, Mode: 0o644, Content: tree.Bytes(b)}); err != nil {
			t.Fatal(err)
		}
	}
	add("kernel/lib/low.ko", ko("low", nil))
	add("kernel/lib/other-low.ko.gz", packGzip(t, ko("other_low", nil)))
	add("kernel/lib/middle.ko.xz", packXZ(t, ko("middle", []string{"low", "other-low"}, "weakdep=weak")))
	add("kernel/drivers/top.ko.zst", packZstd(t, ko("top", []string{"middle", "low"},
		"alias=pci:v00001AF4d*", "softdep=pre: crypto-crc32c soft-one builtin-thing nowhere platform:leds post: late", "firmware=a/b.bin")))
	add("kernel/drivers/soft-one.ko", ko("soft_one", nil))
	add("kernel/drivers/late.ko", ko("late", nil))
	add("kernel/drivers/weak.ko", ko("weak", nil))
	add("kernel/drivers/virtio/virtio_net.ko", ko("virtio_net", []string{"low"}, "alias=virtio:d00000001v*"))
	add("kernel/fs/fs-thing.ko", ko("fs_thing", []string{"middle"}, "alias=fs-thing", "alias=devname:thing"))
	add("kernel/crypto/crc32c_generic.ko", ko("crc32c_generic", nil, "alias=crypto-crc32c", "alias=crc32c"))
	add("kernel/arch/x86/crypto/crc32c-intel.ko", ko("crc32c_intel", nil, "alias=crypto-crc32c"))
	add("modules.order", []byte("kernel/fs/fs-thing.ko\nkernel/drivers/top.ko\nkernel/lib/other-low.ko\nkernel/lib/low.ko\n"))
	add("modules.builtin", []byte("kernel/drivers/builtin-thing.ko\nkernel/drivers/virtio/virtio_pci.ko\n"))
	add("modules.builtin.modinfo", []byte("ext4.alias=fs-ext4\x00ext4.license=GPL\x00"))
	return tr
}

func TestSelect(t *testing.T) {
	set := open(t, example(t))
	if set.Version() != "6.12-test" {
		t.Errorf("version %q", set.Version())
	}
	for _, tt := range []struct {
		names                  string
		modules, load, builtin string
	}{
		{"low", "low", "low", ""},
		{"other_low", "other_low", "other_low", ""},
		{"other-low", "other_low", "other_low", ""},
		{"fs_thing", "fs_thing other_low low weak middle", "other_low low middle fs_thing", ""},
		{"top", "top other_low low crc32c_intel crc32c_generic late soft_one weak middle", "", ""},
		{"builtin_thing fs-ext4", "", "", "builtin_thing fs_ext4"},
		{"crypto-crc32c", "crc32c_intel crc32c_generic", "crc32c_intel crc32c_generic", ""},
		{"virtio", "low virtio_net", "", "virtio_pci"},
		{"low low other-low other_low", "other_low low", "other_low low", ""},
	} {
		sel, err := set.Select(strings.Fields(tt.names))
		if err != nil {
			t.Errorf("%s: %v", tt.names, err)
			continue
		}
		got := []string{strings.Join(sel.Modules, " "), strings.Join(sel.Load, " "), strings.Join(sel.Builtin, " ")}
		if d := cmp.Diff([]string{tt.modules, tt.load, tt.builtin}, got); d != "" {
			t.Errorf("%s: (-want +got)\n%s", tt.names, d)
		}
	}
	sel, err := set.Select([]string{"virtio", "top"})
	if err != nil || len(sel.Missing) != len(Groups["virtio"])-2 || cmp.Diff([]string{"a/b.bin"}, sel.Firmware) != "" {
		t.Errorf("missing %v, firmware %v, %v", sel.Missing, sel.Firmware, err)
	}
}

func TestUnknown(t *testing.T) {
	set := open(t, example(t))
	_, err := set.Select([]string{"low", "midle", "virtoi", "zzzzzz"})
	for _, want := range []string{`"midle": not in this kernel; did you mean "middle"?`, `"virtoi": not in this kernel; did you mean "virtio"?`, `"zzzzzz": not in this kernel`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v\nwant %s in it", err, want)
		}
	}
	var unknown *UnknownError
	if !errors.As(err, &unknown) || unknown.Name != "midle" || unknown.Suggestion != "middle" {
		t.Errorf("first unknown: %+v", unknown)
	}
}

func TestOpenRefuses(t *testing.T) {
	for want, paths := range map[string][]string{
		"no file below":         {"boot/vmlinuz"},
		"two kernels, 1 and 2":  {"lib/modules/1/modules.order", "lib/modules/2/modules.order"},
		"also at kernel/a/x.ko": {"lib/modules/1/kernel/a/x.ko", "lib/modules/1/kernel/b/x.ko.xz"},
	} {
		tr := &tree.Tree{}
		for _, p := range paths {
			if err := tr.Add(tree.Node{Path: p, Mode: 0o644}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Open(tr); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func TestUpdatesOverride(t *testing.T) {
	for _, p := range []string{"kernel/x.ko", "zz/x.ko"} {
		tr := &tree.Tree{}
		for path, name := range map[string]string{"lib/modules/1/" + p: "x", "lib/modules/1/updates/x.ko": "x"} {
			content := ko(name, nil, "firmware="+path)
			if err := tr.Add(tree.Node{Path: path, Mode: 0o644, Content: tree.Bytes(content)}); err != nil {
				t.Fatal(err)
			}
		}
		sel, err := open(t, tr).Select([]string{"x"})
		if err != nil || len(sel.Firmware) != 1 || !strings.Contains(sel.Firmware[0], "updates") {
			t.Errorf("%s: chose %v, %v", p, sel.Firmware, err)
		}
	}
}

func TestMissingDependency(t *testing.T) {
	tr := &tree.Tree{}
	if err := tr.Add(tree.Node{Path: "lib/modules/1/x.ko", Mode: 0o644, Content: tree.Bytes(ko("x", []string{"gone"}))}); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, tr).Select([]string{"x"}); err == nil || !strings.Contains(err.Error(), "x.ko: depends on gone") {
		t.Errorf("error %v", err)
	}
}

func TestDependencyCycleEnds(t *testing.T) {
	tr := &tree.Tree{}
	for name, dep := range map[string]string{"a": "b", "b": "c", "c": "a", "self": "self"} {
		if err := tr.Add(tree.Node{Path: "lib/modules/1/" + name + ".ko", Mode: 0o644, Content: tree.Bytes(ko(name, []string{dep}))}); err != nil {
			t.Fatal(err)
		}
	}
	sel, err := open(t, tr).Select([]string{"a", "self"})
	if err != nil || len(sel.Modules) != 4 {
		t.Errorf("selected %v, %v", sel.Modules, err)
	}
	if _, err := sel.Tree(); err != nil {
		t.Error(err)
	}
}

func TestElfSizes(t *testing.T) {
	// System V ABI, figures 4-3 and 4-8: Elf64_Ehdr and Elf64_Shdr are 64 bytes.
	if ehdrSize != 16+2+2+4+8+8+8+4+6*2 || shdrSize != 4+4+8+8+8+8+4+4+8+8 {
		t.Errorf("sizes %d and %d", ehdrSize, shdrSize)
	}
}

func TestParseInfoRefuses(t *testing.T) {
	good := ko("x", nil)
	edit := func(off int, b ...byte) []byte {
		out := bytes.Clone(good)
		copy(out[off:], b)
		return out
	}
	for _, tt := range []struct {
		in    []byte
		field string
	}{
		{good[:63], "e_ident"},
		{edit(0, 'X'), "e_ident"},
		{edit(4, 1), "e_ident"},
		{edit(5, 2), "e_ident"},
		{edit(16, 2), "e_type"},
		{edit(40, 0xff, 0xff, 0xff), "e_shoff"},
		{edit(40, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), "e_shoff"},
		{edit(40, byte(len(good)-shdrSize), byte((len(good)-shdrSize)>>8)), "e_shoff"},
		{edit(58, 40), "e_shentsize"},
		{edit(60, 0xff, 0xff), "e_shoff"},
		{edit(62, 6), "e_shstrndx"},
		{bytes.Replace(good, []byte(".modinfo"), []byte(".nodinfo"), 1), ".modinfo"},
		{edit(len(good)-4*shdrSize-shdrSize+32, 0xff, 0xff, 0xff), "section 1 .modinfo"},
		{edit(len(good)-5*shdrSize+4, 8), "section 1 .modinfo"},
	} {
		_, err := parseInfo(tt.in)
		var fe *FormatError
		if !errors.As(err, &fe) || fe.Field != tt.field {
			t.Errorf("error %v, want field %s", err, tt.field)
		}
	}
}

func TestDictionaryBound(t *testing.T) {
	packed := packXZ(t, ko("x", nil))
	if err := checkDictionary(packed); err != nil {
		t.Errorf("good file: %v", err)
	}
	i := bytes.Index(packed[12:], []byte{0x21, 1}) + 12
	for _, code := range []byte{40, 41, 255, 31} {
		bad := bytes.Clone(packed)
		bad[i+2] = code
		if _, err := unxz(bad); err == nil || !strings.Contains(err.Error(), "dictionary code") {
			t.Errorf("code %d: %v", code, err)
		}
	}
	for n := range packed {
		if _, err := unxz(packed[:n]); err == nil {
			t.Errorf("%d of %d bytes unpack without error", n, len(packed))
		}
	}
}
