// Package deb reads Debian binary packages, format 2.0 (deb(5)): an ar archive
// of debian-binary, control.tar and data.tar, the latter two plain or
// compressed by gzip, xz or zstd. Maintainer scripts are never run: ingot takes
// files out of packages and nothing else.
//
// Paths come as in the package without "./": "boot/vmlinuz-6.12...". Absolute
// paths, ".." and device nodes are refused.
package deb

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ingot-os/ingot/internal/source/tarball"
	"github.com/ingot-os/ingot/internal/source/unpack"
	"github.com/ingot-os/ingot/partition/tree"
)

// Package is an open .deb.
type Package struct {
	// Control holds the fields of the control file: Package, Version,
	// Architecture, Depends ... Continuation lines are joined by line breaks.
	Control map[string]string

	data member
}

// maxControl bounds the control file in bytes.
const maxControl = 1 << 20

// Open reads the structure and the control file of a package of size bytes.
func Open(r io.ReaderAt, size int64) (*Package, error) {
	members, err := readAr(r, size)
	if err != nil {
		return nil, err
	}
	if len(members) == 0 || members[0].name != "debian-binary" {
		return nil, errors.New("read deb: first member is not debian-binary")
	}
	if err := checkVersion(members[0]); err != nil {
		return nil, err
	}
	control, data := find(members, "control.tar"), find(members, "data.tar")
	if control == nil || data == nil {
		return nil, errors.New("read deb: control.tar or data.tar is missing")
	}
	p := &Package{data: *data}
	if p.Control, err = readControl(*control); err != nil {
		return nil, fmt.Errorf("read deb: control: %w", err)
	}
	return p, nil
}

// checkVersion accepts every 2.x, as deb(5) demands.
func checkVersion(m member) error {
	b := make([]byte, min(m.size, 16))
	if _, err := io.ReadFull(m.reader(), b); err != nil {
		return fmt.Errorf("read deb: debian-binary: %w", err)
	}
	if !strings.HasPrefix(string(b), "2.") {
		return fmt.Errorf("read deb: format version %.8q, want 2.x", b)
	}
	return nil
}

func find(members []member, stem string) *member {
	for i, m := range members {
		if m.name == stem || strings.HasPrefix(m.name, stem+".") {
			return &members[i]
		}
	}
	return nil
}

func readControl(m member) (map[string]string, error) {
	r, err := m.plain()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var fields map[string]string
	err = tarball.Walk(r, tarball.Options{}, func(n *tree.Node, r io.Reader) error {
		if n.Path != "control" || !n.Mode.IsRegular() {
			return nil
		}
		b, err := io.ReadAll(io.LimitReader(r, maxControl))
		if err != nil {
			return err
		}
		fields = parseControl(string(b))
		return fs.SkipAll
	})
	if err == nil && fields == nil {
		err = errors.New("no control file")
	}
	return fields, err
}

func parseControl(text string) map[string]string {
	fields := map[string]string{}
	key := ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			continue
		}
		if line[0] == ' ' || line[0] == '\t' {
			fields[key] += "\n" + line[1:]
			continue
		}
		k, v, _ := strings.Cut(line, ":")
		key = k
		fields[key] = strings.TrimSpace(v)
	}
	return fields
}

// Walk calls fn for every entry of data.tar in order; r reads the content of a
// regular file. fn may return fs.SkipAll to stop, which saves decompressing the rest.
func (p *Package) Walk(fn func(n *tree.Node, r io.Reader) error) error {
	r, err := p.data.plain()
	if err != nil {
		return fmt.Errorf("read deb: %s: %w", p.data.name, err)
	}
	defer r.Close()
	if err := tarball.Walk(r, tarball.Options{}, fn); err != nil {
		return fmt.Errorf("read deb: %s: %w", p.data.name, err)
	}
	return nil
}

// plain decompresses by the member's name.
func (m member) plain() (io.ReadCloser, error) {
	ext := filepath.Ext(m.name)
	if ext == ".tar" {
		ext = ""
	}
	return unpack.ReaderAt(io.NewSectionReader(m.r, m.off, m.size), m.size, unpack.Form(strings.TrimPrefix(ext, ".")))
}

// OpenFile opens a package on disk; the caller closes the file.
func OpenFile(path string) (*Package, *os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil {
		var p *Package
		if p, err = Open(f, info.Size()); err == nil {
			return p, f, nil
		}
	}
	f.Close()
	return nil, nil, err
}

// Walk opens the package at path and calls fn for every entry; see Package.Walk.
func Walk(path string, fn func(n *tree.Node, r io.Reader) error) error {
	p, f, err := OpenFile(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return p.Walk(fn)
}
