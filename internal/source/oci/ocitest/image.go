// Package ocitest makes container images for tests, writes them as OCI layouts
// and pushes them to a real registry (Debian's package docker-registry) that
// runs for the time of a test.
//
//	host := ocitest.Registry(t)
//	image := ocitest.New(t, "amd64", ocitest.Layer{Files: []ocitest.File{{Header: tar.Header{Name: "hello"}, Content: "hi"}}})
//	image.Push(t, host+"/demo:1")
package ocitest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote"
)

// File is one tar entry; a regular file when the header names no type.
type File struct {
	tar.Header
	Content string
}

// Layer is one layer of an image.
type Layer struct {
	Form  string // "gz" (default), "zst" or "plain"
	Files []File
}

// Image is an image in memory.
type Image struct {
	Digest digest.Digest // of the manifest, or of the index when there is one
	Blobs  map[digest.Digest][]byte
	top    ocispec.Descriptor
	list   []ocispec.Descriptor // every blob, dependencies first
}

// New makes an image for linux on arch.
func New(tb testing.TB, arch string, layers ...Layer) *Image {
	tb.Helper()
	return NewWith(tb, arch, ocispec.ImageConfig{}, layers...)
}

// NewWith makes an image with a config.
func NewWith(tb testing.TB, arch string, config ocispec.ImageConfig, layers ...Layer) *Image {
	tb.Helper()
	i := &Image{Blobs: map[digest.Digest][]byte{}}
	c := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: arch}, Config: config}
	c.RootFS.Type = "layers"
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for _, l := range layers {
		plain := l.tar(tb)
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, digest.FromBytes(plain))
		mediaType, packed := l.pack(tb, plain)
		m.Layers = append(m.Layers, i.add(mediaType, packed))
	}
	m.Config = i.add(ocispec.MediaTypeImageConfig, marshal(tb, c))
	i.top = i.add(ocispec.MediaTypeImageManifest, marshal(tb, m))
	i.Digest = i.top.Digest
	return i
}

// Index joins images for several architectures, in the order of archs.
func Index(tb testing.TB, archs []string, images ...*Image) *Image {
	tb.Helper()
	all := &Image{Blobs: map[digest.Digest][]byte{}}
	x := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for n, i := range images {
		for d, b := range i.Blobs {
			all.Blobs[d] = b
		}
		all.list = append(all.list, i.list...)
		d := i.top
		d.Platform = &ocispec.Platform{OS: "linux", Architecture: archs[n]}
		x.Manifests = append(x.Manifests, d)
	}
	all.top = all.add(ocispec.MediaTypeImageIndex, marshal(tb, x))
	all.Digest = all.top.Digest
	return all
}

// SetManifest replaces the manifest of an image that is no index.
func (i *Image) SetManifest(tb testing.TB, m ocispec.Manifest) {
	tb.Helper()
	i.top = i.add(ocispec.MediaTypeImageManifest, marshal(tb, m))
	i.Digest = i.top.Digest
}

// AddConfig adds a config and returns what a manifest says about it.
func (i *Image) AddConfig(tb testing.TB, c ocispec.Image) ocispec.Descriptor {
	tb.Helper()
	return i.add(ocispec.MediaTypeImageConfig, marshal(tb, c))
}

func marshal(tb testing.TB, v any) []byte {
	tb.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func (i *Image) add(mediaType string, b []byte) ocispec.Descriptor {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	i.Blobs[d.Digest] = b
	i.list = append(i.list, d)
	return d
}

func (l Layer) tar(tb testing.TB) []byte {
	tb.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range l.Files {
		h := f.Header
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		h.Size = int64(len(f.Content))
		err := w.WriteHeader(&h)
		if err == nil {
			_, err = io.WriteString(w, f.Content)
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

func (l Layer) pack(tb testing.TB, plain []byte) (mediaType string, packed []byte) {
	tb.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch l.Form {
	case "plain":
		return ocispec.MediaTypeImageLayer, plain
	case "zst":
		mediaType = ocispec.MediaTypeImageLayerZstd
		w, err = zstd.NewWriter(&out)
	default:
		mediaType = ocispec.MediaTypeImageLayerGzip
		w = gzip.NewWriter(&out)
	}
	if err == nil {
		_, err = w.Write(plain)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		tb.Fatal(err)
	}
	return mediaType, out.Bytes()
}

// Push pushes all blobs and tags the image: "127.0.0.1:5000/name:tag".
func (i *Image) Push(tb testing.TB, ref string) {
	tb.Helper()
	repo, err := remote.NewRepository(ref)
	if err != nil {
		tb.Fatal(err)
	}
	repo.PlainHTTP = true
	ctx := context.Background()
	for _, d := range i.list {
		if err := repo.Push(ctx, d, bytes.NewReader(i.Blobs[d.Digest])); err != nil {
			tb.Fatalf("push %s: %v", d.Digest, err)
		}
	}
	if err := repo.Tag(ctx, i.top, repo.Reference.Reference); err != nil {
		tb.Fatalf("tag %s: %v", ref, err)
	}
}

// WriteLayout writes an OCI image layout with one tag.
func (i *Image) WriteLayout(tb testing.TB, dir, tag string) {
	tb.Helper()
	write := func(name string, b []byte) {
		p := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(p, b, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	for d, b := range i.Blobs {
		write("blobs/sha256/"+d.Encoded(), b)
	}
	top := i.top
	top.Annotations = map[string]string{ocispec.AnnotationRefName: tag}
	write("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	write("index.json", marshal(tb, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{top}}))
}
