package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/sparse"
	"github.com/ingot-os/ingot/partition"
)

// image is the disk that is verified.
type image struct {
	r    io.ReaderAt // a file or, in tests, memory
	name string
	size int64

	container container // r, when Path is not a raw image
	file      io.Closer // that r reads, then
}

// setFile is a file that the manifest lists.
type setFile struct {
	entry   release.File
	f       *os.File // nil when it cannot be opened for the reason in problem
	size    int64
	problem Code
	checked bool
	sum     string // hex, when checked
	intact  bool   // size and digest are the manifest's
}

// errStopped ends a run whose refusal leaves nothing to look into.
var errStopped = errors.New("stopped")

// open opens everything once: what is checked is what was hashed.
func (v *verifier) open() error {
	for _, e := range v.m.Files {
		if v.report.Kind != KindSet && e.Name == v.m.Stem()+".img" {
			continue // Path is the image; one beside it is none of our business
		}
		f, err := openFile(filepath.Join(v.dir, e.Name), e)
		if err != nil {
			return err
		}
		v.files[e.Name] = f
	}
	if v.report.Kind == KindSet {
		if f := v.files[v.m.Stem()+".img"]; f.f != nil && f.size == f.entry.Size {
			v.image = &image{r: f.f, name: f.entry.Name, size: f.size}
		}
		return nil
	}
	if v.image = v.o.image; v.image == nil {
		f, err := os.Open(v.o.Path)
		if err != nil {
			return err
		}
		v.image = &image{r: f, name: filepath.Base(v.o.Path)}
		if v.image.size, err = f.Seek(0, io.SeekEnd); err != nil { // a block device has no size in its Stat
			return err
		}
		if v.image.container, err = openContainer(f, v.image.size); err != nil {
			v.begin(CheckContainers).malformed(ContainerFormat, at(v.image.name), err)
			return errStopped
		}
		if e, ok := v.entry(v.image.name); ok && v.image.container == nil && e.Name != v.m.Stem()+".img" && v.report.Kind == KindImage {
			f.Close()
			return v.openAlone(e)
		}
		if c := v.image.container; c != nil {
			v.image.r, v.image.size, v.image.file = c, c.Size(), f
		}
	}
	return v.checkSize()
}

// checkSize refuses a file that has not the size of the image. To take it for
// the disk of a machine, of which state, data and other releases are not
// judged, is the caller's to say: one more sector would do that otherwise.
// Containers round sizes up, with zeros.
func (v *verifier) checkSize() error {
	extra := v.image.size - v.m.Disk.Size
	if v.report.Kind == KindDisk || extra == 0 {
		return nil
	}
	if v.image.container != nil && extra > 0 {
		_, nonzero, err := sumOf(v.ctx, v.image.r, v.m.Disk.Size, extra)
		if err != nil {
			return err
		}
		if nonzero < 0 {
			v.image.size = v.m.Disk.Size
			return nil
		}
	}
	v.begin(CheckTable).refuse(DiskSize, at(v.image.name), fmt.Sprint(v.m.Disk.Size), fmt.Sprint(v.image.size))
	return errStopped
}

// openAlone leaves nothing to verify but one file.
func (v *verifier) openAlone(e release.File) (err error) {
	v.image, v.report.Kind = nil, KindFile
	for _, f := range v.files {
		if f.f != nil {
			f.f.Close()
		}
	}
	v.files = map[string]*setFile{}
	v.files[e.Name], err = openFile(v.o.Path, e)
	return err
}

func openFile(path string, e release.File) (*setFile, error) {
	s := &setFile{entry: e}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		s.problem = FileMissing
		return s, nil
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		s.problem = FileKind
		return s, nil
	}
	if s.f, err = os.Open(path); err != nil {
		return nil, err
	}
	if info, err = s.f.Stat(); err != nil {
		return nil, err
	}
	if s.size = info.Size(); s.size != e.Size {
		s.problem = FileSize
	}
	return s, nil
}

func (v *verifier) close() {
	for _, f := range v.files {
		if f.f != nil {
			f.f.Close()
		}
	}
	if v.image != nil {
		if v.image.file != nil {
			v.image.file.Close()
		}
		if c, ok := v.image.r.(io.Closer); ok && v.report.Kind != KindSet {
			c.Close()
		}
	}
}

// section is a partition of the image.
func (v *verifier) section(p partition.Part) *io.SectionReader { return p.Section(v.image.r) }

// watch hashes what is written to it and notes where the first byte is that is
// not zero.
type watch struct {
	ctx     context.Context
	h       hash.Hash
	at      int64
	nonzero int64
}

var zeros [16 << 10]byte

// Write implements io.Writer; it fails when the context ends.
func (w *watch) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	if w.nonzero < 0 {
		if i := firstNonzero(p); i >= 0 {
			w.nonzero = w.at + i
		}
	}
	w.at += int64(len(p))
	return w.h.Write(p)
}

// firstNonzero is the index of the first byte that is not zero, or -1.
func firstNonzero(p []byte) int64 {
	for at := 0; at < len(p); at += len(zeros) {
		b := p[at:min(at+len(zeros), len(p))]
		if bytes.Equal(b, zeros[:len(b)]) {
			continue
		}
		for i, c := range b {
			if c != 0 {
				return int64(at + i)
			}
		}
	}
	return -1
}

// sumOf hashes n bytes at off; nonzero is the offset in them of the first byte
// that is not zero, or -1. Holes of a file are not read.
func sumOf(ctx context.Context, r io.ReaderAt, off, n int64) (sum string, nonzero int64, err error) {
	w := &watch{ctx: ctx, h: sha256.New(), nonzero: -1}
	if f, ok := r.(*os.File); ok {
		err = sparse.Copy(w, f, off, n)
	} else {
		var got int64
		got, err = io.CopyBuffer(w, struct{ io.Reader }{io.NewSectionReader(r, off, n)}, make([]byte, min(n, sparse.Step)+1))
		if err == nil && got != n {
			err = io.ErrUnexpectedEOF
		}
	}
	return hex.EncodeToString(w.h.Sum(nil)), w.nonzero, err
}

// sumReader hashes everything that r gives.
func sumReader(ctx context.Context, r io.Reader) (string, error) {
	w := &watch{ctx: ctx, h: sha256.New()}
	_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, make([]byte, sparse.Step))
	return hex.EncodeToString(w.h.Sum(nil)), err
}
