package bls_test

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/boot/bls"
	"github.com/ingot-os/ingot/partition/tree"
)

func example() bls.ESP {
	return bls.ESP{
		Fallback: "EFI/BOOT/BOOTX64.EFI",
		Loader:   tree.Bytes("loader"),
		Conf:     bls.LoaderConf{Timeout: 5, Default: "hello_*", Other: []bls.Field{{Key: "beep", Value: "no"}}},
		Images: []bls.Image{
			{Name: bls.ImageName{Stem: "hello_1.0"}, Content: tree.Bytes("one")},
			{Name: bls.ImageName{Stem: "hello_1.1", Counted: true, Left: 3}, Content: tree.Bytes("two")},
		},
		Entries: []bls.Entry{{Name: "memtest", Title: "Memory test", SortKey: "zz", EFI: "/EFI/tools/memtest.efi", Options: []string{"fast", "quiet"}}},
	}
}

const wantFiles = `EFI/BOOT/BOOTX64.EFI -rw-r--r--
loader
EFI/Linux/hello_1.0.efi -rw-r--r--
one
EFI/Linux/hello_1.1+3-0.efi -rw-r--r--
two
loader/entries/memtest.conf -rw-r--r--
title Memory test
sort-key zz
efi /EFI/tools/memtest.efi
options fast
options quiet

loader/loader.conf -rw-r--r--
timeout 5
default hello_*
editor no
auto-entries no
auto-firmware no
beep no

`

func TestFiles(t *testing.T) {
	files, err := bls.Files(example())
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, n := range files.Nodes() {
		if n.Mode.IsRegular() {
			r, _ := n.Open()
			b, _ := io.ReadAll(r)
			fmt.Fprintf(&got, "%s %v\n%s\n", n.Path, n.Mode, b)
		}
	}
	if diff := cmp.Diff(wantFiles, got.String()); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestFilesRefuses(t *testing.T) {
	for _, c := range []struct {
		name, want string
		change     func(*bls.ESP)
	}{
		{"no loader", "required", func(e *bls.ESP) { e.Loader = nil }},
		{"no image", "required", func(e *bls.ESP) { e.Images = nil }},
		{"no path", "required", func(e *bls.ESP) { e.Fallback = "" }},
		{"absolute path", "clean path", func(e *bls.ESP) { e.Fallback = "/EFI/BOOT/BOOTX64.EFI" }},
		{"no content", "no content", func(e *bls.ESP) { e.Images[0].Content = nil }},
		{"one name", "one name on FAT", func(e *bls.ESP) { e.Images[1].Name = bls.ImageName{Stem: "HELLO_1.0"} }},
		{"timeout", "timeout -1", func(e *bls.ESP) { e.Conf.Timeout = -1 }},
		{"entry", "exactly one", func(e *bls.ESP) { e.Entries[0].EFI = "" }},
		{"counted names in two sectors", "directory records", func(e *bls.ESP) {
			for i := range 4 {
				e.Images = append(e.Images, bls.Image{Name: bls.ImageName{Stem: fmt.Sprintf("an-appliance_%d", i)}, Content: tree.Bytes("x")})
			}
		}},
	} {
		e := example()
		c.change(&e)
		if _, err := bls.Files(e); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestImageName(t *testing.T) {
	for s, want := range map[string]bls.ImageName{
		"app.efi":            {Stem: "app"},
		"app_1.2~rc1.efi":    {Stem: "app_1.2~rc1"},
		"app+3-0.efi":        {Stem: "app", Counted: true, Left: 3},
		"app+3.efi":          {Stem: "app", Counted: true, Left: 3},
		"app_1+0-12.EFI":     {Stem: "app_1", Counted: true, Done: 12},
		"app+x.efi":          {Stem: "app+x"},
		"app+3-x.efi":        {Stem: "app+3-x"},
		"app+3-.efi":         {Stem: "app+3-"},
		"a+b+2-1.efi":        {Stem: "a+b", Counted: true, Left: 2, Done: 1},
		"app+1234567890.efi": {Stem: "app+1234567890"},
		"+3-0.efi":           {Stem: "+3-0"},
	} {
		got, err := bls.ParseImageName(s)
		if err != nil || got != want {
			t.Errorf("%s = %+v, %v; want %+v", s, got, err, want)
		}
	}
	for _, s := range []string{"", ".efi", "app", "app.conf"} {
		if got, err := bls.ParseImageName(s); err == nil {
			t.Errorf("%q = %+v, want an error", s, got)
		}
	}
}

func TestImageNameRefuses(t *testing.T) {
	for _, n := range []bls.ImageName{
		{}, {Stem: "a b"}, {Stem: "a/b"}, {Stem: ".a"}, {Stem: "a."}, {Stem: "ä"}, {Stem: strings.Repeat("a", 65)},
		{Stem: "a+3"}, {Stem: "a+3-0"}, {Stem: "a", Counted: true, Left: 10}, {Stem: "a", Counted: true, Done: -1},
	} {
		if s, err := n.Format(); err == nil {
			t.Errorf("%+v = %s, want an error", n, s)
		}
	}
}

// TestCheckDirectory counts records: two for the directory itself, one short
// and one long per 13 characters for each name; 16 of 32 bytes make 512.
func TestCheckDirectory(t *testing.T) {
	name := func(n int) string { return strings.Repeat("n", n) }
	for _, c := range []struct {
		names []string
		ok    bool
	}{
		{nil, true},
		{[]string{name(13), name(13), name(13), name(13), name(13), name(13), name(13)}, true},               // 2 + 7*2
		{[]string{name(13), name(13), name(13), name(13), name(13), name(13), name(14)}, false},              // one more
		{[]string{name(13), name(13), name(13), name(13), name(13), name(13), name(13), name(1)}, false},     // 18
		{[]string{"appliance-2026.11.1+3-0.efi", "appliance-2026.10.1.efi", "appliance-2026.9.1.efi"}, true}, // 2+4+3+3
	} {
		if err := bls.CheckDirectory(c.names); (err == nil) != c.ok {
			t.Errorf("%q: %v, want ok %v", c.names, err, c.ok)
		}
	}
}

func TestLoaderConf(t *testing.T) {
	got, err := bls.ParseLoaderConf([]byte("# a comment\n\ttimeout\t10\r\n default  \"a b*\"\neditor off\nauto-entries 1\nauto-firmware n\nconsole-mode max\nunknown x y\nno-value\ntimeout 7\n"))
	want := bls.LoaderConf{Timeout: 7, Default: "a b*", AutoEntries: true, ConsoleMode: "max", Other: []bls.Field{{Key: "unknown", Value: "x y"}}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	empty, err := bls.ParseLoaderConf(nil)
	if diff := cmp.Diff(bls.LoaderConf{Editor: true, AutoEntries: true, AutoFirmware: true}, empty); err != nil || diff != "" {
		t.Errorf("empty file: %v (-want +got):\n%s", err, diff)
	}
	for _, s := range []string{"timeout x", "timeout -1", "timeout 99999999999999999999", "editor maybe", strings.Repeat("#\n", 1<<15) + "x"} {
		if _, err := bls.ParseLoaderConf([]byte(s)); err == nil {
			t.Errorf("%.40q: no error", s)
		}
	}
}

func TestConfRefuses(t *testing.T) {
	for _, f := range []bls.Field{{Key: "", Value: "x"}, {Key: "a b", Value: "x"}, {Key: "#a", Value: "x"}, {Key: "a", Value: ""}, {Key: "a", Value: "x\neditor yes"}, {Key: "a", Value: " x"}, {Key: "a", Value: `"x"`}} {
		if b, err := (bls.LoaderConf{Other: []bls.Field{f}}).MarshalText(); err == nil {
			t.Errorf("%+v = %q, want an error", f, b)
		}
	}
}

func TestEntry(t *testing.T) {
	want := bls.Entry{Name: "linux", Title: "Linux", Version: "6.12", MachineID: "0123456789abcdef0123456789abcdef", Architecture: "x64",
		Linux: "/vmlinuz", Initrd: []string{"/a.img", "/b.img"}, Options: []string{"console=ttyS0"}, Other: []bls.Field{{Key: "devicetree", Value: "/x.dtb"}}}
	b, err := want.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	got, err := bls.ParseEntry("linux", b)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s\n%s", err, diff, b)
	}
	for name, change := range map[string]func(*bls.Entry){
		"name":              func(e *bls.Entry) { e.Name = "a/b" },
		"title":             func(e *bls.Entry) { e.Title = "" },
		"two kinds":         func(e *bls.Entry) { e.EFI = "/x.efi" },
		"initrd of an efi":  func(e *bls.Entry) { e.Linux, e.EFI = "", "/x.efi" },
		"relative path":     func(e *bls.Entry) { e.Linux = "vmlinuz" },
		"backslash":         func(e *bls.Entry) { e.Linux = `/a\b` },
		"dots":              func(e *bls.Entry) { e.Initrd[0] = "/../x" },
		"line in the title": func(e *bls.Entry) { e.Title = "a\nlinux /b" },
	} {
		e := want
		e.Initrd = []string{"/a.img"}
		change(&e)
		if b, err := e.MarshalText(); err == nil {
			t.Errorf("%s: wrote %q, want an error", name, b)
		}
	}
}

// FuzzLoaderConf: a file that is read and can be written means the same.
func FuzzLoaderConf(f *testing.F) {
	f.Add([]byte("timeout 5\ndefault a\neditor no\nx y\n"))
	f.Add([]byte("timeout menu-force\n# c\nconsole-mode \"max\"\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := bls.ParseLoaderConf(b)
		if err != nil {
			return
		}
		text, err := c.MarshalText()
		if err != nil {
			return
		}
		again, err := bls.ParseLoaderConf(text)
		if diff := cmp.Diff(c, again); err != nil || diff != "" {
			t.Errorf("%v (-first +second):\n%s", err, diff)
		}
	})
}

// FuzzEntry does the same for entries.
func FuzzEntry(f *testing.F) {
	f.Add([]byte("title a\nlinux /b\ninitrd /c\noptions d\nx y\n"))
	f.Add([]byte("title \"a\"\nefi /b"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := bls.ParseEntry("name", b)
		if err != nil {
			return
		}
		text, err := e.MarshalText()
		if err != nil {
			return
		}
		again, err := bls.ParseEntry("name", text)
		if diff := cmp.Diff(e, again); err != nil || diff != "" {
			t.Errorf("%v (-first +second):\n%s", err, diff)
		}
	})
}

// FuzzImageName: a name that is read and can be written is the same name.
func FuzzImageName(f *testing.F) {
	for _, s := range []string{"a.efi", "a+1.efi", "a+1-2.efi", "a+b.EFI"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := bls.ParseImageName(s)
		if err != nil {
			return
		}
		text, err := n.Format()
		if err != nil {
			return
		}
		if again, err := bls.ParseImageName(text); err != nil || again != n {
			t.Errorf("%q = %+v = %q = %+v, %v", s, n, text, again, err)
		}
	})
}

func ExampleFiles() {
	files, err := bls.Files(bls.ESP{
		Fallback: "EFI/BOOT/BOOTX64.EFI", Loader: tree.Bytes("..."),
		Images: []bls.Image{{Name: bls.ImageName{Stem: "hello_1.0"}, Content: tree.Bytes("...")}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, n := range files.Nodes() {
		if n.Mode.IsRegular() {
			fmt.Println(n.Path)
		}
	}
	// Output:
	// EFI/BOOT/BOOTX64.EFI
	// EFI/Linux/hello_1.0.efi
	// loader/loader.conf
}
