package build

import (
	"os"
	"path/filepath"

	"github.com/ingot-os/ingot/boot"
	"github.com/ingot-os/ingot/internal/imageset"
	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/internal/recipe"
	"github.com/ingot-os/ingot/internal/source"
)

// StubError is why no image can be made of the EFI stub that a lock names: it
// has two meanings, is for another machine, or nobody can tell what it measures
// (P16). nil also when the stub is not at hand; a build will look.
func StubError(store *source.Store, l *lock.Lock, r *recipe.Recipe) error {
	var in *lock.Input
	if l != nil {
		in = l.Find("stub")
	}
	f := openStub(store, in, r)
	if f == nil {
		return nil
	}
	defer f.Close()
	blob, err := newFileBlob(f)
	if err != nil {
		return nil
	}
	name, err := boot.CheckStub(blob, r.Arch)
	if err != nil {
		return err
	}
	return imageset.CheckStub(name)
}

// openStub opens the recipe's own file, or what an earlier build took out of the
// package; nil when there is none.
func openStub(store *source.Store, in *lock.Input, r *recipe.Recipe) *os.File {
	if r.Stub.File != "" {
		path := r.Stub.File
		if !filepath.IsAbs(path) {
			path = filepath.Join(r.Dir, path)
		}
		f, _ := os.Open(path)
		return f
	}
	if in == nil {
		return nil
	}
	sha, ok := store.Derived(derived("stub", in.SHA256, boot.StubPath(r.Arch)))
	if !ok {
		return nil
	}
	f, _ := store.Open(sha)
	return f
}
