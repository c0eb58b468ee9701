// Package gpt writes and reads GUID partition tables (UEFI Specification
// 2.10, section 5): a protective MBR, the primary copy behind it and the
// backup copy in the last sectors of the disk.
//
// Limits: 512 and 4096 byte sectors; written tables have 128 entries of 128
// bytes, start every partition on a 1 MiB boundary and carry no hybrid MBR.
// Every position and length in the API is in bytes, so one Table describes the
// same disk at either sector size.
//
// The bytes of headers and entries come from go-diskfs, which is correct and
// deterministic but checks nothing, so Validate always runs first: go-diskfs
// accepts overlapping partitions and panics on names over 36 UTF-16 units. Two
// things are done here instead. The protective MBR, because go-diskfs cuts the
// sector count of disks above 2 TiB to its low 32 bits where the specification
// asks for 0xFFFFFFFF. And reading, because go-diskfs allocates as much as the
// header asks for (up to 2^64 bytes) and loops forever on an entry size of 0.
//
// Plan, then write: Table.Plan gives the ordered list of writes as values, so
// a caller can journal them and a test can cut after any of them; Table.Write
// carries them out. Read probes both sector sizes, falls back to the backup
// copy and says so in Info.
package gpt

// Sizes fixed by the specification or by this package, in bytes unless said otherwise.
const (
	Align      = 1 << 20 // start of every partition that this package writes
	MaxEntries = 128     // partition entries of a written table; UEFI 5.3.1 asks for room for at least these
	MaxName    = 36      // UTF-16 code units of a partition name, UEFI table 5.6

	headerSize = 92
	entrySize  = 128
	arraySize  = MaxEntries * entrySize
)

// Partition types that firmware and Linux know.
var (
	TypeESP       = MustGUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b") // EFI system partition, UEFI table 5.7
	TypeLinuxData = MustGUID("0fc63daf-8483-4772-8e79-3d69d8477de4") // Linux filesystem data
)

// Table is a partition table of one disk.
type Table struct {
	SectorSize int         `json:"sectorSize"` // logical sector in bytes: 512 or 4096
	Size       int64       `json:"size"`       // whole disk in bytes
	Disk       GUID        `json:"disk"`
	Partitions []Partition `json:"partitions"`
}

// Partition is one entry of a Table.
type Partition struct {
	Index      int    `json:"index"` // position in the entry array, from 1: the number of sdX1
	Name       string `json:"name"`
	Type       GUID   `json:"type"`
	GUID       GUID   `json:"guid"`
	Start      int64  `json:"start"` // bytes from the start of the disk
	Size       int64  `json:"size"`  // bytes
	Attributes uint64 `json:"attributes,omitempty"`
}

// End returns the byte offset just behind the partition.
func (p Partition) End() int64 { return p.Start + p.Size }

// UsableStart returns the first byte offset a partition may have: behind the
// MBR, the header and the entry array.
func (t Table) UsableStart() int64 { return 2*int64(t.SectorSize) + arraySize }

// UsableEnd returns the byte offset behind the last byte a partition may have:
// where the backup entry array starts.
func (t Table) UsableEnd() int64 {
	ss := int64(t.SectorSize)
	if ss <= 0 {
		return 0
	}
	return t.Size/ss*ss - ss - arraySize
}
