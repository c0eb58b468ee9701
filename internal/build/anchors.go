package build

import (
	"io"
	"path"
	"path/filepath"
	"strings"

	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/internal/lock/local"
)

// anchors are the public keys that the recipe names, as the lock pins them; nil
// when it names none.
func (b *builder) anchors() (*appliance.Trust, error) {
	if b.o.Recipe.Trust == nil {
		return nil, nil
	}
	a, err := b.o.Recipe.ReadTrust(b.readKey)
	if err != nil {
		return nil, err
	}
	return a.Spec(), nil
}

// readKey reads a file of keys. It is compared with the lock as it is read: a
// key that was exchanged since then must not get into an image.
func (b *builder) readKey(name string) ([]byte, error) {
	in, sha, file := b.o.Lock.Find("trust"), "", ""
	if in != nil && in.Kind == lock.KindDir {
		sha, file = in.Files[name], filepath.Join(in.Path, filepath.FromSlash(name))
	} else if in = b.o.Lock.Find("trust/" + path.Clean(name)); in != nil {
		sha, file = in.SHA256, filepath.FromSlash(in.Path)
	} else {
		return nil, notLocked("trust/" + path.Clean(name))
	}
	if !filepath.IsAbs(file) {
		file = filepath.Join(b.o.Recipe.Dir, file)
	}
	sha, _, _ = strings.Cut(sha, " ") // a mode may follow
	blob, err := local.File(file, sha)
	if err != nil {
		return nil, err
	}
	r, err := blob.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}
