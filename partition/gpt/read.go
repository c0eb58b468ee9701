package gpt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"unicode/utf16"
)

// maxArray bounds the memory that a hostile header can ask for, in bytes; it
// is 64 times what UEFI 5.3.1 requires and more than any known tool writes.
const maxArray = 1 << 20

// Info says how Read found a Table.
type Info struct {
	// FromBackup is set when the table is the backup copy's because the
	// primary one is damaged; the next writer should use Replace.
	FromBackup bool
	Primary    error // why the primary copy does not count; nil when it is valid
	// Backup is why the backup copy does not count: damaged, missing, or
	// different from the primary. nil when both copies agree.
	Backup error
	// BackupOffset is where the backup header is, in bytes, or should be by
	// the primary header. It is not the last sector when an image was copied
	// to a larger disk.
	BackupOffset int64
}

// Read finds the table of a disk of size bytes: the primary copy at sector
// sizes 512 and 4096, then the backup in the last sector. The error wraps
// ErrNoTable when there is no trace of one, and names every *FormatError
// otherwise. The partitions of a table that is read lie within the disk, but
// may overlap or be unaligned: Validate tells.
func Read(r io.ReaderAt, size int64) (Table, Info, error) {
	var errs []error
	for _, ss := range []int64{512, 4096} {
		c, err := readCopy(r, ss, ss, size)
		if err == nil {
			return c.table, infoOf(r, c, size), nil
		}
		errs = append(errs, err)
	}
	for i, ss := range []int64{512, 4096} {
		at := size/ss*ss - ss
		c, err := readCopy(r, at, ss, size)
		if err == nil {
			return c.table, Info{FromBackup: true, Primary: errs[i], BackupOffset: at}, nil
		}
		errs = append(errs, err)
	}
	return Table{}, Info{}, fmt.Errorf("read partition table: %w", foundNothing(errs))
}

// foundNothing drops the errors of the places that held no signature at all.
func foundNothing(errs []error) error {
	errs = slices.DeleteFunc(errs, func(err error) bool { return errors.Is(err, ErrNoTable) })
	if len(errs) == 0 {
		return ErrNoTable
	}
	return errors.Join(errs...)
}

// infoOf looks at the backup copy that belongs to a valid primary one.
func infoOf(r io.ReaderAt, primary diskCopy, size int64) Info {
	ss := int64(primary.table.SectorSize)
	info := Info{BackupOffset: -1}
	if primary.Alternate >= uint64(size/ss) {
		info.Backup = &FormatError{ss + 32, "AlternateLBA", fmt.Sprintf("sector %d lies beyond the end of the disk", primary.Alternate)}
		return info
	}
	info.BackupOffset = int64(primary.Alternate) * ss
	backup, err := readCopy(r, info.BackupOffset, ss, size)
	switch {
	case err != nil:
		info.Backup = err
	case backup.Disk != primary.Disk || backup.EntriesCRC != primary.EntriesCRC:
		info.Backup = &FormatError{info.BackupOffset, "backup copy", "differs from the primary copy"}
	}
	return info
}

// diskCopy is one checked copy of a table.
type diskCopy struct {
	header
	table Table
}

// readCopy reads the header at byte offset at and the entry array it points to.
func readCopy(r io.ReaderAt, at, ss, size int64) (diskCopy, error) {
	c := diskCopy{table: Table{SectorSize: int(ss), Size: size / ss * ss}}
	if at < ss || at > size-ss {
		return c, ErrNoTable
	}
	sector := make([]byte, ss)
	if n, err := r.ReadAt(sector, at); n < len(sector) {
		return c, fmt.Errorf("read partition table header at offset %d: %w", at, err)
	}
	if err := c.parseHeader(sector, at); err != nil {
		return c, err
	}
	array := make([]byte, int64(c.Entries)*int64(c.EntrySize))
	if n, err := r.ReadAt(array, int64(c.EntriesLBA)*ss); n < len(array) {
		return c, fmt.Errorf("read partition entries at sector %d: %w", c.EntriesLBA, err)
	}
	if got := crc32.ChecksumIEEE(array); got != c.EntriesCRC {
		return c, &FormatError{at + 88, "PartitionEntryArrayCRC32", fmt.Sprintf("%08x, entries have %08x", c.EntriesCRC, got)}
	}
	return c, c.parseEntries(array)
}

// parseHeader checks everything that UEFI 5.3.2 demands of a header found at
// offset at, so that all later arithmetic is within the disk.
func (c *diskCopy) parseHeader(sector []byte, at int64) error {
	if _, err := binary.Decode(sector, binary.LittleEndian, &c.header); err != nil {
		return fmt.Errorf("decode partition table header: %w", err)
	}
	if string(c.Signature[:]) != "EFI PART" {
		return ErrNoTable
	}
	ss := int64(c.table.SectorSize)
	sectors := uint64(c.table.Size / ss)
	arrayBytes := uint64(c.Entries) * uint64(c.EntrySize)
	arraySectors := (arrayBytes + uint64(ss) - 1) / uint64(ss)
	checks := []struct {
		ok    bool
		off   int64
		field string
		got   any
	}{
		{c.Revision == 0x00010000, 8, "Revision", c.Revision},
		{c.HeaderSize >= headerSize && int64(c.HeaderSize) <= ss, 12, "HeaderSize", c.HeaderSize},
		{c.MyLBA == uint64(at/ss), 24, "MyLBA", c.MyLBA},
		{c.EntrySize >= entrySize && c.EntrySize&(c.EntrySize-1) == 0, 84, "SizeOfPartitionEntry", c.EntrySize},
		{arrayBytes <= maxArray, 80, "NumberOfPartitionEntries", c.Entries},
		{c.EntriesLBA < sectors && arraySectors <= sectors-c.EntriesLBA, 72, "PartitionEntryLBA", c.EntriesLBA},
		{c.FirstUsable <= c.LastUsable && c.FirstUsable > 0, 40, "FirstUsableLBA", c.FirstUsable},
		{c.LastUsable < sectors, 48, "LastUsableLBA", c.LastUsable},
	}
	for _, ck := range checks {
		if !ck.ok {
			return &FormatError{at + ck.off, ck.field, fmt.Sprintf("impossible value %d", ck.got)}
		}
	}
	b := bytes.Clone(sector[:c.HeaderSize])
	clear(b[16:20])
	if got := crc32.ChecksumIEEE(b); got != c.CRC {
		return &FormatError{at + 16, "HeaderCRC32", fmt.Sprintf("%08x, header has %08x", c.CRC, got)}
	}
	c.table.Disk = c.Disk
	return nil
}

// parseEntries turns the used entries of the array into partitions.
func (c *diskCopy) parseEntries(array []byte) error {
	ss := int64(c.table.SectorSize)
	for i := range int(c.Entries) {
		off := i * int(c.EntrySize)
		var e entry
		if _, err := binary.Decode(array[off:], binary.LittleEndian, &e); err != nil {
			return fmt.Errorf("decode partition entry %d: %w", i+1, err)
		}
		if e.Type.IsZero() {
			continue
		}
		if e.First < c.FirstUsable || e.Last < e.First || e.Last > c.LastUsable {
			return &FormatError{int64(c.EntriesLBA)*ss + int64(off) + 32, "StartingLBA",
				fmt.Sprintf("partition %d covers sectors %d..%d, usable are %d..%d", i+1, e.First, e.Last, c.FirstUsable, c.LastUsable)}
		}
		c.table.Partitions = append(c.table.Partitions, Partition{
			Index: i + 1, Name: decodeName(e.Name), Type: e.Type, GUID: e.GUID,
			Start: int64(e.First) * ss, Size: int64(e.Last-e.First+1) * ss, Attributes: e.Attributes,
		})
	}
	return nil
}

// decodeName reads UTF-16 up to the first NUL; broken surrogates become U+FFFD.
func decodeName(units [MaxName]uint16) string {
	n := slices.Index(units[:], 0)
	if n < 0 {
		n = len(units)
	}
	return string(utf16.Decode(units[:n]))
}
