package source

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTarTree(t *testing.T) {
	var plain bytes.Buffer
	w := tar.NewWriter(&plain)
	for _, h := range []*tar.Header{
		{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./etc/shadow", Typeflag: tar.TypeReg, Mode: 0o640, Gid: 42, Size: 6},
		{Name: "./dev/null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3},
	} {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			io.WriteString(w, "secret")
		}
	}
	w.Close()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(plain.Bytes())
	z.Close()
	for name, b := range map[string][]byte{"root.tar": plain.Bytes(), "root.tar.gz": packed.Bytes()} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		tr, cleanup, err := TarTree(path)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		n := tr.Get("etc/shadow")
		r, _ := n.Open()
		if got, err := io.ReadAll(r); err != nil || string(got) != "secret" || n.GID != 42 || n.Mode != 0o640 {
			t.Errorf("%s: %q %v %+v", name, got, err, n)
		}
		if tr.Get("dev/null") == nil {
			t.Errorf("%s: the device is missing", name)
		}
		cleanup()
		if err := os.WriteFile(path, b[:len(b)/3], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, cleanup, err := TarTree(path); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s cut: %v", name, err)
			cleanup()
		}
	}
}
