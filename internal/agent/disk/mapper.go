package disk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Commands and flags of include/uapi/linux/dm-ioctl.h, version 4.0.0.
const (
	dmDevCreate  = 3
	dmDevRemove  = 4
	dmDevSuspend = 6 // with no suspend flag: resume
	dmTableLoad  = 9
	dmStatus     = 12
	dmReadOnly   = 1 << 0
	dmSecureData = 1 << 15 // the kernel wipes its copies of the command
	dmHead       = 312     // sizeof(struct dm_ioctl)
	dmTarget     = 40      // sizeof(struct dm_target_spec)
)

const control = "/dev/mapper/control"

// mapping is a device of the device mapper with one target.
type mapping struct {
	name   string
	target string // kind
	bytes  int64
	table  []byte // parameters of the target
	flags  uint32 // of every command
}

// create makes the device and returns its node.
func (m mapping) create() (string, error) {
	ctl, err := os.OpenFile(control, os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("open device mapper: %w", err)
	}
	defer ctl.Close()
	dev, err := m.ioctl(ctl, dmDevCreate, 0, nil)
	if err != nil {
		return "", fmt.Errorf("create: %w", err)
	}
	if _, err = m.ioctl(ctl, dmTableLoad, m.flags, m.spec()); err == nil {
		_, err = m.ioctl(ctl, dmDevSuspend, 0, nil)
	}
	if err != nil {
		m.ioctl(ctl, dmDevRemove, 0, nil)
		return "", fmt.Errorf("load table: %w", err)
	}
	return fmt.Sprintf("/dev/dm-%d", unix.Minor(dev)), nil
}

// remove ends the device; one that is in use stays.
func (m mapping) remove() error {
	ctl, err := os.OpenFile(control, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open device mapper: %w", err)
	}
	defer ctl.Close()
	if _, err := m.ioctl(ctl, dmDevRemove, 0, nil); err != nil {
		return fmt.Errorf("remove %s: %w", m.name, err)
	}
	return nil
}

// status is what the target says of itself.
func (m mapping) status() (string, error) {
	ctl, err := os.OpenFile(control, os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("open device mapper: %w", err)
	}
	defer ctl.Close()
	b, err := m.call(ctl, dmStatus, m.flags, make([]byte, 256))
	if err != nil {
		return "", err
	}
	start := int(binary.NativeEndian.Uint32(b[16:])) + dmTarget // behind one dm_target_spec
	if start >= len(b) {
		return "", nil
	}
	text, _, _ := bytes.Cut(b[start:], []byte{0})
	return string(text), nil
}

// spec encodes one dm_target_spec: start and length in 512 byte sectors,
// status, next, type, then the parameters with their NUL, 8-byte aligned.
func (m mapping) spec() []byte {
	b := make([]byte, dmTarget, dmTarget+len(m.table)+8)
	binary.NativeEndian.PutUint64(b[8:], uint64(m.bytes)/512)
	copy(b[24:40], m.target)
	b = append(b, m.table...)
	b = append(b, 0)
	return append(b, make([]byte, -len(b)&7)...)
}

// ioctl runs one command with payload behind the head and returns the dev
// field of the answer.
func (m mapping) ioctl(ctl *os.File, cmd uintptr, flags uint32, payload []byte) (uint64, error) {
	b, err := m.call(ctl, cmd, flags, payload)
	clear(payload) // may hold a key
	if err != nil {
		return 0, err
	}
	return binary.NativeEndian.Uint64(b[40:]), nil
}

// call runs one command and returns head and payload as the kernel left them.
func (m mapping) call(ctl *os.File, cmd uintptr, flags uint32, payload []byte) ([]byte, error) {
	b := append(make([]byte, dmHead), payload...)
	binary.NativeEndian.PutUint32(b[0:], 4) // version
	binary.NativeEndian.PutUint32(b[12:], uint32(len(b)))
	binary.NativeEndian.PutUint32(b[16:], dmHead) // data_start
	if cmd == dmTableLoad {
		binary.NativeEndian.PutUint32(b[20:], 1) // target_count
	}
	binary.NativeEndian.PutUint32(b[28:], flags)
	copy(b[48:48+127], m.name)
	if cmd == dmDevCreate { // later commands name the device by one of the two
		copy(b[176:176+128], "INGOT-"+m.name)
	}
	// _IOWR(0xfd, cmd, struct dm_ioctl)
	nr := uintptr(3)<<30 | dmHead<<16 | 0xfd<<8 | cmd
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, ctl.Fd(), nr, uintptr(unsafe.Pointer(&b[0])))
	runtime.KeepAlive(b)
	if flags&dmSecureData != 0 {
		clear(b[dmHead:])
	}
	if errno != 0 {
		return nil, errno
	}
	return b, nil
}
