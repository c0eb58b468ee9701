package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/internal/source/tarball"
	"github.com/ingot-os/ingot/internal/source/unpack"
	"github.com/ingot-os/ingot/partition/tree"
)

// Store holds the blobs of fetched images by their sha256 in hex, and takes
// decompressed layers; *source.Store is one.
type Store interface {
	Open(sha string) (*os.File, error)
	// PutAs stores what r gives under its digest sha; nothing is kept of other content.
	PutAs(sha string, r io.Reader) error
}

// Config is how an image wants to be started.
type Config struct {
	Entrypoint []string `json:"entrypoint,omitempty"`
	Cmd        []string `json:"cmd,omitempty"`
	Env        []string `json:"env,omitempty"` // NAME=value
	WorkingDir string   `json:"workingDir,omitempty"`
	User       string   `json:"user,omitempty"`
}

// Tree lays the layers of a fetched image over each other. Every blob must be
// in the store; decompressed layers are put there too, under the digests that
// the image's config states for them. cleanup closes them and must be called
// after the last read.
func Tree(ctx context.Context, s Store, in lock.Input) (t *tree.Tree, c Config, cleanup func(), err error) {
	var open openFiles
	t, c, err = open.read(ctx, s, in)
	if err != nil {
		open.close()
		return nil, Config{}, func() {}, fmt.Errorf("read image %s: %w", in.Path, err)
	}
	return t, c, open.close, nil
}

// openFiles are the decompressed layers that a tree reads from.
type openFiles []*os.File

func (o *openFiles) close() {
	for _, f := range *o {
		f.Close()
	}
}

func (o *openFiles) read(ctx context.Context, s Store, in lock.Input) (*tree.Tree, Config, error) {
	image, err := readConfig(s, in)
	if err != nil {
		return nil, Config{}, err
	}
	files := &tarball.FS{}
	for i, l := range in.Blobs[1:] {
		if err := ctx.Err(); err != nil {
			return nil, Config{}, err
		}
		f, err := plainLayer(s, l, image.RootFS.DiffIDs[i].Encoded())
		if err == nil {
			*o = append(*o, f)
			err = applyFile(files, f, in.Name+"@"+l.SHA256)
		}
		if err != nil {
			return nil, Config{}, fmt.Errorf("layer %d: %w", i+1, err)
		}
	}
	t, err := files.Tree()
	k := image.Config
	return t, Config{k.Entrypoint, k.Cmd, k.Env, k.WorkingDir, k.User}, err
}

// readConfig reads manifest and config and checks that they are what is locked.
func readConfig(s Store, in lock.Input) (*ocispec.Image, error) {
	b, err := readBlob(s, in.SHA256)
	if err != nil {
		return nil, err
	}
	blobs, err := parseManifest(b)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(blobs, in.Blobs) {
		return nil, errors.New("the manifest lists other blobs than the lock")
	}
	if b, err = readBlob(s, blobs[0].SHA256); err != nil {
		return nil, err
	}
	var image ocispec.Image
	if err := json.Unmarshal(b, &image); err != nil {
		return nil, fmt.Errorf("parse config: %w", err)
	}
	if n := len(image.RootFS.DiffIDs); n != len(blobs)-1 {
		return nil, fmt.Errorf("parse config: %d diff ids for %d layers", n, len(blobs)-1)
	}
	for _, d := range image.RootFS.DiffIDs {
		if err := d.Validate(); err != nil {
			return nil, fmt.Errorf("parse config: diff id %q: %w", d, err)
		}
	}
	if image.OS != "linux" || in.Arch != "" && image.Architecture != in.Arch {
		return nil, fmt.Errorf("it is for %s/%s, not linux/%s", image.OS, image.Architecture, in.Arch)
	}
	return &image, nil
}

func readBlob(s Store, sha string) ([]byte, error) {
	f, err := s.Open(sha)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxManifest+1))
	if err == nil && len(b) > MaxManifest {
		err = fmt.Errorf("blob %s: more than %d bytes", sha, MaxManifest)
	}
	return b, err
}

// plainLayer returns a layer decompressed. Its digest is in the config, so a
// second build finds it in the store.
func plainLayer(s Store, l lock.Blob, diffID string) (*os.File, error) {
	if f, err := s.Open(diffID); err == nil {
		return f, nil
	}
	f, err := s.Open(l.SHA256)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := unpack.Auto(f)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if err := s.PutAs(diffID, io.LimitReader(r, tarball.MaxBytes)); err != nil {
		return nil, fmt.Errorf("decompressed content: %w", err)
	}
	return s.Open(diffID)
}

func applyFile(files *tarball.FS, f *os.File, origin string) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return apply(files, f, info.Size(), origin)
}

// The whiteouts of the OCI image layer specification ("Whiteouts"): an empty
// file that hides a name of the layers below, and one that hides all of a
// directory. Names with the second prefix are AUFS's own bookkeeping.
const (
	whiteout = ".wh."
	aufs     = ".wh..wh."
	opaque   = ".wh..wh..opq"
)

// apply lays one layer over files, which keep its name as origin. Whiteouts come first, because they act on
// the layers below only, wherever they stand in the archive.
func apply(files *tarball.FS, r io.ReaderAt, size int64, origin string) error {
	entries, err := tarball.Index(r, size, tarball.Options{Devices: true})
	if err != nil {
		return err
	}
	for _, n := range entries {
		if err := hide(files, n.Path); err != nil {
			return err
		}
	}
	for _, n := range entries {
		if strings.HasPrefix(path.Base(n.Path), whiteout) {
			continue
		}
		n.Origin = origin
		if err := files.Put(n); err != nil {
			return err
		}
	}
	return nil
}

func hide(files *tarball.FS, name string) error {
	dir, base := path.Dir(name), path.Base(name)
	switch {
	case base == opaque:
		files.Clear(dir)
	case strings.HasPrefix(base, aufs):
	case strings.HasPrefix(base, whiteout):
		hidden := strings.TrimPrefix(base, whiteout)
		if hidden == "" || hidden == "." || hidden == ".." {
			return &tarball.EntryError{Name: name, Msg: "whiteout of no name"}
		}
		files.Remove(path.Join(dir, hidden))
	}
	return nil
}
