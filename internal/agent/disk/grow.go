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

// PlanTable returns what the table on a disk of size bytes should be, and the
// writes that make it so of what gpt.Read found: the last partition has the rest
// of the disk, and both copies are whole. None when it is so. The steps keep one
// valid copy at any cut (rows P25 to P27), and a boot after a cut plans the same
// end again from what it reads: the table itself is the journal.
func PlanTable(t gpt.Table, info gpt.Info, size int64) (gpt.Table, []gpt.Step, error) {
	next, worth, err := PlanGrow(t, size)
	if err != nil {
		return t, nil, err
	}
	if !worth {
		if next = t; info.Primary == nil && info.Backup == nil {
			return t, nil, nil
		}
	}
	steps, err := gpt.Replace(t, info, next)
	if err != nil {
		return t, nil, fmt.Errorf("grow partition table: %w", err)
	}
	return next, steps, nil
}

// Grow gives the data partition the rest of the disk, and reports whether it
// got more. A copy of the table that a cut has damaged is written again.
func (d *Disk) Grow() (bool, error) {
	next, steps, err := PlanTable(d.Table, d.Info, d.Size)
	if err != nil || len(steps) == 0 {
		return false, err
	}
	f, err := os.OpenFile(d.Node, os.O_RDWR, 0)
	if err != nil {
		return false, fmt.Errorf("grow partition table: %w", err)
	}
	defer f.Close()
	if err := gpt.Apply(f, steps); err != nil {
		return false, fmt.Errorf("grow partition table: %w", err)
	}
	grown := false
	for _, p := range next.Partitions {
		if p != find(d.Table, p.Index) {
			grown = true
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
	return grown, nil
}

// Mend writes the primary copy of the table again when only the backup copy is
// valid, and lets the kernel read it. Linux looks at the backup only with "gpt"
// on its command line, so until then the disk has no partitions for it; not
// every firmware mends the copy by itself before it starts a slot.
func (d *Disk) Mend() (bool, error) {
	if !d.Info.FromBackup {
		return false, nil
	}
	steps, err := gpt.Repair(d.Table)
	if err != nil {
		return false, err
	}
	f, err := os.OpenFile(d.Node, os.O_RDWR, 0)
	if err != nil {
		return false, fmt.Errorf("mend partition table: %w", err)
	}
	defer f.Close()
	if err := gpt.Apply(f, steps); err != nil {
		return false, fmt.Errorf("mend partition table: %w", err)
	}
	d.Info = gpt.Info{BackupOffset: d.Info.BackupOffset}
	// Without partitions none is in use, so the kernel reads the whole table.
	if err := unix.IoctlSetInt(int(f.Fd()), unix.BLKRRPART, 0); err != nil && !errors.Is(err, unix.ENOTTY) {
		return true, fmt.Errorf("mend partition table: %w", err)
	}
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
