package disk

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/partition/verity"
)

// Verity is a read-only volume whose every block is checked against RootHash
// when it is read.
type Verity struct {
	Name       string // of the device-mapper device
	Device     string // partition with the data, then the hash area
	DataBlocks uint64 // of 4096 bytes
	HashStart  uint64 // byte offset of the verity superblock
	RootHash   string // hex; the only value that is trusted
}

// Open makes the volume and returns its device node. A root hash that does not
// belong to the volume shows at the first read, not here.
func (v Verity) Open() (string, error) {
	table, err := v.table()
	if err != nil {
		return "", fmt.Errorf("open verity volume %s: %w", v.Device, err)
	}
	ctl, err := os.OpenFile("/dev/mapper/control", os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("open device mapper: %w", err)
	}
	defer ctl.Close()
	minor, err := v.create(ctl, table)
	if err != nil {
		return "", fmt.Errorf("open verity volume %s: %w", v.Device, err)
	}
	return fmt.Sprintf("/dev/dm-%d", minor), nil
}

// table is the target line of Documentation/admin-guide/device-mapper/verity.rst.
// The salt comes from the disk: another salt makes another root hash, so it
// need not be trusted. The size comes from the image.
func (v Verity) table() (string, error) {
	hash, err := hex.DecodeString(v.RootHash)
	if err != nil || len(hash) != 32 {
		return "", fmt.Errorf("parse root hash %.70q: want 64 hex digits", v.RootHash)
	}
	f, err := os.Open(v.Device)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sb, err := verity.ReadSuperblock(&tail{f, int64(v.HashStart)})
	if err != nil {
		return "", err
	}
	if sb.DataBlocks != v.DataBlocks {
		return "", fmt.Errorf("the volume has %d blocks, the image says %d", sb.DataBlocks, v.DataBlocks)
	}
	salt := "-" // none
	if len(sb.Salt) > 0 {
		salt = hex.EncodeToString(sb.Salt)
	}
	return fmt.Sprintf("1 %s %s %d %d %d %d sha256 %s %s", v.Device, v.Device, verity.BlockSize, verity.BlockSize,
		v.DataBlocks, v.HashStart/verity.BlockSize+1, strings.ToLower(v.RootHash), salt), nil
}

// tail reads a file from an offset on.
type tail struct {
	f   *os.File
	off int64
}

// ReadAt implements io.ReaderAt.
func (t *tail) ReadAt(b []byte, off int64) (int, error) { return t.f.ReadAt(b, t.off+off) }

// Commands of include/uapi/linux/dm-ioctl.h, version 4.0.0.
const (
	dmDevCreate  = 3
	dmDevRemove  = 4
	dmDevSuspend = 6 // with no suspend flag: resume
	dmTableLoad  = 9
	dmStatus     = 12
	dmReadOnly   = 1 << 0
	dmHead       = 312 // sizeof(struct dm_ioctl)
	dmTarget     = 40  // sizeof(struct dm_target_spec)
)

func (v Verity) create(ctl *os.File, table string) (minor uint32, err error) {
	dev, err := v.ioctl(ctl, dmDevCreate, 0, nil)
	if err != nil {
		return 0, fmt.Errorf("create: %w", err)
	}
	if _, err = v.ioctl(ctl, dmTableLoad, dmReadOnly, v.target(table)); err == nil {
		_, err = v.ioctl(ctl, dmDevSuspend, 0, nil)
	}
	if err != nil {
		v.ioctl(ctl, dmDevRemove, 0, nil)
		return 0, fmt.Errorf("load table: %w", err)
	}
	return unix.Minor(dev), nil
}

// Corrupt reports whether a block has not matched its hash since Open.
func (v Verity) Corrupt() (bool, error) {
	ctl, err := os.OpenFile("/dev/mapper/control", os.O_RDWR, 0)
	if err != nil {
		return false, fmt.Errorf("open device mapper: %w", err)
	}
	defer ctl.Close()
	b, err := v.call(ctl, dmStatus, dmReadOnly, make([]byte, 256))
	if err != nil {
		return false, fmt.Errorf("ask verity volume %s: %w", v.Name, err)
	}
	// One dm_target_spec, then the status: "V", or "C" after a mismatch.
	start := int(binary.NativeEndian.Uint32(b[16:])) + dmTarget
	if start >= len(b) || b[start] != 'V' && b[start] != 'C' {
		return false, fmt.Errorf("ask verity volume %s: the kernel gives no status", v.Name)
	}
	return b[start] == 'C', nil
}

// target encodes one dm_target_spec: start and length in 512 byte sectors,
// status, next, type, then the parameters with their NUL, 8-byte aligned.
func (v Verity) target(table string) []byte {
	b := make([]byte, dmTarget, dmTarget+len(table)+8)
	binary.NativeEndian.PutUint64(b[8:], v.DataBlocks*verity.BlockSize/512)
	copy(b[24:40], "verity")
	b = append(b, table...)
	b = append(b, 0)
	return append(b, make([]byte, -len(b)&7)...)
}

// ioctl runs one command with payload behind the head and returns the dev
// field of the answer.
func (v Verity) ioctl(ctl *os.File, cmd uintptr, flags uint32, payload []byte) (uint64, error) {
	b, err := v.call(ctl, cmd, flags, payload)
	if err != nil {
		return 0, err
	}
	return binary.NativeEndian.Uint64(b[40:]), nil
}

// call runs one command and returns head and payload as the kernel left them.
func (v Verity) call(ctl *os.File, cmd uintptr, flags uint32, payload []byte) ([]byte, error) {
	b := append(make([]byte, dmHead), payload...)
	binary.NativeEndian.PutUint32(b[0:], 4) // version
	binary.NativeEndian.PutUint32(b[12:], uint32(len(b)))
	binary.NativeEndian.PutUint32(b[16:], dmHead) // data_start
	if cmd == dmTableLoad {
		binary.NativeEndian.PutUint32(b[20:], 1) // target_count
	}
	binary.NativeEndian.PutUint32(b[28:], flags)
	copy(b[48:48+127], v.Name)
	if cmd == dmDevCreate { // later commands name the device by one of the two
		copy(b[176:176+128], "INGOT-"+v.Name)
	}
	// _IOWR(0xfd, cmd, struct dm_ioctl)
	nr := uintptr(3)<<30 | dmHead<<16 | 0xfd<<8 | cmd
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, ctl.Fd(), nr, uintptr(unsafe.Pointer(&b[0])))
	runtime.KeepAlive(b)
	if errno != 0 {
		return nil, errno
	}
	return b, nil
}
