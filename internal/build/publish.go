package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/partition/tree"
)

func (b *builder) describeContents() error {
	for _, n := range b.rootfs.Nodes() {
		e, err := entry(n)
		if err != nil {
			return err
		}
		b.draft.Manifest.Contents = append(b.draft.Manifest.Contents, e)
	}
	return nil
}

func entry(n *tree.Node) (release.Entry, error) {
	e := release.Entry{Path: n.Path, Mode: fmt.Sprintf("%06o", unixMode(n.Mode)), Target: n.Target}
	if n.UID != 0 || n.GID != 0 {
		e.Owner = fmt.Sprintf("%d:%d", n.UID, n.GID)
	}
	if !n.Mode.IsRegular() {
		return e, nil
	}
	e.Size, e.Target = n.Size(), n.Link
	if n.Content == nil {
		n.Content = tree.Bytes(nil)
	}
	var err error
	e.SHA256, err = blobDigest(n.Content)
	return e, err
}

// unixMode is st_mode of <sys/stat.h>.
func unixMode(m fs.FileMode) uint32 {
	mode := uint32(m.Perm())
	for bit, v := range map[fs.FileMode]uint32{
		fs.ModeSetuid: syscall.S_ISUID, fs.ModeSetgid: syscall.S_ISGID, fs.ModeSticky: syscall.S_ISVTX,
	} {
		if m&bit != 0 {
			mode |= v
		}
	}
	switch {
	case m.IsDir():
		return mode | syscall.S_IFDIR
	case m&fs.ModeSymlink != 0:
		return mode | syscall.S_IFLNK
	}
	return mode | syscall.S_IFREG
}

// publish gives the finished directory its final name.
func (b *builder) publish() (*release.Set, error) {
	b.remember()
	if err := b.stage.Publish(b.final()); err != nil {
		return nil, fmt.Errorf("publish image set: %w", err)
	}
	return release.Open(b.final())
}

// seal says which files a set had when it was published: name, size,
// modification time and inode. A file touched since is seen without reading
// it. It lives in the cache, never in the set.
type seal struct {
	Build string          `json:"build"`
	Form  string          `json:"form"` // what Options say beside the lock
	Tool  string          `json:"tool"` // that built it
	Files map[string]mark `json:"files"`
}

type mark struct {
	Size  int64  `json:"size"`
	Mtime int64  `json:"mtime"` // ns
	Inode uint64 `json:"inode"`
}

func (b *builder) sealOf(dir string) (seal, error) {
	s := seal{Build: b.key, Form: fmt.Sprint(b.o.Identity, b.o.SPDX), Tool: toolDigest(), Files: map[string]mark{}}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return s, err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return s, err
		}
		st := info.Sys().(*syscall.Stat_t)
		s.Files[e.Name()] = mark{info.Size(), info.ModTime().UnixNano(), st.Ino}
	}
	return s, nil
}

func (b *builder) sealPath() (string, error) {
	abs, err := filepath.Abs(b.final())
	return filepath.Join(b.o.Fetcher.Store.Dir, "sets", setName(abs)), err
}

func setName(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return hex.EncodeToString(sum[:])
}

// remember writes the seal. Without one the next build does all its steps, so
// a cache that cannot be written is no reason to fail.
func (b *builder) remember() {
	s, err := b.sealOf(b.stage.Dir)
	if err != nil {
		return
	}
	data, err := json.Marshal(s)
	if err != nil {
		return
	}
	path, err := b.sealPath()
	if err != nil || os.MkdirAll(filepath.Dir(path), 0o777) != nil {
		return
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tmp-")
	if err != nil {
		return
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if tmp.Close() == nil && err == nil {
		os.Rename(tmp.Name(), path)
	}
}

// upToDate returns the set under the final name when it is exactly what an
// earlier build of this lock published, and the local inputs still match.
func (b *builder) upToDate() *release.Set {
	path, err := b.sealPath()
	if err != nil {
		return nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var was seal
	if json.Unmarshal(data, &was) != nil || was.Build != b.key {
		return nil
	}
	is, err := b.sealOf(b.final())
	if err != nil || fmt.Sprint(is) != fmt.Sprint(was) || b.checkInputs(context.Background(), nil) != nil {
		return nil
	}
	set, err := release.Open(b.final())
	if err != nil {
		return nil
	}
	return set
}
