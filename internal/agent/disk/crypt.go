package disk

import (
	"encoding/hex"
	"fmt"
)

// Crypt is a volume whose every sector is encrypted (dm-crypt).
type Crypt struct {
	Name       string // of the device-mapper device
	Device     string // the partition
	Offset     int64  // bytes from its start
	Size       int64  // bytes
	Cipher     string // as in aes-xts-plain64
	IVTweak    uint64 // sector number that the first sector counts as
	SectorSize int    // bytes
}

// Open makes the volume and returns its device node. The key is checked by
// nobody here: with a wrong one everything reads as noise.
func (c Crypt) Open(key []byte) (string, error) {
	if c.Offset%512 != 0 || c.Size <= 0 || c.Size%int64(c.SectorSize) != 0 {
		return "", fmt.Errorf("open encrypted volume %s: %d bytes at %d in sectors of %d", c.Device, c.Size, c.Offset, c.SectorSize)
	}
	table := c.table(key)
	defer clear(table)
	node, err := mapping{name: c.Name, target: "crypt", bytes: c.Size, table: table, flags: dmSecureData}.create()
	if err != nil {
		return "", fmt.Errorf("open encrypted volume %s: %w", c.Device, err)
	}
	return node, nil
}

// tableRoom is more than all of a table but the key has in bytes.
const tableRoom = 512

// table is the target line of
// Documentation/admin-guide/device-mapper/dm-crypt.rst. Discards are passed
// on: that shows which blocks are free, and keeps flash memory fast.
func (c Crypt) table(key []byte) []byte {
	b := make([]byte, 0, tableRoom+2*len(key)) // one array: growing would leave the key behind
	b = fmt.Appendf(b, "%s ", c.Cipher)
	b = hex.AppendEncode(b, key)
	b = fmt.Appendf(b, " %d %s %d", c.IVTweak, c.Device, c.Offset/512)
	if c.SectorSize == 512 {
		return append(b, " 1 allow_discards"...)
	}
	return fmt.Appendf(b, " 2 allow_discards sector_size:%d", c.SectorSize)
}

// Close removes the volume and with it the kernel's copy of the key. It must
// not be in use any more.
func (c Crypt) Close() error { return mapping{name: c.Name}.remove() }
