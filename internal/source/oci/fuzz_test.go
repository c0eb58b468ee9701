package oci

import (
	"archive/tar"
	"bytes"
	"testing"

	"github.com/ingot-os/ingot/internal/source/tarball"
)

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000","size":1},"layers":[]}`))
	f.Add([]byte(`{"manifests":[{"platform":{"os":"linux","architecture":"amd64"}},{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if blobs, err := parseManifest(b); err == nil && (len(blobs) == 0 || len(blobs) > MaxLayers+1) {
			t.Errorf("%d blobs", len(blobs))
		}
		if d, err := pick(b, "amd64"); err == nil && (d.Platform == nil || d.Platform.OS != "linux") {
			t.Errorf("picked %+v", d)
		}
	})
}

// FuzzApply lays a hostile layer over a good one.
func FuzzApply(f *testing.F) {
	layer := func(names ...string) []byte {
		var out bytes.Buffer
		w := tar.NewWriter(&out)
		for _, n := range names {
			if err := w.WriteHeader(&tar.Header{Name: n, Typeflag: tar.TypeReg}); err != nil {
				f.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			f.Fatal(err)
		}
		return out.Bytes()
	}
	base := layer("a/b", "a/c", "d")
	f.Add(layer("a/.wh.b", ".wh.d", "e"))
	f.Add(layer("a/.wh..wh..opq", "a/x", ".wh..", ".wh..."))
	f.Fuzz(func(t *testing.T, b []byte) {
		files := &tarball.FS{}
		if err := apply(files, bytes.NewReader(base), int64(len(base)), "root@layer"); err != nil {
			t.Fatal(err)
		}
		if apply(files, bytes.NewReader(b), int64(len(b)), "root@layer") != nil {
			return
		}
		if _, err := files.Tree(); err != nil {
			t.Errorf("accepted, and yet no tree: %v", err)
		}
	})
}
