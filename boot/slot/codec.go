package slot

import "fmt"

// Sizes of the journal's payload, in bytes. Package state puts it into one of
// two records of 4096 bytes: magic, sequence, SHA-256, then this.
const (
	PayloadSize = 512
	// MaxVersion bounds a version text, MaxDetail that of the last failure.
	MaxVersion = 54
	MaxDetail  = 192
	// MaxRejections bounds the list of rejected versions: so many and a
	// header fit into 64 KiB. The oldest are forgotten.
	MaxRejections = 500
)

const (
	format        = 1
	contentSize   = 128
	rejectionSize = 128
)

// payload is the journal as it lies on disk, little endian. The first byte is
// the good slot's letter in every version, for selectors that were written
// once, years before. Later versions only add after the last byte here, and
// give no byte another meaning: the good slot has to read what a newer
// candidate wrote about its trial.
type payload struct {
	Good        byte
	Format      byte
	Phase       Phase
	Candidate   Slot
	Means       Means
	Flags       byte // bit 0 launched, bit 1 guarded, bit 2 deaf
	Cause       Cause
	Culprit     Slot
	TriesLeft   uint8
	Attempt     uint8
	Arms        uint8
	Lost        uint8
	Failures    uint8
	Bounces     uint8
	Heals       uint16
	Floor       uint32
	Schema      uint16
	DetailBytes uint16
	Generation  uint64
	Seen        uint64
	Reserved    [24]byte
	Slots       [2]content
	Detail      [MaxDetail]byte
}

type content struct {
	Image        Digest
	Root         Digest
	Epoch        uint32
	Schema       uint16
	Accepts      uint16
	Condition    Condition
	VersionBytes uint8
	Version      [MaxVersion]byte
}

type rejection struct {
	Image        Digest
	Cause        Cause
	VersionBytes uint8
	Version      [rejectionSize - 34]byte // of which MaxVersion are used
}

// FormatError says which field of a record does not hold, and where.
type FormatError struct {
	Off   int // in the payload, in bytes
	Field string
	Msg   string
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("slot journal, offset %d, %s: %s", e.Off, e.Field, e.Msg)
}

// GoodOf returns the good slot of a journal of any version, and A when it names
// none: every disk begins with slot a.
func GoodOf(journal []byte) Slot {
	if len(journal) > 0 && Slot(journal[0]) == B {
		return B
	}
	return A
}
