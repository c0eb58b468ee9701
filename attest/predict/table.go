package predict

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/ingot-os/ingot/partition/gpt"
)

var le = binary.LittleEndian

// Sizes in bytes in a GUID partition table (UEFI 2.10 section 5.3).
const (
	tableHeaderSize = 92
	tableEntrySize  = 128
	maxEntries      = 1024
)

// Table is a partition table as firmware measures it.
type Table struct {
	header  [tableHeaderSize]byte
	entries []byte // the used ones
}

// ReadTable reads the table of the disk or image r, whose logical sectors are
// 512 or 4096 bytes. It is the primary copy: the one that firmware measures when
// it is whole.
func ReadTable(r io.ReaderAt, size int64) (*Table, error) {
	if _, _, err := gpt.Read(r, size); err != nil { // checks both copies
		return nil, err
	}
	for _, sector := range []int64{512, 4096} {
		t := &Table{}
		if _, err := r.ReadAt(t.header[:], sector); err != nil {
			return nil, fmt.Errorf("read partition table: %w", err)
		}
		if string(t.header[:8]) == "EFI PART" {
			return t, t.readEntries(r, sector)
		}
	}
	return nil, fmt.Errorf("read partition table: the primary copy is missing")
}

func (t *Table) readEntries(r io.ReaderAt, sector int64) error {
	at, n, size := int64(le.Uint64(t.header[72:])), le.Uint32(t.header[80:]), le.Uint32(t.header[84:])
	if size != tableEntrySize || n > maxEntries || at < 2 {
		return fmt.Errorf("read partition table: %d entries of %d bytes at sector %d", n, size, at)
	}
	b := make([]byte, int(n)*tableEntrySize)
	if _, err := r.ReadAt(b, at*sector); err != nil {
		return fmt.Errorf("read partition table: %w", err)
	}
	for ; len(b) > 0; b = b[tableEntrySize:] {
		if gpt.GUID(b[:16]) != (gpt.GUID{}) {
			t.entries = append(t.entries, b[:tableEntrySize]...)
		}
	}
	return nil
}

// event is the UEFI_GPT_DATA (PFP section 10.2.5).
func (t *Table) event() []byte {
	b := append([]byte(nil), t.header[:]...)
	b = le.AppendUint64(b, uint64(len(t.entries)/tableEntrySize))
	return append(b, t.entries...)
}
