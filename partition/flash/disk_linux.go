package flash

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// disk is an open target. All offsets and lengths given to it are multiples of
// the device's sector size.
type disk struct {
	f     *os.File
	block bool
	zero  []byte // aligned zeros, for targets that cannot zero by themselves
}

// openDisk opens the target for writing. A block device is opened exclusively:
// the kernel refuses that while any file system, swap, device mapper or md
// uses it or a partition of it, in whatever mount namespace, and refuses them
// as long as it is open. O_DIRECT keeps progress honest; not all take it.
func openDisk(d Device) (*disk, error) {
	flags := os.O_RDWR
	if d.Kind != File {
		flags |= unix.O_EXCL | unix.O_DIRECT
	}
	f, err := os.OpenFile(d.Path, flags, 0)
	if errors.Is(err, unix.EINVAL) {
		f, err = os.OpenFile(d.Path, flags&^unix.O_DIRECT, 0)
	}
	if errors.Is(err, unix.EBUSY) {
		return nil, &RefusedError{d.Path, []Refusal{{Held, d.Name + " is in use", "unmount or stop what uses it, perhaps in another container"}}}
	}
	if err != nil {
		return nil, fmt.Errorf("open device: %w", err)
	}
	return &disk{f: f, block: d.Kind != File, zero: aligned(chunk)}, nil
}

// WriteAt implements io.WriterAt.
func (d *disk) WriteAt(b []byte, off int64) (int, error) { return d.f.WriteAt(b, off) }

// Zero makes n bytes at off read as zeros. BLKZEROOUT promises zeros, by
// writing them where the device has no faster way; BLKDISCARD does not and is
// not used. Punched holes of a file read as zeros by definition.
func (d *disk) Zero(off, n int64) error {
	if d.block {
		r := [2]uint64{uint64(off), uint64(n)}
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, d.f.Fd(), unix.BLKZEROOUT, uintptr(unsafe.Pointer(&r)))
		if errno == 0 {
			return nil
		}
	} else if unix.Fallocate(int(d.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n) == nil {
		return nil
	}
	for n > 0 {
		b := d.zero[:min(n, int64(len(d.zero)))]
		if _, err := d.f.WriteAt(b, off); err != nil {
			return err
		}
		off, n = off+int64(len(b)), n-int64(len(b))
	}
	return nil
}

// Sync makes everything written durable.
func (d *disk) Sync() error { return d.f.Sync() }

// medium reads what the medium holds, not what the page cache remembers: with
// O_DIRECT, or from the first read on that is refused so, with the cached
// pages dropped before.
type medium struct {
	direct *os.File // nil when O_DIRECT is not possible
	plain  *os.File
}

func openMedium(d Device) (*medium, error) {
	f, err := os.Open(d.Path)
	if err != nil {
		return nil, fmt.Errorf("open device to read back: %w", err)
	}
	if d.Kind != File {
		_, _, _ = unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKFLSBUF, 0)
	}
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	m := &medium{plain: f}
	if f, err := os.OpenFile(d.Path, os.O_RDONLY|unix.O_DIRECT, 0); err == nil {
		m.direct = f
	}
	return m, nil
}

// ReadAt implements io.ReaderAt.
func (m *medium) ReadAt(b []byte, off int64) (int, error) {
	if m.direct != nil {
		n, err := m.direct.ReadAt(b, off)
		if !errors.Is(err, unix.EINVAL) {
			return n, err
		}
		m.direct.Close()
		m.direct = nil
	}
	return m.plain.ReadAt(b, off)
}

// Close implements io.Closer.
func (m *medium) Close() error {
	if m.direct != nil {
		m.direct.Close()
	}
	return m.plain.Close()
}

// rereadTable asks the kernel to look at the new partition table. That fails
// harmlessly on files and on loop devices without partition scanning.
func (d *disk) rereadTable() bool {
	if !d.block {
		return false
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, d.f.Fd(), unix.BLKRRPART, 0)
	return errno == 0
}
