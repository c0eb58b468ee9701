package depot

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/internal/regular"
)

// file is an image that is open: who reads it keeps it open.
type file struct {
	f     *os.File
	is    identity
	users int // and one more while it is in Depot.files
	parts map[Part]*checked
}

// checked is what came of reading a part.
type checked struct {
	used int64
	err  error
}

// identity tells a file from another, or from itself after a change: nobody sets
// the time of the change of an inode back without changing the machine's clock.
type identity struct {
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
}

func identify(st *unix.Stat_t) identity {
	return identity{uint64(st.Dev), st.Ino, st.Size, st.Mtim, st.Ctim}
}

func (f *file) now() (identity, error) {
	var st unix.Stat_t
	err := unix.Fstat(int(f.f.Fd()), &st)
	return identify(&st), err
}

// Opened is a part to read. It is an io.ReaderAt of its bytes.
type Opened struct {
	Part
	Used int64 // bytes before the zeros at the end

	d *Depot
	f *file
}

// ReadAt implements io.ReaderAt. The error is ErrChanged when the bytes are not
// those that were checked.
func (o *Opened) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 || off > o.Size {
		return 0, fmt.Errorf("read %s: offset %d of %d", o.Path, off, o.Size)
	}
	n, err := o.f.f.ReadAt(b[:min(int64(len(b)), o.Size-off)], o.Start+off)
	if err == nil && n < len(b) {
		err = io.EOF
	}
	if serr := o.Same(); serr != nil {
		return 0, serr
	}
	return n, err
}

// Same says whether the file is the one that was checked, still: what was read of
// it before is what the manifest names. Otherwise the error is ErrChanged.
func (o *Opened) Same() error {
	if is, err := o.f.now(); err != nil || is != o.f.is {
		return fmt.Errorf("read %s: %w", o.Path, ErrChanged)
	}
	return nil
}

// File gives the file once more, with a position of its own, for sendfile(2): the
// part begins at Start in it. What went out counts when Same says so afterwards.
// The caller closes it.
func (o *Opened) File() (*os.File, error) {
	f, _, err := regular.Open(o.Path)
	if err != nil {
		return nil, fmt.Errorf("open image: %w", err)
	}
	if is, err := (&file{f: f}).now(); err != nil || is != o.f.is {
		f.Close()
		return nil, fmt.Errorf("open %s: %w", o.Path, ErrChanged)
	}
	return f, nil
}

// Close ends the use of the part.
func (o *Opened) Close() { o.d.drop(o.f) }
