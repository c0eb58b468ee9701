package disk

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Memory is a file without a name, in memory: pages that no file system's bound
// counts, and that go when nothing holds it any more.
func Memory(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make memory file %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Seal lets nobody change a memory file any more.
func Seal(f *os.File) error {
	const all = unix.F_SEAL_WRITE | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, all); err != nil {
		return fmt.Errorf("seal memory file: %w", err)
	}
	return nil
}

// loopTries bounds how often a free device is asked for: another program may have
// taken it meanwhile.
const loopTries = 8

// Loop makes a read-only block device of a file and returns its node. It lasts
// until the last user of the device has closed it.
func Loop(f *os.File) (node string, dev *os.File, err error) {
	for range loopTries {
		if node, dev, err = loop(f); err == nil || !errors.Is(err, unix.EBUSY) {
			break
		}
	}
	if err != nil {
		return "", nil, fmt.Errorf("make loop device: %w", err)
	}
	return node, dev, nil
}

func loop(f *os.File) (node string, dev *os.File, err error) {
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return "", nil, err
	}
	defer ctl.Close()
	n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return "", nil, err
	}
	node = fmt.Sprintf("/dev/loop%d", n)
	if dev, err = os.OpenFile(node, os.O_RDONLY, 0); err != nil {
		return "", nil, err
	}
	c := unix.LoopConfig{Fd: uint32(f.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_READ_ONLY | unix.LO_FLAGS_AUTOCLEAR}}
	if err = unix.IoctlLoopConfigure(int(dev.Fd()), &c); err != nil {
		dev.Close()
	}
	return node, dev, err
}
