package updater

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// align is what O_DIRECT wants of memory, offset and length on every disk, in
// bytes: sectors have 512 or 4096.
const align = 4096

// piece is the size of one request to a disk, in bytes.
const piece = 1 << 20

// device is an open partition, or a file in its place. Reads and writes go past
// the page cache, so that what is read back comes from the medium.
type device struct {
	f      *os.File
	base   int64 // where it begins in the file
	size   int64
	direct bool // O_DIRECT works; else the cache is dropped before it is read
	block  bool
	noZero bool // ranges cannot be zeroed but by writing

	tap func(off int64, b []byte) // sees writes, and nil for a flush; nil but in tests
}

// openDevice opens a node that must have size bytes.
func openDevice(node string, size int64, flag int) (*device, error) {
	d, err := openPast(node, flag)
	if err != nil {
		return nil, err
	}
	d.size = size
	if got, err := d.measure(); err != nil || got != size {
		d.f.Close()
		return nil, fmt.Errorf("open %s: %d bytes, want %d: %w", node, got, size, errors.Join(fs.ErrInvalid, err))
	}
	return d, nil
}

// openPast opens a node without the page cache where that is possible.
func openPast(node string, flag int) (*device, error) {
	d := &device{direct: true}
	var err error
	if d.f, err = os.OpenFile(node, flag|unix.O_DIRECT, 0); errors.Is(err, unix.EINVAL) {
		d.direct = false // a file system without O_DIRECT: tests, mostly
		d.f, err = os.OpenFile(node, flag, 0)
	}
	return d, err
}

// openSection opens a part of a disk that has no partitions yet.
func openSection(disk string, base, size int64) (*device, error) {
	d, err := openPast(disk, os.O_RDWR)
	if err != nil {
		return nil, err
	}
	got, err := d.measure()
	if err != nil || base < 0 || base%align != 0 || base+size > got {
		d.f.Close()
		return nil, fmt.Errorf("open %s: %d bytes from %d on, it has %d: %w", disk, size, base, got, errors.Join(fs.ErrInvalid, err))
	}
	d.base, d.size = base, size
	return d, nil
}

// measure finds out how large the device is and what it is.
func (d *device) measure() (int64, error) {
	st, err := d.f.Stat()
	if err != nil || st.Mode().IsRegular() {
		return sizeOf(st), err
	}
	d.block = true
	var n uint64
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, d.f.Fd(), unix.BLKGETSIZE64, uintptr(unsafe.Pointer(&n))); e != 0 {
		return 0, fmt.Errorf("ioctl BLKGETSIZE64: %w", e)
	}
	return int64(n), nil
}

func sizeOf(st os.FileInfo) int64 {
	if st == nil {
		return 0
	}
	return st.Size()
}

func (d *device) close() error { return d.f.Close() }

// write writes an aligned buffer of whole blocks.
func (d *device) write(b []byte, off int64) error {
	if d.tap != nil {
		d.tap(off, b)
	}
	_, err := d.f.WriteAt(b, d.base+off)
	return err
}

// zero makes a range zero: fallocate lets disks that can do it without being
// sent the zeros, and on the others the kernel writes them.
func (d *device) zero(off, n int64) error {
	if d.tap != nil {
		d.tap(off, make([]byte, n))
	}
	if !d.noZero && (d.fallocate(unix.FALLOC_FL_ZERO_RANGE, off, n) || d.fallocate(unix.FALLOC_FL_PUNCH_HOLE, off, n)) {
		return nil
	}
	d.noZero = true
	b := buffer(piece)
	for end := off + n; off < end; off += piece {
		if _, err := d.f.WriteAt(b[:min(piece, end-off)], d.base+off); err != nil {
			return err
		}
	}
	return nil
}

func (d *device) fallocate(mode uint32, off, n int64) bool {
	for {
		err := unix.Fallocate(int(d.f.Fd()), mode|unix.FALLOC_FL_KEEP_SIZE, d.base+off, n)
		if err != unix.EINTR { // the runtime signals its threads
			return err == nil
		}
	}
}

// sync makes what was written durable, and lets nothing of it be read from a
// cache.
func (d *device) sync() error {
	if d.tap != nil {
		d.tap(0, nil)
	}
	if err := d.f.Sync(); err != nil || d.direct {
		return err
	}
	if d.block {
		_, err := unix.IoctlRetInt(int(d.f.Fd()), unix.BLKFLSBUF)
		return err
	}
	return unix.Fadvise(int(d.f.Fd()), 0, 0, unix.FADV_DONTNEED)
}

// read fills an aligned buffer of whole blocks.
func (d *device) read(b []byte, off int64) error {
	_, err := d.f.ReadAt(b, d.base+off)
	return err
}

// buffer is zeroed memory for O_DIRECT.
func buffer(n int) []byte {
	b := make([]byte, n+align)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (align - 1)
	return b[skip : int(skip)+n : int(skip)+n]
}
