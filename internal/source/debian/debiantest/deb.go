package debiantest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// Deb makes a binary package of format 2.0. Names in Files that end in "/" are
// directories; content that starts with "-> " makes a symbolic link.
func Deb(tb testing.TB, p Package) []byte {
	tb.Helper()
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: %s\nMaintainer: Test <t@example.org>\nDescription: a package\n of a test\n", p.Name, p.Version, p.Arch)
	if p.Depends != "" {
		control += "Depends: " + p.Depends + "\n"
	}
	var out bytes.Buffer
	out.WriteString("!<arch>\n")
	appendMember(&out, "debian-binary", []byte("2.0\n"))
	appendMember(&out, "control.tar.gz", tarGzip(tb, map[string]string{"control": control}))
	appendMember(&out, "data.tar.gz", tarGzip(tb, p.Files))
	return out.Bytes()
}

func appendMember(out *bytes.Buffer, name string, b []byte) {
	fmt.Fprintf(out, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", name, 0, 0, 0, "100644", len(b))
	out.Write(b)
	if len(b)%2 == 1 {
		out.WriteByte('\n')
	}
}

func tarGzip(tb testing.TB, files map[string]string) []byte {
	tb.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	when := time.Unix(1700000000, 0)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		h := &tar.Header{Name: "./" + name, Mode: 0o644, ModTime: when, Typeflag: tar.TypeReg, Size: int64(len(files[name]))}
		if target, ok := strings.CutPrefix(files[name], "-> "); ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, target, 0
		}
		if strings.HasSuffix(name, "/") {
			h.Typeflag, h.Mode, h.Size = tar.TypeDir, 0o755, 0
		}
		if err := w.WriteHeader(h); err != nil {
			tb.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte(files[name])); err != nil {
				tb.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	if err := z.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}
