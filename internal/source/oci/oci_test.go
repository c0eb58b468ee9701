package oci_test

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/internal/source"
	"github.com/ingot-os/ingot/internal/source/oci"
	"github.com/ingot-os/ingot/internal/source/oci/ocitest"
	"github.com/ingot-os/ingot/partition/tree"
)

func file(name, content string) ocitest.File {
	return ocitest.File{Header: tar.Header{Name: name}, Content: content}
}

func dir(name string) ocitest.File {
	return ocitest.File{Header: tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755}}
}

func symlink(name, to string) ocitest.File {
	return ocitest.File{Header: tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to}}
}

func link(name, to string) ocitest.File {
	return ocitest.File{Header: tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: to}}
}

func layer(files ...ocitest.File) ocitest.Layer { return ocitest.Layer{Files: files} }

func fetcher(t *testing.T) *source.Fetcher {
	t.Helper()
	f, err := source.New(source.Options{Store: &source.Store{Dir: t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// dump is one line per node below the root.
func dump(t *testing.T, tr *tree.Tree) string {
	t.Helper()
	var out strings.Builder
	for _, n := range tr.Nodes()[1:] {
		fmt.Fprintf(&out, "%s %s", n.Mode, n.Path)
		switch {
		case n.Link != "":
			out.WriteString(" = " + n.Link)
		case n.Mode&fs.ModeSymlink != 0:
			out.WriteString(" -> " + n.Target)
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
		}
		if c, ok := n.Xattrs["security.capability"]; ok {
			fmt.Fprintf(&out, " cap=%x", c)
		}
		out.WriteByte('\n')
	}
	return out.String()
}

// pull resolves, fetches and unpacks a reference.
func pull(f *source.Fetcher, ref, dir, arch string) (lock.Input, *tree.Tree, oci.Config, func(), error) {
	ctx := context.Background()
	in, err := f.Image(ctx, ref, dir, arch)
	if err != nil {
		return in, nil, oci.Config{}, func() {}, err
	}
	in.Name = "root"
	if _, err := f.Fetch(ctx, in, dir); err != nil {
		return in, nil, oci.Config{}, func() {}, err
	}
	t, c, cleanup, err := oci.Tree(ctx, f.Store, in)
	return in, t, c, cleanup, err
}

// TestRegistry makes an image, pushes it to a real registry and pulls it by tag
// and by digest; then again with a warm cache and no registry.
func TestRegistry(t *testing.T) {
	host := ocitest.Registry(t)
	config := ocispec.ImageConfig{Entrypoint: []string{"/bin/app"}, Cmd: []string{"-v"}, Env: []string{"A=b"}, WorkingDir: "/srv", User: "1000:1000"}
	amd := ocitest.NewWith(t, "amd64", config,
		layer(dir("bin"), file("bin/app", "amd64"), ocitest.File{Header: tar.Header{Name: "bin/ping", Mode: 0o755, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "\x01\x02"}}, Content: "p"}),
		ocitest.Layer{Form: "zst", Files: []ocitest.File{file("etc/conf", "2")}},
		ocitest.Layer{Form: "plain", Files: []ocitest.File{file("etc/conf", "3")}})
	arm := ocitest.New(t, "arm64", layer(file("bin/app", "arm64")))
	all := ocitest.Index(t, []string{"amd64", "arm64"}, amd, arm)
	all.Push(t, host+"/team/app:1.0")

	f := fetcher(t)
	for _, ref := range []string{host + "/team/app:1.0", host + "/team/app@" + all.Digest.String(), host + "/team/app@" + amd.Digest.String()} {
		in, tr, c, cleanup, err := pull(f, ref, "", "amd64")
		if err != nil {
			t.Fatalf("%s: %v", ref, err)
		}
		if in.SHA256 != amd.Digest.Encoded() || in.Path != ref || len(in.Blobs) != 4 {
			t.Errorf("%s: pinned %+v", ref, in)
		}
		want := "drwxr-xr-x bin\n-rw-r--r-- bin/app \"amd64\"\n-rwxr-xr-x bin/ping \"p\" cap=0102\ndrwxr-xr-x etc\n-rw-r--r-- etc/conf \"3\"\n"
		if got := dump(t, tr); got != want {
			t.Errorf("%s: got\n%swant\n%s", ref, got, want)
		}
		wantConfig := oci.Config{Entrypoint: []string{"/bin/app"}, Cmd: []string{"-v"}, Env: []string{"A=b"}, WorkingDir: "/srv", User: "1000:1000"}
		if d := cmp.Diff(wantConfig, c); d != "" {
			t.Error(d)
		}
		cleanup()
	}
	if _, tr, _, cleanup, err := pull(f, host+"/team/app:1.0", "", "arm64"); err != nil || !strings.Contains(dump(t, tr), "arm64") {
		t.Errorf("arm64: %v", err)
	} else {
		cleanup()
	}
	if _, err := f.Image(context.Background(), host+"/team/app:1.0", "", "riscv64"); err == nil || !strings.Contains(err.Error(), "no image for linux/riscv64, only linux/amd64, linux/arm64") {
		t.Errorf("riscv64: %v", err)
	}
	if _, err := f.Image(context.Background(), host+"/team/app:2.0", "", "amd64"); err == nil || !strings.Contains(err.Error(), "app:2.0") {
		t.Errorf("missing tag: %v", err)
	}
	checkOffline(t, f, host+"/team/app:1.0")
}

// checkOffline: what is in the cache needs no registry, anything else says so.
func checkOffline(t *testing.T, f *source.Fetcher, ref string) {
	t.Helper()
	in, err := f.Image(context.Background(), ref, "", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	bundle := t.TempDir()
	if err := lock.Vendor(context.Background(), &lock.Lock{Inputs: []lock.Input{in}}, f, "", bundle); err != nil {
		t.Fatal(err)
	}
	f.Offline = true
	if _, err := f.Fetch(context.Background(), in, ""); err != nil {
		t.Errorf("offline, warm: %v", err)
	}
	cold := fetcher(t)
	cold.Offline = true
	if _, err := cold.Fetch(context.Background(), in, ""); !errors.Is(err, source.ErrOffline) {
		t.Errorf("offline, cold: %v, want %v", err, source.ErrOffline)
	}
	cold.Vendor = bundle
	if _, err := cold.Fetch(context.Background(), in, ""); err != nil {
		t.Errorf("offline, with a vendor bundle: %v", err)
	}
}

func TestCorruptBlobIsFetchedAgain(t *testing.T) {
	d := t.TempDir()
	i := ocitest.New(t, "amd64", layer(file("a", "1")))
	i.WriteLayout(t, filepath.Join(d, "image"), "v1")
	f := fetcher(t)
	in, _, _, cleanup, err := pull(f, "image:v1", d, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	cleanup()
	path, _ := f.Store.Path(in.Blobs[1].SHA256)
	if err := os.Truncate(path, 5); err != nil {
		t.Fatal(err)
	}
	again, err := source.New(source.Options{Store: &source.Store{Dir: f.Store.Dir}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Fetch(context.Background(), in, d); err != nil {
		t.Fatal(err)
	}
	if _, _, cleanup, err = oci.Tree(context.Background(), again.Store, in); err != nil {
		t.Error(err)
	}
	cleanup()
}

func TestLayout(t *testing.T) {
	d := t.TempDir()
	i := ocitest.New(t, "amd64", layer(file("a", "1")))
	i.WriteLayout(t, filepath.Join(d, "image"), "v1")
	for _, ref := range []string{"image:v1", "./image:v1", "./image@" + i.Digest.String(), filepath.Join(d, "image") + ":v1"} {
		f := fetcher(t)
		f.Offline = true // a layout needs no network
		in, tr, _, cleanup, err := pull(f, ref, d, "amd64")
		if err != nil {
			t.Errorf("%s: %v", ref, err)
			continue
		}
		if got := dump(t, tr); got != "-rw-r--r-- a \"1\"\n" || in.SHA256 != i.Digest.Encoded() {
			t.Errorf("%s: %s, %s", ref, in.SHA256, got)
		}
		cleanup()
	}
	if _, err := oci.Open("./nothing:v1", d, nil); err == nil || !strings.Contains(err.Error(), "no OCI layout") {
		t.Errorf("missing layout: %v", err)
	}
}

// TestLayers is the layer specification, case by case.
func TestLayers(t *testing.T) {
	for _, tc := range []struct {
		name   string
		layers []ocitest.Layer
		want   string
	}{
		{"a later layer replaces", []ocitest.Layer{layer(file("a", "1")), layer(file("a", "2"))}, `-rw-r--r-- a "2"`},
		{"whiteout of a file", []ocitest.Layer{layer(file("d/a", "1"), file("d/b", "1")), layer(file("d/.wh.a", ""))}, "drwxr-xr-x d\n-rw-r--r-- d/b \"1\""},
		{"whiteout of a directory", []ocitest.Layer{layer(file("d/e/a", "1")), layer(file("d/.wh.e", ""))}, "drwxr-xr-x d"},
		{"whiteout of what is not there", []ocitest.Layer{layer(file("a", "1")), layer(file("x/.wh.y", ""))}, `-rw-r--r-- a "1"`},
		{"whiteout and a new file of the name, in either order", []ocitest.Layer{layer(file("a/x", "1")), layer(file("a/y", "2"), file(".wh.a", ""))},
			"drwxr-xr-x a\n-rw-r--r-- a/y \"2\""},
		{"opaque directory after its new content", []ocitest.Layer{layer(file("d/a", "1"), file("e", "1")), layer(dir("d"), file("d/b", "2"), file("d/.wh..wh..opq", ""))},
			"drwxr-xr-x d\n-rw-r--r-- d/b \"2\"\n-rw-r--r-- e \"1\""},
		{"bookkeeping of AUFS", []ocitest.Layer{layer(file("a", "1"), file(".wh..wh.plnk", "x"))}, `-rw-r--r-- a "1"`},
		{"a hard link outlives the whiteout of its first name", []ocitest.Layer{layer(file("a", "1"), link("b", "a")), layer(file(".wh.a", ""))}, `-rw-r--r-- b "1"`},
		{"a hard link to a lower layer", []ocitest.Layer{layer(file("a", "1")), layer(link("b", "a"))}, "-rw-r--r-- a \"1\"\n-rw-r--r-- b = a"},
		{"a path through a link of a lower layer", []ocitest.Layer{layer(dir("usr/lib"), symlink("lib", "usr/lib")), layer(file("lib/x", "1"))},
			"Lrwxrwxrwx lib -> usr/lib\ndrwxr-xr-x usr\ndrwxr-xr-x usr/lib\n-rw-r--r-- usr/lib/x \"1\""},
		{"whiteout through a link", []ocitest.Layer{layer(file("usr/lib/x", "1"), symlink("lib", "usr/lib")), layer(file("lib/.wh.x", ""))},
			"Lrwxrwxrwx lib -> usr/lib\ndrwxr-xr-x usr\ndrwxr-xr-x usr/lib"},
		{"a file becomes a directory", []ocitest.Layer{layer(file("a", "1")), layer(dir("a"), file("a/b", "2"))}, "drwxr-xr-x a\n-rw-r--r-- a/b \"2\""},
		{"no layer", nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := t.TempDir()
			ocitest.New(t, "amd64", tc.layers...).WriteLayout(t, d, "v1")
			_, tr, _, cleanup, err := pull(fetcher(t), d+":v1", "", "amd64")
			if err != nil {
				t.Fatal(err)
			}
			defer cleanup()
			if got := strings.TrimSuffix(dump(t, tr), "\n"); got != tc.want {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	for _, tc := range []struct {
		name  string
		image func(t *testing.T) *ocitest.Image
		says  string
	}{
		{"path that leaves the root", func(t *testing.T) *ocitest.Image { return ocitest.New(t, "amd64", layer(file("../a", ""))) }, `".."`},
		{"whiteout of the parent", func(t *testing.T) *ocitest.Image { return ocitest.New(t, "amd64", layer(file("d/.wh...", ""))) }, "whiteout of no name"},
		{"image for another architecture", func(t *testing.T) *ocitest.Image { return ocitest.New(t, "arm64", layer(file("a", ""))) }, "it is for linux/arm64"},
		{"layer whose content is another", func(t *testing.T) *ocitest.Image { return swapDiffID(t) }, "decompressed content: expected sha256 0000"},
		{"config that is none", func(t *testing.T) *ocitest.Image {
			i := ocitest.New(t, "amd64", layer(file("a", "")))
			return edit(t, i, func(m *ocispec.Manifest) { m.Config.MediaType = "application/vnd.oci.empty.v1+json" })
		}, "no container image"},
		{"encrypted layer", func(t *testing.T) *ocitest.Image {
			i := ocitest.New(t, "amd64", layer(file("a", "")))
			return edit(t, i, func(m *ocispec.Manifest) { m.Layers[0].MediaType += "+encrypted" })
		}, "not a tar archive"},
		{"layer outside the registry", func(t *testing.T) *ocitest.Image {
			i := ocitest.New(t, "amd64", layer(file("a", "")))
			return edit(t, i, func(m *ocispec.Manifest) { m.Layers[0].URLs = []string{"http://example.com"} })
		}, "outside the registry"},
		{"digest that is no sha256", func(t *testing.T) *ocitest.Image {
			i := ocitest.New(t, "amd64", layer(file("a", "")))
			return edit(t, i, func(m *ocispec.Manifest) { m.Layers[0].Digest = "md5:0" })
		}, "not a sha256"},
		{"fewer layers than the config says", func(t *testing.T) *ocitest.Image {
			i := ocitest.New(t, "amd64", layer(file("a", "")))
			return edit(t, i, func(m *ocispec.Manifest) { m.Layers = nil })
		}, "1 diff ids for 0 layers"},
		{"huge layer", func(t *testing.T) *ocitest.Image {
			i := ocitest.New(t, "amd64", layer(file("a", "")))
			return edit(t, i, func(m *ocispec.Manifest) { m.Layers[0].Size = oci.MaxLayer + 1 })
		}, "the limit is"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := t.TempDir()
			tc.image(t).WriteLayout(t, d, "v1")
			_, _, _, cleanup, err := pull(fetcher(t), d+":v1", "", "amd64")
			cleanup()
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, want it to say %q", err, tc.says)
			}
		})
	}
}

// edit changes an image's manifest and makes it consistent again.
func edit(t *testing.T, i *ocitest.Image, fn func(*ocispec.Manifest)) *ocitest.Image {
	t.Helper()
	var m ocispec.Manifest
	if err := json.Unmarshal(i.Blobs[i.Digest], &m); err != nil {
		t.Fatal(err)
	}
	fn(&m)
	i.SetManifest(t, m)
	return i
}

// swapDiffID makes the config promise another content of the layer.
func swapDiffID(t *testing.T) *ocitest.Image {
	t.Helper()
	i := ocitest.New(t, "amd64", layer(file("a", "")))
	return edit(t, i, func(m *ocispec.Manifest) {
		var c ocispec.Image
		if err := json.Unmarshal(i.Blobs[m.Config.Digest], &c); err != nil {
			t.Fatal(err)
		}
		c.RootFS.DiffIDs[0] = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
		m.Config = i.AddConfig(t, c)
	})
}
