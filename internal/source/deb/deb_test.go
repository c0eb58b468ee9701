package deb

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/source/debian/debiantest"
	"github.com/ingot-os/ingot/partition/tree"
)

// source makes a directory to package: what kernels and stubs have, and more.
func source(t *testing.T) string {
	t.Helper()
	d := t.TempDir()
	write := func(name, content string, mode fs.FileMode) {
		p := filepath.Join(d, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("DEBIAN/control", "Package: sample\nVersion: 1.2-3\nArchitecture: amd64\nMaintainer: T <t@example.org>\nDescription: short\n long\n .\n longer\n", 0o644)
	write("boot/vmlinuz-1", strings.Repeat("kernel ", 50000), 0o644)
	write("usr/lib/modules/1/kernel/a.ko.xz", "module", 0o644)
	write("usr/lib/modules/1/modules.dep", "", 0o600)
	write("usr/bin/tool", "#!/bin/sh\n", 0o755)
	write("usr/share/"+strings.Repeat("long/", 30)+"name", "deep", 0o644)
	if err := os.Symlink("vmlinuz-1", filepath.Join(d, "boot/vmlinuz")); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(d, "usr/bin/tool"), filepath.Join(d, "usr/bin/tool2")); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestAgreesWithDpkg packs with dpkg-deb in every compression and compares
// listing, control fields and content with what dpkg-deb says of its work.
func TestAgreesWithDpkg(t *testing.T) {
	oracle.Need(t, "dpkg", "dpkg-deb")
	src := source(t)
	for _, z := range []string{"none", "gzip", "xz", "zstd"} {
		t.Run(z, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s.deb")
			oracle.Run(t, "dpkg-deb", "--root-owner-group", "-Z"+z, "-b", src, path)
			checkControl(t, path)
			got, cleanup, err := Tree(path)
			if err != nil {
				t.Fatal(err)
			}
			defer cleanup()
			if g, w := listing(got), dpkgListing(t, path); g != w {
				t.Errorf("got\n%swant\n%s", g, w)
			}
			out := filepath.Join(t.TempDir(), "x")
			oracle.Run(t, "dpkg-deb", "-x", path, out)
			compareFiles(t, got, out)
		})
	}
}

func checkControl(t *testing.T, path string) {
	t.Helper()
	p, f, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, k := range []string{"Package", "Version", "Architecture", "Maintainer"} {
		if got, want := p.Control[k], strings.TrimSpace(oracle.Run(t, "dpkg-deb", "-f", path, k)); got != want {
			t.Errorf("%s %q, want %q", k, got, want)
		}
	}
	if got, want := p.Control["Description"], "short\nlong\n.\nlonger"; got != want {
		t.Errorf("Description %q, want %q", got, want)
	}
}

// listing has the columns of dpkg-deb -c that a tree knows.
func listing(t *tree.Tree) string {
	var out strings.Builder
	for _, n := range t.Nodes() {
		name := n.Path
		if n.Mode.IsDir() {
			name += "/"
		}
		fmt.Fprintf(&out, "%s %s", strings.TrimLeft(n.Mode.Perm().String(), "-"), name)
		if n.Mode&fs.ModeSymlink != 0 {
			out.WriteString(" -> " + n.Target)
		}
		if n.Link != "" {
			out.WriteString(" link to " + n.Link)
		}
		out.WriteByte('\n')
	}
	return out.String()
}

// dpkgListing brings dpkg-deb's list into the same form and order.
func dpkgListing(t *testing.T, path string) string {
	t.Helper()
	sorted := &tree.Tree{}
	for line := range strings.Lines(oracle.Run(t, "dpkg-deb", "-c", path)) {
		f := strings.Fields(line)
		n := tree.Node{Path: filepath.Clean(f[5]), Mode: mode(t, f[0])}
		if len(f) > 6 && f[6] == "->" {
			n.Target = f[7]
		}
		if len(f) > 8 && f[6] == "link" {
			n.Link = filepath.Clean(f[8])
		}
		if err := sorted.Add(n); err != nil {
			t.Fatal(err)
		}
	}
	return listing(sorted)
}

func mode(t *testing.T, text string) fs.FileMode {
	t.Helper()
	var m fs.FileMode
	for i, c := range text[1:] {
		if c != '-' {
			m |= 1 << (8 - i)
		}
	}
	switch text[0] {
	case 'd':
		m |= fs.ModeDir
	case 'l':
		m |= fs.ModeSymlink
	}
	return m
}

func compareFiles(t *testing.T, got *tree.Tree, dir string) {
	t.Helper()
	for _, n := range got.Nodes() {
		if !n.Mode.IsRegular() || n.Link != "" {
			continue
		}
		want, err := os.ReadFile(filepath.Join(dir, n.Path))
		if err != nil {
			t.Error(err)
			continue
		}
		r, _ := n.Open()
		if b, err := io.ReadAll(r); err != nil || !bytes.Equal(b, want) {
			t.Errorf("%s: %d bytes %v, want %d", n.Path, len(b), err, len(want))
		}
	}
}

func sample(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s.deb")
	b := debiantest.Deb(t, debiantest.Package{Name: "sample", Version: "1", Arch: "amd64", Files: map[string]string{
		"lib/modules/1/a.ko": "a", "usr/lib/stub": "stub", "usr/link": "-> lib/stub", "libx": "no",
	}})
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTreeTakesPrefixesOnly(t *testing.T) {
	got, cleanup, err := Tree(sample(t), "lib", "usr/link")
	if err != nil {
		t.Fatal(err)
	}
	defer cleanup()
	var names []string
	for _, n := range got.Nodes() {
		names = append(names, n.Path)
	}
	if g, w := strings.Join(names, " "), ". lib lib/modules lib/modules/1 lib/modules/1/a.ko usr usr/link"; g != w {
		t.Errorf("got %s, want %s", g, w)
	}
}

func TestExtract(t *testing.T) {
	path := sample(t)
	var out bytes.Buffer
	if err := Extract(path, "usr/lib/stub", &out); err != nil || out.String() != "stub" {
		t.Errorf("got %q %v", &out, err)
	}
	if err := Extract(path, "usr/lib/none", &out); err == nil || !strings.Contains(err.Error(), "usr/lib/none") {
		t.Errorf("missing file: %v", err)
	}
	if err := Extract(path, "usr/link", &out); err == nil {
		t.Error("a link passed for a file")
	}
}

func TestRefusals(t *testing.T) {
	good, err := os.ReadFile(sample(t))
	if err != nil {
		t.Fatal(err)
	}
	first := len(arMagic)
	for _, tc := range []struct {
		name string
		by   func(b []byte) []byte
		says string
	}{
		{"no magic", func(b []byte) []byte { b[0] = 'x'; return b }, "magic"},
		{"empty", func([]byte) []byte { return nil }, "magic"},
		{"header cut", func(b []byte) []byte { return b[:first+30] }, "header at 8: header"},
		{"header without its end", func(b []byte) []byte { b[first+arEndAt] = 'x'; return b }, "end"},
		{"size over the file", func(b []byte) []byte { copy(b[first+arSizeAt:], "999999999 "); return b }, "size"},
		{"negative size", func(b []byte) []byte { copy(b[first+arSizeAt:], "-1        "); return b }, "size"},
		{"another first member", func(b []byte) []byte { b[first] = 'x'; return b }, "debian-binary"},
		{"version 3", func(b []byte) []byte { b[first+arHeader] = '3'; return b }, "version"},
		{"no data", func(b []byte) []byte { return bytes.Replace(b, []byte("data.tar.gz"), []byte("nada.tar.gz"), 1) }, "missing"},
		{"unknown compression", func(b []byte) []byte { return bytes.Replace(b, []byte("control.tar.gz"), []byte("control.tar.lz"), 1) }, "not supported"},
		{"too many members", func(b []byte) []byte {
			for range maxMembers {
				b = append(b, b[first:first+arHeader+4]...)
			}
			return b
		}, "members"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := tc.by(bytes.Clone(good))
			_, err := Open(bytes.NewReader(b), int64(len(b)))
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, want it to say %q", err, tc.says)
			}
		})
	}
	if _, err := Open(bytes.NewReader(good), int64(len(good))); err != nil {
		t.Errorf("the unchanged package: %v", err)
	}
}

func TestHostilePathsAreRefused(t *testing.T) {
	for _, name := range []string{"../../etc/passwd", "a/../../b"} {
		b := debiantest.Deb(t, debiantest.Package{Name: "x", Version: "1", Arch: "amd64", Files: map[string]string{name: "x"}})
		p, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Walk(func(*tree.Node, io.Reader) error { return nil }); err == nil || !strings.Contains(err.Error(), `".."`) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHeaderSize(t *testing.T) {
	// deb(5) and ar.h: name 16, date 12, uid 6, gid 6, mode 8, size 10, end 2.
	if arName+12+6+6+8 != arSizeAt || arSizeAt+arSizeLen != arEndAt || arEndAt+len(arEnd) != arHeader {
		t.Error("the fields do not add up to the header")
	}
}

func FuzzOpen(f *testing.F) {
	b, err := os.ReadFile(sample(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(arMagic))
	f.Add([]byte(arMagic + fmt.Sprintf("%-16s%-12d%-6d%-6d%-8s%-10d`\n", "debian-binary", 0, 0, 0, "100644", 4) + "2.0\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		err = p.Walk(func(n *tree.Node, r io.Reader) error {
			_, err := io.Copy(io.Discard, io.LimitReader(r, 1<<20))
			return errors.Join(err, nil)
		})
		_ = err // anything but a panic
	})
}

// BenchmarkWalk reads a whole package given by INGOT_BENCH_DEB, a kernel's for example.
func BenchmarkWalk(b *testing.B) {
	path := os.Getenv("INGOT_BENCH_DEB")
	if path == "" {
		b.Skip("set INGOT_BENCH_DEB to a .deb")
	}
	var total int64
	for b.Loop() {
		total = 0
		err := Walk(path, func(_ *tree.Node, r io.Reader) error {
			n, err := io.Copy(io.Discard, r)
			total += n
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(total)
}
