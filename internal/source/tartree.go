package source

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/ingot-os/ingot/internal/source/tarball"
	"github.com/ingot-os/ingot/internal/source/unpack"
	"github.com/ingot-os/ingot/partition/tree"
)

// TarTree reads a tar archive, plain or compressed by gzip, xz or zstd, as a
// root payload: owners, modes, extended attributes and device nodes are kept.
// cleanup frees what the tree reads from and must be called after the last read.
func TarTree(path string) (t *tree.Tree, cleanup func(), err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, func() {}, err
	}
	plain, err := plainFile(f)
	if err != nil {
		f.Close()
		return nil, func() {}, fmt.Errorf("read %s: %w", filepath.Base(path), err)
	}
	size, err := plain.Seek(0, io.SeekEnd)
	if err == nil {
		t, err = tarball.Tree(plain, size, tarball.Options{Devices: true})
	}
	if err != nil {
		plain.Close()
		return nil, func() {}, fmt.Errorf("read %s: %w", filepath.Base(path), err)
	}
	return t, func() { plain.Close() }, nil
}

// plainFile returns f itself when it is not compressed, else an unlinked
// temporary file with its content; f is then closed.
func plainFile(f *os.File) (*os.File, error) {
	head := make([]byte, 8)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if unpack.Detect(head[:n]) == unpack.Plain {
		return f, nil
	}
	defer f.Close()
	r, err := unpack.Auto(f)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	spool, err := os.CreateTemp("", "ingot-tar-")
	if err != nil {
		return nil, err
	}
	os.Remove(spool.Name())
	size, err := io.Copy(spool, io.LimitReader(r, tarball.MaxBytes+1))
	if err == nil && size > tarball.MaxBytes {
		err = fmt.Errorf("decompresses to more than %d bytes", int64(tarball.MaxBytes))
	}
	if err != nil {
		spool.Close()
		return nil, err
	}
	return spool, nil
}
