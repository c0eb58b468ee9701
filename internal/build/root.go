package build

import (
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/imageset"
	"github.com/ingot-os/ingot/internal/lock/local"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/sbom"
	"github.com/ingot-os/ingot/internal/source"
	"github.com/ingot-os/ingot/internal/source/oci"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/erofs"
	"github.com/ingot-os/ingot/partition/squashfs"
	"github.com/ingot-os/ingot/partition/tree"
	"github.com/ingot-os/ingot/partition/verity"
)

// rootPayload is the verity root: a filesystem, then the hash tree.
type rootPayload struct {
	format   string
	dataSize int64 // bytes of filesystem, a multiple of 4096; the verity superblock follows
	hash     string
	config   oci.Config
	content  tree.Blob // data and hash tree
	sha256   string    // of content
	files    []sbom.Content
	programs map[string]*buildinfo.BuildInfo // by SHA-256
}

func (r *rootPayload) spec() *appliance.Root {
	return &appliance.Root{
		Format: r.format, DataBlocks: uint64(r.dataSize / verity.BlockSize), HashStart: uint64(r.dataSize), RootHash: r.hash,
		Size: r.content.Size(), SHA256: r.sha256,
		Entrypoint: r.config.Entrypoint, Cmd: r.config.Cmd, Env: r.config.Env, WorkingDir: r.config.WorkingDir, User: r.config.User,
	}
}

// rootRecord is what the cache keeps of a root beside its bytes.
type rootRecord struct {
	SHA256   string     `json:"sha256"` // of the bytes
	DataSize int64      `json:"dataSize"`
	Hash     string     `json:"hash"`
	Config   oci.Config `json:"config"`
	// Files are what the payload holds; Programs is the build information of the
	// Go programs among them, by SHA-256, as text.
	Files    []sbom.Content    `json:"files"`
	Programs map[string]string `json:"programs,omitempty"`
}

// buildRoot writes the payload as squashfs or erofs with dm-verity and caches
// both the image and its record by the locked digest of the payload.
func (b *builder) buildRoot(ctx context.Context, st *Step) error {
	r := b.o.Recipe.Root
	if r == nil {
		return nil
	}
	in := b.o.Lock.Find("root")
	if in == nil {
		return notLocked("root")
	}
	key := derived("root", in.SHA256, r.Format, fmt.Sprint(b.o.Lock.Epoch), b.o.Lock.Name)
	f, rec, err := b.cachedRoot(ctx, st, key)
	if err != nil {
		return err
	}
	b.root = &rootPayload{format: r.Format, dataSize: rec.DataSize, hash: rec.Hash, config: rec.Config, files: rec.Files, sha256: rec.SHA256}
	b.root.programs = map[string]*buildinfo.BuildInfo{}
	for sha, text := range rec.Programs {
		if b.root.programs[sha], err = debug.ParseBuildInfo(text); err != nil {
			return err
		}
	}
	if b.root.content, err = newFileBlob(f); err != nil {
		return err
	}
	return b.stageRoot()
}

// cachedRoot takes the payload out of the cache, or makes it. What the cache
// finds by the key is the record; the record names the bytes.
func (b *builder) cachedRoot(ctx context.Context, st *Step, key string) (*os.File, rootRecord, error) {
	store := b.o.Fetcher.Store
	if f, rec, ok := findRoot(store, key); ok {
		st.Cached, st.Out = true, rec.SHA256
		return f, rec, nil
	}
	var rec rootRecord
	sha, err := b.put(func(w *os.File) error {
		var err error
		rec, err = b.makeRoot(ctx, w)
		return err
	})
	if err != nil {
		return nil, rec, err
	}
	rec.SHA256, st.Out = sha, sha
	record, err := b.put(func(w *os.File) error { return json.NewEncoder(w).Encode(rec) })
	if err != nil {
		return nil, rec, err
	}
	if err := store.SetDerived(key, record); err != nil {
		return nil, rec, err
	}
	f, err := store.Open(sha)
	return f, rec, err
}

// findRoot looks a payload up; anything missing or damaged counts as missing.
func findRoot(store *source.Store, key string) (f *os.File, rec rootRecord, ok bool) {
	sha, ok := store.Derived(key)
	if !ok {
		return nil, rec, false
	}
	record, err := store.Open(sha)
	if err != nil {
		return nil, rec, false
	}
	defer record.Close()
	if json.NewDecoder(record).Decode(&rec) != nil {
		return nil, rec, false
	}
	f, err = store.Open(rec.SHA256)
	return f, rec, err == nil
}

// stageRoot puts the payload into the set as NAME-VERSION.root.
func (b *builder) stageRoot() error {
	f, err := os.OpenFile(b.staged(".root"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	defer f.Close()
	digest, err := writeHashed(f, blobWriter{b.root.content})
	if err != nil {
		return err
	}
	b.draft.Manifest.Files = append(b.draft.Manifest.Files, release.File{Name: b.stem() + ".root", Size: b.root.content.Size(), SHA256: digest})
	b.draft.Manifest.Root = &release.Root{Format: b.root.format, DataSize: b.root.dataSize, HashStart: b.root.dataSize, RootHash: b.root.hash}
	return f.Close()
}

// minRoot is the least that dm-verity has a hash tree for: a payload of one
// block is padded to two.
const minRoot = 2 * verity.BlockSize

func (b *builder) makeRoot(ctx context.Context, w *os.File) (rootRecord, error) {
	t, config, cleanup, err := b.rootTree(ctx)
	if err != nil {
		return rootRecord{}, err
	}
	defer cleanup()
	rec, err := recordRoot(t)
	if err != nil {
		return rec, err
	}
	size, err := b.writeRootFS(w, t)
	if err != nil {
		return rec, err
	}
	size = max(minRoot, (size+verity.BlockSize-1)/verity.BlockSize*verity.BlockSize)
	if err := w.Truncate(size); err != nil {
		return rec, err
	}
	rec.DataSize, rec.Config = size, config
	rec.Hash, err = b.appendVerity(w, size)
	return rec, err
}

// recordRoot lists what a payload holds.
func recordRoot(t *tree.Tree) (rec rootRecord, err error) {
	if rec.Files, err = imageset.Contents("root", t); err != nil {
		return rec, err
	}
	programs, err := programsIn(t)
	rec.Programs = map[string]string{}
	for sha, info := range programs {
		rec.Programs[sha] = info.String()
	}
	return rec, err
}

func (b *builder) rootTree(ctx context.Context) (*tree.Tree, oci.Config, func(), error) {
	nothing := func() {}
	r := b.o.Recipe.Root
	path, in, err := b.fetch(ctx, "root")
	if err != nil {
		return nil, oci.Config{}, nothing, err
	}
	switch {
	case r.Directory != "":
		t, err := local.Tree(path, in.Files)
		comesFrom(t, in.Name)
		return t, oci.Config{}, nothing, err
	case r.Tar != "":
		t, cleanup, err := source.TarTree(path)
		comesFrom(t, in.Name)
		return t, oci.Config{}, cleanup, err
	}
	return oci.Tree(ctx, b.o.Fetcher.Store, *in)
}

func (b *builder) writeRootFS(w *os.File, t *tree.Tree) (int64, error) {
	if b.o.Recipe.Root.Format == "erofs" {
		return erofs.Write(w, t, erofs.Options{Epoch: b.o.Lock.Epoch, CopyLinks: true})
	}
	return squashfs.Write(w, t, squashfs.Options{Epoch: b.o.Lock.Epoch, Workers: b.o.Workers})
}

// appendVerity writes the hash tree after the data. Salt and UUID derive from
// the appliance's name and the role, so they are stable and distinct.
func (b *builder) appendVerity(w *os.File, size int64) (string, error) {
	salt := sha256.Sum256([]byte("ingot verity salt\x00" + b.o.Lock.Name))
	p := verity.Params{Salt: salt[:], UUID: [16]byte(partition.GUID(b.o.Lock.Name, "verity", "root"))}
	hash, err := verity.Build(w, uint64(size/verity.BlockSize), io.NewOffsetWriter(w, size), p)
	return hex.EncodeToString(hash[:]), err
}

// comesFrom says of all files of a tree which input they are from.
func comesFrom(t *tree.Tree, input string) {
	if t == nil {
		return
	}
	for _, n := range t.Nodes() {
		n.Origin = input
	}
}

// blobWriter streams a Blob.
type blobWriter struct{ tree.Blob }

func (b blobWriter) WriteTo(w io.Writer) (int64, error) {
	r, err := b.Open()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	return io.Copy(w, r)
}

func copyFile(w io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}
