// Package tarball turns tar archives into trees, for packages, container
// layers and root payloads. It reads what archive/tar reads (ustar, PAX and
// GNU) and refuses what has no place in a tree: absolute paths, "..", sparse
// files, and device nodes unless they are allowed.
//
// Walk streams an archive of any kind of reader once. A FS collects archives
// that lie in a seekable file, one over the other, and gives a tree.Tree whose
// contents are sections of those files.
package tarball

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/ingot-os/ingot/partition/tree"
)

// Bounds of what is accepted. They are generous: a full desktop has some
// 500,000 files.
const (
	MaxEntries = 1 << 20
	MaxName    = 4096     // bytes, PATH_MAX
	MaxXattrs  = 64 << 10 // bytes of names and values per entry
	MaxBytes   = 64 << 30 // content of all entries
	maxElement = 255      // bytes, NAME_MAX
)

// EntryError names the entry that is refused.
type EntryError struct {
	Name string // as in the archive
	Msg  string
}

// Error implements error.
func (e *EntryError) Error() string { return fmt.Sprintf("tar entry %q: %s", e.Name, e.Msg) }

// Options says what an archive may hold.
type Options struct {
	Devices bool // device nodes and pipes
}

// Walk calls fn for every entry in the order of the archive. The node has a
// clean relative path, mode, owner, link targets and xattrs, but no Content:
// the content of a regular file is read from r, before fn returns. The root
// entry "./" is passed on as ".". fn may return fs.SkipAll to stop.
func Walk(r io.Reader, o Options, fn func(n *tree.Node, r io.Reader) error) error {
	return walk(r, o, func(_ *tar.Header, n *tree.Node, r io.Reader) error { return fn(n, r) })
}

func walk(r io.Reader, o Options, fn func(*tar.Header, *tree.Node, io.Reader) error) error {
	in := tar.NewReader(r)
	var entries, total int64
	for {
		h, err := in.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read tar: entry %d: %w", entries, err)
		}
		entries++
		total += max(0, h.Size)
		if entries > MaxEntries || total > MaxBytes {
			return fmt.Errorf("read tar: more than %d entries or %d bytes", MaxEntries, int64(MaxBytes))
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		n, err := node(h, o)
		if err == nil {
			err = fn(h, n, in)
		}
		if errors.Is(err, fs.SkipAll) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// node checks a header and translates it.
func node(h *tar.Header, o Options) (*tree.Node, error) {
	name, err := cleanPath(h.Name)
	if err != nil {
		return nil, &EntryError{h.Name, err.Error()}
	}
	n := &tree.Node{Path: name, Mode: permissions(h.Mode)}
	if msg := setOwner(n, h); msg != "" {
		return nil, &EntryError{h.Name, msg}
	}
	switch h.Typeflag {
	case tar.TypeReg:
	case tar.TypeDir:
		n.Mode |= fs.ModeDir
	case tar.TypeSymlink:
		n.Target = h.Linkname
		n.Mode = fs.ModeSymlink | 0o777
		err = checkTarget(h.Linkname)
	case tar.TypeLink:
		n.Link, err = cleanPath(h.Linkname)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		err = setDevice(n, h, o)
	default:
		err = fmt.Errorf("type %q is not supported", h.Typeflag)
	}
	if err == nil {
		err = setExtras(n, h)
	}
	if err != nil {
		return nil, &EntryError{h.Name, err.Error()}
	}
	return n, nil
}

// permissions translates the mode field; its type bits are ignored, the type
// flag says what an entry is.
func permissions(mode int64) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	for _, b := range []struct {
		bit  int64
		mode fs.FileMode
	}{{0o4000, fs.ModeSetuid}, {0o2000, fs.ModeSetgid}, {0o1000, fs.ModeSticky}} {
		if mode&b.bit != 0 {
			m |= b.mode
		}
	}
	return m
}

func setDevice(n *tree.Node, h *tar.Header, o Options) error {
	if !o.Devices {
		return errors.New("device nodes and pipes are refused")
	}
	const maxNumber = 1<<20 - 1 // the kernel's MINORBITS
	if h.Devmajor < 0 || h.Devmajor > maxNumber || h.Devminor < 0 || h.Devminor > maxNumber {
		return fmt.Errorf("device %d:%d", h.Devmajor, h.Devminor)
	}
	n.Major, n.Minor = uint32(h.Devmajor), uint32(h.Devminor)
	switch h.Typeflag {
	case tar.TypeChar:
		n.Mode |= fs.ModeDevice | fs.ModeCharDevice
	case tar.TypeBlock:
		n.Mode |= fs.ModeDevice
	default:
		n.Mode |= fs.ModeNamedPipe
	}
	return nil
}

func setOwner(n *tree.Node, h *tar.Header) string {
	const maxID = 1<<32 - 2 // -1 means "no change" to chown(2)
	if h.Uid < 0 || h.Uid > maxID || h.Gid < 0 || h.Gid > maxID {
		return fmt.Sprintf("owner %d:%d", h.Uid, h.Gid)
	}
	n.UID, n.GID = uint32(h.Uid), uint32(h.Gid)
	return ""
}

func checkTarget(target string) error {
	if target == "" || len(target) > MaxName || strings.ContainsRune(target, 0) {
		return fmt.Errorf("link target %.80q", target)
	}
	return nil
}

// setExtras takes the extended attributes, and refuses sparse files, whose
// data in the archive is not their content.
func setExtras(n *tree.Node, h *tar.Header) error {
	size := 0
	for k, v := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return errors.New("sparse files are not supported; make the archive without --sparse")
		}
		name, ok := strings.CutPrefix(k, "SCHILY.xattr.")
		if !ok {
			continue
		}
		if size += len(name) + len(v); size > MaxXattrs {
			return fmt.Errorf("more than %d bytes of extended attributes", MaxXattrs)
		}
		if n.Xattrs == nil {
			n.Xattrs = map[string][]byte{}
		}
		n.Xattrs[name] = []byte(v)
	}
	return nil
}

// cleanPath accepts "a/b", "./a/b" and "a/b/", and refuses whatever could leave the tree.
func cleanPath(name string) (string, error) {
	switch {
	case name == "":
		return "", errors.New("empty name")
	case len(name) > MaxName:
		return "", fmt.Errorf("name of %d bytes", len(name))
	case strings.HasPrefix(name, "/"):
		return "", errors.New("absolute path")
	case strings.ContainsRune(name, 0):
		return "", errors.New("name with a zero byte")
	}
	for _, e := range strings.Split(name, "/") {
		if e == ".." {
			return "", errors.New(`path with ".."`)
		}
		if len(e) > maxElement {
			return "", fmt.Errorf("path element of %d bytes", len(e))
		}
	}
	return path.Clean(name), nil
}
