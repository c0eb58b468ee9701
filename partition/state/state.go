// Package state is the map of the state partition p6: 16 MiB without a file
// system, small regions at fixed offsets, each kept twice.
//
// A region's copy 0 is at 2i MiB and copy 1 at 2i+1 MiB, where i is the
// Region; bytes from 14 MiB on are reserved and zero. The copies are a MiB
// apart, so that a flash chip which damages more than the page it was writing
// when power failed (MiB-sized erase blocks are common) does not take both.
//
//	 0  8  magic "INGOTST1"
//	 8  4  region
//	12  4  length of the payload in bytes
//	16  8  sequence, from 1
//	24  8  reserved, zero
//	32 32  SHA-256 of bytes 0-31 and the payload
//	64     payload, then zeros up to a multiple of 4096
//
// All numbers are little endian. Store replaces the older copy with a sequence
// one higher, flushes and reads back; Load takes the valid copy with the
// highest sequence. So a cut in the middle of a write leaves the region as it
// was, and a journal record is one aligned write of 4096 bytes. A partition of
// zeros is valid: every region is empty.
//
// Whoever can write the disk can write this partition, so nothing in it is
// trusted; the checksum finds accidents, not attackers. Reading is bounded by
// the region's capacity whatever the bytes say.
package state

import (
	"encoding/binary"
	"fmt"
)

// Size is the size of the whole map in bytes; a state partition may be larger.
const Size = 16 << 20

// Region is one kind of record.
type Region uint32

// The regions, in order on the partition.
const (
	Journal  Region = iota // slot journal, one 4 KiB record (D5)
	Machine                // machine.yaml, at most 64 KiB
	Evidence               // why the last trial failed: log lines, 64 KiB
	Clock                  // lowest time that may be believed (S16)
	Rejected               // versions that failed here
	Trust                  // trust metadata
	Update                 // how much of an update is written, and how the machine was before its trial
	regions
)

const (
	stride     = 1 << 20 // bytes between copies
	block      = 4096
	headerSize = 64
	magic      = "INGOTST1"
	// maxSeq makes a record with a forged huge sequence invalid instead of
	// the last one ever.
	maxSeq = 1 << 62
)

var table = [regions]struct {
	name     string
	capacity int
}{
	{"journal", block - headerSize},
	{"machine", 64 << 10},
	{"evidence", 64 << 10},
	{"clock", block - headerSize},
	{"rejected", 64 << 10},
	{"trust", 512 << 10},
	{"update", 64 << 10},
}

// Entry is one row of the Map.
type Entry struct {
	Region   Region   `json:"-"`
	Name     string   `json:"name"`
	Offsets  [2]int64 `json:"offsets"`  // of both copies, bytes from the start of the partition
	Capacity int      `json:"capacity"` // of the payload in bytes
}

// Map returns all regions in order.
func Map() []Entry {
	m := make([]Entry, regions)
	for r := range regions {
		m[r] = Entry{r, r.String(), [2]int64{r.offset(0), r.offset(1)}, r.Capacity()}
	}
	return m
}

// String gives the region's name: "journal", "machine", ...
func (r Region) String() string {
	if r >= regions {
		return fmt.Sprintf("region %d", uint32(r))
	}
	return table[r].name
}

// Capacity returns the largest payload in bytes.
func (r Region) Capacity() int {
	if r >= regions {
		return 0
	}
	return table[r].capacity
}

func (r Region) offset(slot int) int64 { return (2*int64(r) + int64(slot)) * stride }

// header is the first 64 bytes of a copy.
type header struct {
	Magic    [8]byte
	Region   Region
	Length   uint32
	Seq      uint64
	Reserved [8]byte
	Sum      [32]byte
}

// parseHeader decodes the fields; whether they hold is for check to say.
func parseHeader(b []byte) (h header, err error) {
	_, err = binary.Decode(b, binary.LittleEndian, &h)
	return h, err
}
