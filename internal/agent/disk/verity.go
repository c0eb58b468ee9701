package disk

import (
	"encoding/hex"
	"fmt"
	"os"
	"strings"

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
	node, err := mapping{name: v.Name, target: "verity", bytes: int64(v.DataBlocks) * verity.BlockSize, table: []byte(table), flags: dmReadOnly}.create()
	if err != nil {
		return "", fmt.Errorf("open verity volume %s: %w", v.Device, err)
	}
	return node, nil
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

// Corrupt reports whether a block has not matched its hash since Open.
func (v Verity) Corrupt() (bool, error) {
	status, err := mapping{name: v.Name, flags: dmReadOnly}.status()
	if err != nil {
		return false, fmt.Errorf("ask verity volume %s: %w", v.Name, err)
	}
	// "V", or "C" after a mismatch.
	if len(status) == 0 || status[0] != 'V' && status[0] != 'C' {
		return false, fmt.Errorf("ask verity volume %s: the kernel gives no status", v.Name)
	}
	return status[0] == 'C', nil
}
