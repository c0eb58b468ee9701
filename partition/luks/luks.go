// Package luks writes and reads volumes of LUKS2 (LUKS2 On-Disk Format
// Specification 1.1.1): a header in two copies, key slots, tokens and one
// encrypted segment. What it writes, cryptsetup opens on any Linux; what
// cryptsetup has changed since, it reads and keeps.
//
// Limits: key slots of PBKDF2 with SHA-256 and of aes-xts-plain64; others are
// listed, not opened. One segment, to the end of the device. No detached
// headers, no reencryption, no integrity. Nothing here encrypts data: that is
// dm-crypt's work, for which Segment and the volume key are all it needs.
//
// A change of the header survives a cut at any write: the copy that is not
// being written stays valid, and of two valid ones the higher sequence counts.
// A copy that a cut has left behind is written first the next time, and Repair
// makes it good at once. Formatting makes the volume valid by its last writes,
// so that a cut before them leaves a device that reads as blank here, and as
// something foreign to others: its first sector says that a volume was begun.
//
// Shape of use:
//
//	key, err := luks.Format(device, random, luks.Volume{UUID: id, Size: size, Slots: slots})
//	h, err := luks.Read(device)
//	key, err := h.Unlock(device, 0, passphrase)
//	err = h.Repair(device)
//	h.SetToken("0", token)
//	err = h.Store(device)
package luks

import (
	"errors"
	"io"
)

// KeySize is the length of a volume key in bytes: AES-256 twice, for XTS.
const KeySize = 64

// DataOffset is where the encrypted segment starts, in bytes: what cryptsetup
// chooses, so that it has room for all it may want to add.
const DataOffset = 16 << 20

// Device is a partition; offset 0 is its first byte.
type Device interface {
	io.ReaderAt
	io.WriterAt
	// Sync makes what was written durable.
	Sync() error
}

// Errors that are wrapped by what Read and Unlock return.
var (
	ErrBlank       = errors.New("the device is blank")
	ErrForeign     = errors.New("this is not a LUKS2 volume")
	ErrDamaged     = errors.New("the LUKS2 header is damaged")
	ErrPassphrase  = errors.New("the passphrase does not open the key slot")
	ErrUnsupported = errors.New("this kind of key slot is not read here")
)
