// Package bootfiles has the files of releases that machines fetch to boot: the
// UKI, and the root payload of a release that has one.
//
//	store, err := bootfiles.New(bootfiles.Options{})
//	set, err := bootfiles.Of(dir, manifest)          // what a signed manifest names
//	err = store.Check(ctx, set)                      // at load: each byte
//	c, err := store.Open(ctx, set.UKI)               // a netboot.Content
//
// What is given out is the release's, byte for byte. A file is read whole before
// its first use, and its SHA-256 must be the one that the signed manifest names.
// Before each start it is looked at again: another inode, size, time of change of
// its content or of its inode, and it is read again. While it is being sent it is
// looked at after each piece, and a transfer of a file that has changed breaks
// off. So a half-copied file is not served, nor one that was changed in place
// with its times set back: nobody sets back the time of change of an inode
// without setting back the machine's clock. (Package depot does it, for
// updates too.)
//
// Limits: who runs as root on the server, or had the file mapped for writing
// before it was read, can change it unseen; pieces that went out by sendfile(2)
// are the kernel's pages until the client has them. Against those the machine
// helps itself: its firmware checks the signature of the UKI, the kernel each
// block of the root payload, and the server the quote of what was booted.
package bootfiles

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/ingot-os/ingot/internal/depot"
	"github.com/ingot-os/ingot/internal/release"
)

// ErrManifest: the manifest does not name a file that every release has.
var ErrManifest = errors.New("the manifest does not name it")

// File is a file of a release, as its manifest names it.
type File struct {
	Path   string `json:"path"`
	Name   string `json:"name"` // in the set: NAME-VERSION.efi
	Size   int64  `json:"size"` // bytes
	SHA256 string `json:"sha256"`
}

// Set is what is served of a release.
type Set struct {
	UKI  File  `json:"uki"`
	Root *File `json:"root,omitempty"` // nil: it has no root payload
	// RootHash is the root of the hash tree of Root, which the UKI's command line
	// carries; "" without one.
	RootHash string `json:"rootHash,omitempty"`
}

// Of gives what a manifest names. Whether the manifest is to be believed is for
// the caller to know; nothing is read.
func Of(dir string, m *release.Manifest) (Set, error) {
	uki := named(dir, m, m.Stem()+ukiSuffix)
	if uki == nil {
		return Set{}, fmt.Errorf("find %s: %w", m.Stem()+ukiSuffix, ErrManifest)
	}
	s := Set{UKI: *uki}
	if m.Root == nil {
		return s, nil
	}
	if s.Root = named(dir, m, m.Stem()+rootSuffix); s.Root == nil {
		return Set{}, fmt.Errorf("find %s: %w", m.Stem()+rootSuffix, ErrManifest)
	}
	s.RootHash = m.Root.RootHash
	return s, nil
}

// Suffixes are those of the names of files that Of may find in a set.
var Suffixes = []string{ukiSuffix, rootSuffix}

const ukiSuffix, rootSuffix = ".efi", ".root"

func named(dir string, m *release.Manifest, name string) *File {
	i := slices.IndexFunc(m.Files, func(f release.File) bool { return f.Name == name })
	if i < 0 || !filepath.IsLocal(name) || filepath.Base(name) != name {
		return nil
	}
	f := m.Files[i]
	return &File{Path: filepath.Join(dir, name), Name: name, Size: f.Size, SHA256: f.SHA256}
}

// Files are those of the set.
func (s Set) Files() []File {
	if s.Root == nil {
		return []File{s.UKI}
	}
	return []File{s.UKI, *s.Root}
}

// Options are what a store is made of.
type Options struct {
	// Checks is how many files are read at once to be checked; 0 is two.
	Checks int
}

// Store opens files of releases. Its methods may be called concurrently.
type Store struct{ depot *depot.Depot }

// New makes a store.
func New(o Options) (*Store, error) {
	if o.Checks <= 0 {
		o.Checks = 2
	}
	d, err := depot.New(depot.Options{Checks: o.Checks})
	if err != nil {
		return nil, fmt.Errorf("open boot files: %w", err)
	}
	return &Store{depot: d}, nil
}

// Check reads the files of a release that have not been read as they are now. The
// error wraps depot.ErrDiffers for a file that is not the manifest's.
func (s *Store) Check(ctx context.Context, set Set) error {
	for _, f := range set.Files() {
		c, err := s.Open(ctx, f)
		if err != nil {
			return err
		}
		if err := c.Close(); err != nil {
			return err
		}
	}
	return nil
}

// Open gives a file after it was checked: at once when it was before and has not
// changed. The error wraps depot.ErrDiffers, or depot.ErrChanged for one that is
// being written; neither is for a client to read.
func (s *Store) Open(ctx context.Context, f File) (*Content, error) {
	o, err := s.depot.Open(ctx, depot.Part{Path: f.Path, Size: f.Size, SHA256: f.SHA256})
	if err != nil {
		return nil, err
	}
	return &Content{o: o, file: f}, nil
}

// Retain closes all files but those of these sets, after a change of the
// releases. Who reads one reads it to the end.
func (s *Store) Retain(sets []Set) {
	paths := map[string]bool{}
	for _, set := range sets {
		for _, f := range set.Files() {
			paths[f.Path] = true
		}
	}
	s.depot.Retain(paths)
}

// Content is a checked file that is being served: a netboot.Content, with the two
// more that package httpboot asks for (Digest and File). Who gives it on with a
// Begin of its own embeds it, so that these stay.
type Content struct {
	o    *depot.Opened
	file File

	mu     sync.Mutex
	own    *os.File
	closed bool
}

// ReadAt implements io.ReaderAt. The error wraps depot.ErrChanged when the file is
// not the checked one any more; then nothing was read.
func (c *Content) ReadAt(b []byte, off int64) (int, error) { return c.o.ReadAt(b, off) }

// Size is that of the file, in bytes.
func (c *Content) Size() int64 { return c.file.Size }

// Begin says no when the file has changed since it was opened.
func (c *Content) Begin() error { return c.o.Same() }

// Same says whether the file is the one that was checked, still.
func (c *Content) Same() error { return c.o.Same() }

// Digest is the SHA-256 of the file, in hex.
func (c *Content) Digest() string { return c.file.SHA256 }

// File is the file with a position of its own, for sendfile(2): what was sent of
// it counts when Same has no error afterwards. It is closed with the Content. Nil
// when it cannot be opened as it was checked; ReadAt says why.
func (c *Content) File() *os.File {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.own == nil && !c.closed {
		c.own, _ = c.o.File()
	}
	return c.own
}

// Close ends the use of the file. Only the first call does something.
func (c *Content) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	c.o.Close()
	if c.own == nil {
		return nil
	}
	own := c.own
	c.own = nil
	return own.Close()
}
