package state

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ErrEmpty is wrapped by Load when a region has no valid copy.
var ErrEmpty = errors.New("region is empty")

// ErrDamaged is wrapped beside ErrEmpty when a copy is there but not valid:
// the first write was cut, or the partition holds something else.
var ErrDamaged = errors.New("record is damaged")

// Load returns the payload and sequence of the region's newest valid copy.
func Load(r io.ReaderAt, region Region) (payload []byte, seq uint64, err error) {
	copies, err := readBoth(r, region)
	if err != nil {
		return nil, 0, fmt.Errorf("load: %w", err)
	}
	if c := copies[newest(copies)]; c.err == nil {
		return c.payload, c.seq, nil
	}
	err = fmt.Errorf("load %s: %w", region, ErrEmpty)
	for i, c := range copies {
		switch {
		case c.unread:
			return nil, 0, fmt.Errorf("load %s, copy %d: %w", region, i, c.err)
		case !errors.Is(c.err, ErrEmpty):
			err = fmt.Errorf("%w; copy %d: %w", err, i, c.err)
		}
	}
	return nil, 0, err
}

// Status is one copy of a region as Scan found it.
type Status struct {
	Region  Region `json:"-"`
	Name    string `json:"name"`
	Copy    int    `json:"copy"`
	Offset  int64  `json:"offset"` // bytes from the start of the partition
	Seq     uint64 `json:"seq,omitempty"`
	Payload []byte `json:"payload,omitempty"`
	Current bool   `json:"current"` // the copy that Load returns
	Err     error  `json:"-"`       // nil, the reader's, or wraps ErrEmpty or ErrDamaged
}

// Scan returns both copies of all regions in order on the partition.
func Scan(r io.ReaderAt) []Status {
	var out []Status
	for region := range regions {
		copies, _ := readBoth(r, region) // every region of the loop exists
		for i, c := range copies {
			out = append(out, Status{
				Region: region, Name: region.String(), Copy: i, Offset: region.offset(i),
				Seq: c.seq, Payload: c.payload, Current: c.err == nil && i == newest(copies), Err: c.err,
			})
		}
	}
	return out
}

// record is one copy; err says why it does not count. A copy that cannot be
// read counts like a damaged one as long as the other is valid: two copies are
// there to survive a bad sector.
type record struct {
	seq     uint64
	payload []byte
	err     error
	unread  bool // err comes from the reader
}

// newest returns the number of the valid copy with the higher sequence; 0 when
// there is none, or on a tie, which no Store leaves behind.
func newest(c [2]record) int {
	if c[1].err == nil && (c[0].err != nil || c[1].seq > c[0].seq) {
		return 1
	}
	return 0
}

// readBoth fails only when there is no such region.
func readBoth(r io.ReaderAt, region Region) (copies [2]record, err error) {
	if region >= regions {
		return copies, fmt.Errorf("%s does not exist", region)
	}
	for i := range copies {
		copies[i] = readCopy(r, region, i)
	}
	return copies, nil
}

func readCopy(r io.ReaderAt, region Region, slot int) record {
	off := region.offset(slot)
	first := make([]byte, block)
	if n, err := r.ReadAt(first, off); n < block {
		return record{err: err, unread: true}
	}
	h, err := parseHeader(first)
	if err != nil {
		return record{err: err}
	}
	if bytes.Count(first[:headerSize], []byte{0}) == headerSize {
		return record{err: ErrEmpty}
	}
	if msg := h.check(region); msg != "" {
		return record{err: fmt.Errorf("%w: %s", ErrDamaged, msg)}
	}
	b := make([]byte, headerSize+int(h.Length))
	if n := copy(b, first); n < len(b) {
		if m, err := r.ReadAt(b[n:], off+int64(n)); m < len(b)-n {
			return record{err: err, unread: true}
		}
	}
	if sum(b) != h.Sum {
		return record{err: fmt.Errorf("%w: checksum differs", ErrDamaged)}
	}
	return record{seq: h.Seq, payload: b[headerSize:]}
}

// check returns what is wrong with the fields, so that Length may be believed.
func (h header) check(region Region) string {
	switch {
	case string(h.Magic[:]) != magic:
		return "magic differs"
	case h.Region != region:
		return fmt.Sprintf("belongs to %s", h.Region)
	case int64(h.Length) > int64(region.Capacity()):
		return fmt.Sprintf("length %d is over %d", h.Length, region.Capacity())
	case h.Seq == 0 || h.Seq > maxSeq:
		return fmt.Sprintf("sequence %d is impossible", h.Seq)
	case h.Reserved != [8]byte{}:
		return "reserved bytes are not zero"
	}
	return ""
}

// sum is the checksum of a record of header and payload.
func sum(b []byte) [32]byte {
	s := sha256.New()
	s.Write(b[:32])
	s.Write(b[headerSize:])
	return [32]byte(s.Sum(nil))
}

// encode returns the whole copy, a multiple of 4096 bytes.
func encode(region Region, seq uint64, payload []byte) []byte {
	n := headerSize + len(payload)
	b := make([]byte, (n+block-1)/block*block)
	copy(b, magic)
	binary.LittleEndian.PutUint32(b[8:], uint32(region))
	binary.LittleEndian.PutUint32(b[12:], uint32(len(payload)))
	binary.LittleEndian.PutUint64(b[16:], seq)
	copy(b[headerSize:], payload)
	s := sum(b[:n])
	copy(b[32:], s[:])
	return b
}

// ReadWriterAt is the state partition; offset 0 is its first byte.
type ReadWriterAt interface {
	io.ReaderAt
	io.WriterAt
}

// Syncer is what a partition may offer to make writes durable. Store calls it
// before it reads back; on a disk it should also see that the read is not
// answered from a cache.
type Syncer interface{ Sync() error }

// Store makes payload the region's newest record by replacing its older copy
// in one aligned write, flushing and reading back. After any error Load still
// returns a whole record: the previous one or this one.
func Store(rw ReadWriterAt, region Region, payload []byte) error {
	if len(payload) > region.Capacity() {
		return fmt.Errorf("store %s: %d bytes are more than the %d it holds", region, len(payload), region.Capacity())
	}
	copies, err := readBoth(rw, region)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	last := newest(copies)
	seq, at := copies[last].seq+1, 1-last
	if copies[last].err != nil {
		seq, at = 1, 0
	}
	if seq > maxSeq {
		return fmt.Errorf("store %s: sequence is exhausted", region)
	}
	b, off := encode(region, seq, payload), region.offset(at)
	if _, err := rw.WriteAt(b, off); err != nil {
		return fmt.Errorf("store %s, copy %d: %w", region, at, err)
	}
	if s, ok := rw.(Syncer); ok {
		if err := s.Sync(); err != nil {
			return fmt.Errorf("flush %s, copy %d: %w", region, at, err)
		}
	}
	got := make([]byte, len(b))
	if n, err := rw.ReadAt(got, off); n < len(got) {
		return fmt.Errorf("read back %s, copy %d: %w", region, at, err)
	}
	if !bytes.Equal(got, b) {
		return fmt.Errorf("read back %s, copy %d: bytes at offset %d differ from what was written", region, at, off)
	}
	return nil
}
