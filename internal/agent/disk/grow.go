package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/partition/gpt"
)

// growAtLeast is what a larger data partition must gain, in bytes: less is the
// alignment that Grow leaves at the end.
const growAtLeast = 2 << 20

// PlanGrow returns the table that gives the last partition the rest of the
// disk, and whether that is worth writing.
func PlanGrow(t gpt.Table, size int64) (gpt.Table, bool, error) {
	next, err := gpt.Grow(t, size, true)
	if err != nil {
		return t, false, fmt.Errorf("grow partition table: %w", err)
	}
	last := func(t gpt.Table) (end int64) {
		for _, p := range t.Partitions {
			end = max(end, p.End())
		}
		return end
	}
	return next, last(next)-last(t) >= growAtLeast, nil
}

// Grow gives the data partition the rest of the disk, and reports whether
// anything changed. The steps keep one valid copy of the table at any cut
// (rows P25-P28), and a boot after a cut plans the same end again from what it
// reads: the table itself is the journal, nothing else has to be kept.
func (d *Disk) Grow() (bool, error) {
	next, worth, err := PlanGrow(d.Table, d.Size)
	if err != nil || !worth {
		return false, err
	}
	steps, err := gpt.Replace(d.Table, d.Info, next)
	if err != nil {
		return false, fmt.Errorf("grow partition table: %w", err)
	}
	f, err := os.OpenFile(d.Node, os.O_RDWR, 0)
	if err != nil {
		return false, fmt.Errorf("grow partition table: %w", err)
	}
	defer f.Close()
	if err := gpt.Apply(f, steps); err != nil {
		return false, fmt.Errorf("grow partition table: %w", err)
	}
	for _, p := range next.Partitions {
		if p != find(d.Table, p.Index) {
			if err := resizePartition(f, p); err != nil {
				return false, fmt.Errorf("grow partition %d: %w", p.Index, err)
			}
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for role, p := range d.parts {
		d.parts[role] = find(next, p.Index)
	}
	d.Table, d.Info = next, gpt.Info{}
	return true, nil
}

func find(t gpt.Table, index int) gpt.Partition {
	for _, p := range t.Partitions {
		if p.Index == index {
			return p
		}
	}
	return gpt.Partition{}
}

// resizePartition tells the kernel (BLKPG_RESIZE_PARTITION): reading the whole
// table again (BLKRRPART) is refused while any partition is in use.
func resizePartition(disk *os.File, p gpt.Partition) error {
	const blkpg, resize = 0x1269, 3
	// struct blkpg_partition: start and length in bytes, number, two names.
	var part [8 + 8 + 4 + 64 + 64 + 4]byte
	binary.NativeEndian.PutUint64(part[0:], uint64(p.Start))
	binary.NativeEndian.PutUint64(part[8:], uint64(p.Size))
	binary.NativeEndian.PutUint32(part[16:], uint32(p.Index))
	arg := struct {
		op, flags, length int32
		_                 int32
		data              unsafe.Pointer
	}{op: resize, length: int32(len(part)), data: unsafe.Pointer(&part[0])}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, disk.Fd(), blkpg, uintptr(unsafe.Pointer(&arg)))
	runtime.KeepAlive(&part)
	if errno != 0 {
		return errno
	}
	return nil
}

// Device is an open partition as Format wants it.
type Device struct{ *os.File }

// Zero implements Target: by the device (BLKZEROOUT), else by writing.
func (d Device) Zero(off, n int64) error {
	arg := [2]uint64{uint64(off), uint64(n)}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, d.Fd(), unix.BLKZEROOUT, uintptr(unsafe.Pointer(&arg)))
	if errno == 0 {
		return nil
	}
	if !errors.Is(errno, unix.EOPNOTSUPP) && !errors.Is(errno, unix.ENOTTY) {
		return os.NewSyscallError("zero", errno)
	}
	zeros := make([]byte, 1<<20)
	for n > 0 {
		k, err := d.WriteAt(zeros[:min(n, int64(len(zeros)))], off)
		if err != nil {
			return err
		}
		off, n = off+int64(k), n-int64(k)
	}
	return nil
}
