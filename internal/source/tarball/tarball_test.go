package tarball

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/partition/tree"
)

// archive writes headers with their content (Linkname doubles as content of regular files).
func archive(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, h := range headers {
		content := ""
		if h.Typeflag == tar.TypeReg {
			content, h.Linkname = h.Linkname, ""
			h.Size = int64(len(content))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func file(name, content string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Linkname: content, Mode: 0o644}
}

func link(name, to string) tar.Header {
	return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to}
}

func symlink(name, to string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to, Mode: 0o777}
}

func dir(name string) tar.Header {
	return tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}
}

// dump is one line per node, with content.
func dump(t testing.TB, tr *tree.Tree) string {
	t.Helper()
	var out strings.Builder
	for _, n := range tr.Nodes() {
		fmt.Fprintf(&out, "%s %s %d:%d", n.Mode, n.Path, n.UID, n.GID)
		switch {
		case n.Link != "":
			fmt.Fprintf(&out, " = %s", n.Link)
		case n.Mode&fs.ModeSymlink != 0:
			fmt.Fprintf(&out, " -> %s", n.Target)
		case n.Mode.IsRegular():
			r, err := n.Open()
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&out, " %q", b)
		case n.Mode&fs.ModeDevice != 0:
			fmt.Fprintf(&out, " %d,%d", n.Major, n.Minor)
		}
		for _, k := range []string{"security.capability", "user.a"} {
			if v, ok := n.Xattrs[k]; ok {
				fmt.Fprintf(&out, " %s=%q", k, v)
			}
		}
		out.WriteByte('\n')
	}
	return out.String()
}

func parse(t testing.TB, b []byte, o Options) (string, error) {
	t.Helper()
	tr, err := Tree(bytes.NewReader(b), int64(len(b)), o)
	if err != nil {
		return "", err
	}
	return dump(t, tr), nil
}

func TestTreeKeepsWhatATarSays(t *testing.T) {
	b := archive(t,
		dir("./"), dir("./etc/"),
		tar.Header{Typeflag: tar.TypeReg, Name: "./etc/shadow", Linkname: "secret", Mode: 0o640, Uid: 0, Gid: 42},
		tar.Header{Typeflag: tar.TypeReg, Name: "./bin/su", Linkname: "elf", Mode: 0o4755, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "\x01\x00cap"}},
		link("./bin/sudo", "./bin/su"), symlink("bin/sh", "/bin/bash"),
		tar.Header{Typeflag: tar.TypeChar, Name: "dev/null", Mode: 0o666, Devmajor: 1, Devminor: 3},
		tar.Header{Typeflag: tar.TypeFifo, Name: "dev/pipe", Mode: 0o600},
		tar.Header{Typeflag: tar.TypeDir, Name: "tmp", Mode: 0o1777},
		file("empty", ""),
	)
	got, err := parse(t, b, Options{Devices: true})
	if err != nil {
		t.Fatal(err)
	}
	want := `drwxr-xr-x . 0:0
drwxr-xr-x bin 0:0
Lrwxrwxrwx bin/sh 0:0 -> /bin/bash
urwxr-xr-x bin/su 0:0 "elf" security.capability="\x01\x00cap"
urwxr-xr-x bin/sudo 0:0 = bin/su security.capability="\x01\x00cap"
drwxr-xr-x dev 0:0
Dcrw-rw-rw- dev/null 0:0 1,3
prw------- dev/pipe 0:0
-rw-r--r-- empty 0:0 ""
drwxr-xr-x etc 0:0
-rw-r----- etc/shadow 0:42 "secret"
dtrwxrwxrwx tmp 0:0
`
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestLaterEntriesReplaceEarlierOnes(t *testing.T) {
	for _, tc := range []struct {
		name    string
		entries []tar.Header
		want    string
	}{
		{"file over file", []tar.Header{file("a", "1"), file("a", "2")}, "-rw-r--r-- a 0:0 \"2\"\n"},
		{"a hard link outlives its first name", []tar.Header{file("a", "1"), link("b", "a"), file("a", "2")},
			"-rw-r--r-- a 0:0 \"2\"\n-rw-r--r-- b 0:0 \"1\"\n"},
		{"directory over directory keeps the content", []tar.Header{file("d/x", "1"), {Typeflag: tar.TypeDir, Name: "d", Mode: 0o700}},
			"drwx------ d 0:0\n-rw-r--r-- d/x 0:0 \"1\"\n"},
		{"file over directory drops the content", []tar.Header{file("d/x", "1"), file("d", "2")}, "-rw-r--r-- d 0:0 \"2\"\n"},
		{"directory over file", []tar.Header{file("d", "2"), file("e", ""), dir("d"), file("d/x", "1")},
			"drwxr-xr-x d 0:0\n-rw-r--r-- d/x 0:0 \"1\"\n-rw-r--r-- e 0:0 \"\"\n"},
		{"writing through a link stays inside", []tar.Header{dir("usr/bin"), symlink("bin", "/../../usr/bin"), file("bin/x", "1")},
			"Lrwxrwxrwx bin 0:0 -> /../../usr/bin\ndrwxr-xr-x usr 0:0\ndrwxr-xr-x usr/bin 0:0\n-rw-r--r-- usr/bin/x 0:0 \"1\"\n"},
		{"a link itself is replaced, not followed", []tar.Header{file("t", "1"), symlink("l", "t"), file("l", "2")},
			"-rw-r--r-- l 0:0 \"2\"\n-rw-r--r-- t 0:0 \"1\"\n"},
		{"a second name of a link is a copy", []tar.Header{symlink("l", "t"), link("m", "l")},
			"Lrwxrwxrwx l 0:0 -> t\nLrwxrwxrwx m 0:0 -> t\n"},
		{"a link to itself by another spelling", []tar.Header{file("a", "1"), link("a", "./a")}, "-rw-r--r-- a 0:0 \"1\"\n"},
		{"the first name in order has the content", []tar.Header{file("b", "1"), link("a/x", "b"), link("a-b", "b")},
			"drwxr-xr-x a 0:0\n-rw-r--r-- a/x 0:0 \"1\"\n-rw-r--r-- a-b 0:0 = a/x\n-rw-r--r-- b 0:0 = a/x\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := parse(t, archive(t, tc.entries...), Options{})
			if want := "drwxr-xr-x . 0:0\n" + tc.want; err != nil || got != want {
				t.Errorf("got\n%s%v\nwant\n%s", got, err, want)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	for _, tc := range []struct {
		name    string
		entries []tar.Header
		says    string
	}{
		{"absolute path", []tar.Header{file("/etc/passwd", "")}, "absolute"},
		{"parent", []tar.Header{file("../x", "")}, `".."`},
		{"parent in the middle", []tar.Header{file("a/../../x", "")}, `".."`},
		{"hard link out", []tar.Header{link("a", "../etc/passwd")}, `".."`},
		{"hard link to nothing", []tar.Header{link("a", "b")}, "no file before it"},
		{"hard link to a directory", []tar.Header{dir("b"), link("a", "b")}, "no file before it"},
		{"device", []tar.Header{{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3}}, "device nodes"},
		{"pipe", []tar.Header{{Typeflag: tar.TypeFifo, Name: "p"}}, "pipes"},
		{"file as directory", []tar.Header{file("a", ""), file("a/b", "")}, "not a directory"},
		{"loop of links", []tar.Header{symlink("a", "b"), symlink("b", "a"), file("a/x", "")}, "too many levels"},
		{"the root as a file", []tar.Header{file(".", "")}, "root"},
		{"element over NAME_MAX", []tar.Header{file(strings.Repeat("a", 256), "")}, "256 bytes"},
		{"too many xattrs", []tar.Header{{Typeflag: tar.TypeReg, Name: "a", PAXRecords: map[string]string{"SCHILY.xattr.user.a": strings.Repeat("x", MaxXattrs)}}}, "extended attributes"},
		{"empty symlink", []tar.Header{symlink("a", "")}, "link target"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := parse(t, archive(t, tc.entries...), Options{})
			var entry *EntryError
			if !errors.As(err, &entry) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, want an EntryError that says %q", err, tc.says)
			}
		})
	}
}

func TestSparseFilesAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.tar")
	b := sparseTar(t, path)
	if _, err := parse(t, b, Options{}); err == nil || !strings.Contains(err.Error(), "sparse") {
		t.Errorf("got %v", err)
	}
}

func sparseTar(t *testing.T, path string) []byte {
	t.Helper()
	oracle.Need(t, "tar", "tar")
	d := t.TempDir()
	name := filepath.Join(d, "hole")
	if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, 1<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("tar", "--sparse", "--format=pax", "-C", d, "-cf", path, "hole").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestIndexOffsets compares the sections that Index computes with what a
// streaming read gives, for archives of three formats made by GNU tar.
func TestIndexOffsets(t *testing.T) {
	oracle.Need(t, "tar", "tar")
	d := t.TempDir()
	for i, n := range []int{0, 1, 511, 512, 513, 10240, 100_000} {
		name := filepath.Join(d, strings.Repeat("long-name-", 12)+fmt.Sprint(i))
		if err := os.WriteFile(name, bytes.Repeat([]byte{byte('a' + i)}, n), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, format := range []string{"pax", "gnu", "ustar"} {
		path := filepath.Join(t.TempDir(), "a.tar")
		if out, err := exec.Command("tar", "--format="+format, "-C", d, "-cf", path, ".").CombinedOutput(); err != nil {
			if format == "ustar" {
				continue // the names are too long for it, as the tool has just said
			}
			t.Fatalf("%v: %s", err, out)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string][]byte{}
		err = Walk(bytes.NewReader(b), Options{}, func(n *tree.Node, r io.Reader) (err error) {
			want[n.Path], err = io.ReadAll(r)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		got, err := Tree(bytes.NewReader(b), int64(len(b)), Options{})
		if err != nil {
			t.Fatal(err)
		}
		for p, w := range want {
			r, _ := got.Get(p).Open()
			if g, _ := io.ReadAll(r); !bytes.Equal(g, w) {
				t.Errorf("%s: %s: %d bytes differ from %d", format, p, len(g), len(w))
			}
		}
		if got.Len() != len(want) || len(want) != 8 {
			t.Errorf("%s: %d nodes, want %d", format, got.Len(), len(want))
		}
	}
}

func TestCutArchives(t *testing.T) {
	b := archive(t, file("a", strings.Repeat("x", 2000)), file("b", "y"))
	for _, n := range []int{1, 100, 511, 513, 600, 2000, 3000} {
		if _, err := parse(t, b[:n], Options{}); err == nil {
			t.Errorf("accepted the first %d bytes", n)
		}
	}
}

func TestWalkStops(t *testing.T) {
	b := archive(t, file("a", "1"), file("b", "2"))
	n := 0
	if err := Walk(bytes.NewReader(b), Options{}, func(*tree.Node, io.Reader) error { n++; return fs.SkipAll }); err != nil || n != 1 {
		t.Errorf("%d entries, %v", n, err)
	}
}

func FuzzTree(f *testing.F) {
	f.Add(archive(f, dir("./"), file("./a", "x"), link("b", "a"), symlink("c", "b"), symlink("d", "../.."), file("d/e", "y")))
	f.Add(archive(f, symlink("a", "a/a"), file("a/b", ""), tar.Header{Typeflag: tar.TypeReg, Name: "x", PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b"}}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		tr, err := Tree(bytes.NewReader(b), int64(len(b)), Options{Devices: true})
		if err != nil {
			return
		}
		for _, n := range tr.Nodes() {
			if !fs.ValidPath(n.Path) && !strings.ContainsFunc(n.Path, func(r rune) bool { return r == 0xfffd || r < ' ' || r > '~' }) {
				t.Errorf("path %q", n.Path)
			}
			if n.Link != "" && (tr.Get(n.Link) == nil || tr.Get(n.Link).Link != "") {
				t.Errorf("%q is a link to %q, which is none or a link", n.Path, n.Link)
			}
		}
	})
}
