// Package oci reads container images (OCI image specification 1.1, and the
// Docker schema 2 manifests that registries still hold) from a registry or from
// an OCI image layout on disk.
//
// Open finds where a reference leads, Resolve pins it to the manifest of one
// platform, Fetch reads any of its blobs. What is read is checked by whoever
// stores it: a blob's digest is its name. Tree then lays the stored layers over
// each other.
//
//	o, err := oci.Open(ref, recipeDir, client)
//	manifest, err := o.Resolve(ctx, "amd64")
//
// Registries on the loopback interface are spoken to by plain HTTP, all others
// by HTTPS. Credentials come from Docker's config.json and its helpers.
package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	layout "oras.land/oras-go/v2/content/oci"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/retry"

	"github.com/ingot-os/ingot/internal/lock"
)

// Bounds of an image.
const (
	MaxManifest = 4 << 20  // bytes of a manifest, index or config
	MaxLayer    = 16 << 30 // bytes of a layer, compressed
	MaxLayers   = 500
)

// The media types that are understood beside those of OCI.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
)

// Origin is where one image comes from.
type Origin struct {
	target oras.ReadOnlyTarget
	ref    string // tag or digest within target
	text   string // as the recipe has it
	remote bool
}

// Remote tells a registry from a layout on disk.
func (o *Origin) Remote() bool { return o.remote }

// Open interprets a reference: "registry/name:tag", "registry/name@sha256:...",
// or an OCI layout directory, absolute or below dir, followed by ":tag" or
// "@sha256:...". It is a layout when the directory has a file oci-layout. The
// network is not used yet. client may be nil.
func Open(ref, dir string, client *http.Client) (*Origin, error) {
	place, tag := split(ref)
	path := place
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, filepath.FromSlash(path))
	}
	if _, err := os.Stat(filepath.Join(path, ocispec.ImageLayoutFile)); err == nil {
		return openLayout(path, tag, ref)
	}
	if strings.HasPrefix(place, ".") || filepath.IsAbs(place) {
		return nil, fmt.Errorf("open image %s: %s has no file %s, so it is no OCI layout", ref, path, ocispec.ImageLayoutFile)
	}
	return openRegistry(ref, client)
}

// split cuts "place@digest" or "place:tag"; a colon before a slash is a port.
func split(ref string) (place, tag string) {
	if place, tag, ok := strings.Cut(ref, "@"); ok {
		return place, tag
	}
	if i := strings.LastIndexByte(ref, ':'); i > strings.LastIndexByte(ref, '/') {
		return ref[:i], ref[i+1:]
	}
	return ref, ""
}

func openLayout(path, tag, text string) (*Origin, error) {
	if tag == "" {
		tag = "latest"
	}
	s, err := layout.NewFromFS(context.Background(), os.DirFS(path))
	if err != nil {
		return nil, fmt.Errorf("open image layout %s: %w", path, err)
	}
	return &Origin{target: s, ref: tag, text: text}, nil
}

func openRegistry(ref string, client *http.Client) (*Origin, error) {
	repo, err := remote.NewRepository(ref)
	if err != nil {
		return nil, fmt.Errorf("open image %s: %w", ref, err)
	}
	repo.PlainHTTP = loopback(repo.Reference.Registry)
	store, err := credentials.NewStoreFromDocker(credentials.StoreOptions{})
	if err != nil {
		return nil, fmt.Errorf("open image %s: read Docker credentials: %w", ref, err)
	}
	if client == nil {
		client = http.DefaultClient
	}
	retrying := *client
	retrying.Transport = retry.NewTransport(client.Transport)
	repo.Client = &auth.Client{
		Client: &retrying, Cache: auth.NewCache(), Credential: credentials.Credential(store),
		Header: http.Header{"User-Agent": {"ingot"}},
	}
	return &Origin{target: repo, ref: repo.Reference.ReferenceOrDefault(), text: ref, remote: true}, nil
}

func loopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Manifest is a resolved image: the manifest's own bytes and what they list.
type Manifest struct {
	Bytes []byte
	Input lock.Input // without a name
}

// Resolve pins the image for linux on arch (amd64, arm64). An index is
// searched for that platform; a single manifest is taken as it is, and Tree
// refuses it when its config is for another.
func (o *Origin) Resolve(ctx context.Context, arch string) (*Manifest, error) {
	d, err := o.target.Resolve(ctx, o.ref)
	if err != nil {
		return nil, fmt.Errorf("resolve image %s: %w", o.text, err)
	}
	b, err := o.manifest(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("resolve image %s: %w", o.text, err)
	}
	if d.MediaType == ocispec.MediaTypeImageIndex || d.MediaType == dockerList {
		if d, err = pick(b, arch); err == nil {
			b, err = o.manifest(ctx, d)
		}
		if err != nil {
			return nil, fmt.Errorf("resolve image %s: %w", o.text, err)
		}
	}
	blobs, err := parseManifest(b)
	if err != nil {
		return nil, fmt.Errorf("resolve image %s: %w", o.text, err)
	}
	return &Manifest{b, lock.Input{
		Kind: lock.KindOCI, SHA256: d.Digest.Encoded(), Size: d.Size, Path: o.text, Blobs: blobs,
	}}, nil
}

// manifest reads a manifest or index and checks its digest.
func (o *Origin) manifest(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	if d.Digest.Algorithm() != digest.SHA256 {
		return nil, fmt.Errorf("digest %s: only sha256 is supported", d.Digest)
	}
	if d.Size > MaxManifest {
		return nil, fmt.Errorf("manifest of %d bytes, the limit is %d", d.Size, MaxManifest)
	}
	r, err := o.target.Fetch(ctx, d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, MaxManifest+1))
	if err != nil {
		return nil, err
	}
	if got := digest.FromBytes(b); got != d.Digest {
		return nil, fmt.Errorf("manifest: expected %s, got %s", d.Digest, got)
	}
	return b, nil
}

// pick finds linux/arch in an index; the first match wins, as in containerd.
func pick(b []byte, arch string) (ocispec.Descriptor, error) {
	var index ocispec.Index
	if err := json.Unmarshal(b, &index); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("parse index: %w", err)
	}
	var have []string
	for _, m := range index.Manifests {
		p := m.Platform
		if p == nil {
			continue
		}
		if p.OS == "linux" && p.Architecture == arch && (p.Variant == "" || arch == "arm64" && p.Variant == "v8") {
			return m, nil
		}
		have = append(have, strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/"))
	}
	return ocispec.Descriptor{}, fmt.Errorf("the index has no image for linux/%s, only %s", arch, strings.Join(have, ", "))
}

// parseManifest lists config and layers in order.
func parseManifest(b []byte) ([]lock.Blob, error) {
	var m ocispec.Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("parse manifest: %w", err)
	}
	if m.Config.MediaType != ocispec.MediaTypeImageConfig && m.Config.MediaType != dockerConfig {
		return nil, fmt.Errorf("parse manifest: config is %q, so it is no container image", m.Config.MediaType)
	}
	if len(m.Layers) > MaxLayers {
		return nil, fmt.Errorf("parse manifest: %d layers, the limit is %d", len(m.Layers), MaxLayers)
	}
	var blobs []lock.Blob
	for _, d := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
		if err := d.Digest.Validate(); err != nil || d.Digest.Algorithm() != digest.SHA256 {
			return nil, fmt.Errorf("parse manifest: digest %q: not a sha256", d.Digest)
		}
		if d.Size < 0 || d.Size > MaxLayer {
			return nil, fmt.Errorf("parse manifest: blob %s of %d bytes, the limit is %d", d.Digest, d.Size, int64(MaxLayer))
		}
		if len(d.URLs) > 0 {
			return nil, errors.New("parse manifest: layers that lie outside the registry are not supported")
		}
		blobs = append(blobs, lock.Blob{MediaType: d.MediaType, SHA256: d.Digest.Encoded(), Size: d.Size})
	}
	for _, l := range blobs[1:] {
		if !strings.Contains(l.MediaType, "tar") || strings.Contains(l.MediaType, "encrypted") {
			return nil, fmt.Errorf("parse manifest: layer %.12s is %q, not a tar archive", l.SHA256, l.MediaType)
		}
	}
	return blobs, nil
}

// Fetch reads one blob, the manifest included, unchecked.
func (o *Origin) Fetch(ctx context.Context, b lock.Blob) (io.ReadCloser, error) {
	return o.target.Fetch(ctx, ocispec.Descriptor{
		MediaType: b.MediaType, Digest: digest.NewDigestFromEncoded(digest.SHA256, b.SHA256), Size: b.Size,
	})
}

// ManifestBlob is the manifest of a locked image as a Blob to Fetch.
func ManifestBlob(in lock.Input) lock.Blob {
	return lock.Blob{MediaType: ocispec.MediaTypeImageManifest, SHA256: in.SHA256, Size: in.Size}
}
