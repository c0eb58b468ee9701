package luks

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

// Magic numbers of the two copies (section 2.1).
const (
	primaryMagic   = "LUKS\xba\xbe"
	secondaryMagic = "SKUL\xba\xbe"
)

const (
	binarySize = 4096
	sectorSize = 512
	version    = 2
)

// sizes are the allowed lengths of one copy, which are also where a second
// copy can start (section 2.1, table 1).
var sizes = []int64{16 << 10, 32 << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20, 2 << 20, 4 << 20}

// binaryHeader is struct luks2_hdr_disk without its padding; integers are big
// endian.
type binaryHeader struct {
	Magic     [6]byte
	Version   uint16
	Size      uint64 // of binary header and JSON area, bytes
	Seq       uint64
	Label     [48]byte
	Algorithm [32]byte
	Salt      [64]byte
	UUID      [40]byte
	Subsystem [48]byte
	Offset    uint64 // of this copy, bytes from the start of the device
	_         [184]byte
	Checksum  [64]byte
}

// copyOf is one copy of the header: the fields that both share are in fields.
type copyOf struct {
	binaryHeader
	json []byte // without the zeros after it
}

// readCopy reads the copy at off. A first copy has off 0.
func readCopy(r io.ReaderAt, off int64) (copyOf, error) {
	first := make([]byte, binarySize)
	if n, err := r.ReadAt(first, off); n < len(first) {
		return copyOf{}, fmt.Errorf("read header at offset %d: %w", off, err)
	}
	var c copyOf
	if _, err := binary.Decode(first, binary.BigEndian, &c.binaryHeader); err != nil {
		return c, err
	}
	if err := c.check(off); err != nil {
		return c, err
	}
	b := make([]byte, c.Size)
	if n, err := r.ReadAt(b, off); n < len(b) {
		return c, fmt.Errorf("read header at offset %d: %w", off, err)
	}
	if got := sum(b); !bytes.Equal(got[:], c.Checksum[:len(got)]) {
		return c, fmt.Errorf("header at offset %d: checksum differs: %w", off, ErrDamaged)
	}
	c.json = b[binarySize:]
	if i := bytes.IndexByte(c.json, 0); i >= 0 {
		c.json = c.json[:i]
	}
	return c, nil
}

// check looks at the fields before the size is believed.
func (h *binaryHeader) check(off int64) error {
	want := primaryMagic
	if off != 0 {
		want = secondaryMagic
	}
	bad := func(field string) error { return fmt.Errorf("header at offset %d: %s: %w", off, field, ErrDamaged) }
	switch {
	case string(h.Magic[:]) != want:
		return fmt.Errorf("header at offset %d: %w", off, ErrForeign)
	case h.Version != version:
		return fmt.Errorf("header at offset %d: version %d: %w", off, h.Version, ErrForeign)
	case h.Size > 4<<20 || !slices.Contains(sizes, int64(h.Size)):
		return bad("hdr_size")
	case h.Offset != uint64(off) || off != 0 && off != int64(h.Size):
		return bad("hdr_offset")
	case text(h.Algorithm[:]) != "sha256":
		return bad("csum_alg")
	}
	return nil
}

// sum is the checksum of a whole copy, taken with the field zero.
func sum(b []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write(b[:sectorSize-64])
	h.Write(make([]byte, 64))
	h.Write(b[sectorSize:])
	return [sha256.Size]byte(h.Sum(nil))
}

// encode gives the whole copy with its checksum.
func (c copyOf) encode() ([]byte, error) {
	b := make([]byte, c.Size)
	c.Checksum = [64]byte{}
	if _, err := binary.Encode(b, binary.BigEndian, &c.binaryHeader); err != nil {
		return nil, err
	}
	if len(c.json) >= len(b)-binarySize { // at least one zero ends it
		return nil, fmt.Errorf("the metadata has %d bytes, the header has room for %d", len(c.json), len(b)-binarySize-1)
	}
	copy(b[binarySize:], c.json)
	s := sum(b)
	copy(b[sectorSize-64:], s[:])
	return b, nil
}

// write stores one copy. All that is not zero in the binary header is in its
// first sector, which is written last and whole: until then the copy is not
// valid, and on a blank device it stays blank.
func (c copyOf) write(d Device) error {
	b, err := c.encode()
	if err != nil {
		return fmt.Errorf("write header: %w", err)
	}
	off := int64(c.Offset)
	if _, err := d.WriteAt(b[sectorSize:], off+sectorSize); err != nil {
		return fmt.Errorf("write header at offset %d: %w", off, err)
	}
	if err := d.Sync(); err != nil {
		return fmt.Errorf("write header at offset %d: %w", off, err)
	}
	if _, err := d.WriteAt(b[:sectorSize], off); err != nil {
		return fmt.Errorf("write header at offset %d: %w", off, err)
	}
	if err := d.Sync(); err != nil {
		return fmt.Errorf("write header at offset %d: %w", off, err)
	}
	return nil
}

// text is a field up to its first zero.
func text(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}
