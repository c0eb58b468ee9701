package flash

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/ingot-os/ingot/partition"
)

// job is one run of carryOut.
type job struct {
	w           *disk
	layout      partition.Layout
	buf, back   []byte // what shall be there, what is
	res         *Result
	report      func(done, total int64)
	done, total int64
}

func (j *job) advance(n int64) {
	j.done += n
	if j.report != nil {
		j.report(j.done, j.total)
	}
}

// erase zeroes the places of the partition table, for now.
func (j *job) erase(pieces ...piece) error {
	for _, p := range pieces {
		if err := j.w.Zero(p.off, p.size); err != nil {
			return fmt.Errorf("erase partition table at offset %d: %w", p.off, err)
		}
	}
	return j.sync()
}

func (j *job) sync() error {
	if err := j.w.Sync(); err != nil {
		return fmt.Errorf("flush device: %w", err)
	}
	return nil
}

// write puts pieces on the device and flushes it.
func (j *job) write(ctx context.Context, pieces ...piece) error {
	data := func(off int64, b []byte) error {
		if _, err := j.w.WriteAt(b, off); err != nil {
			return fmt.Errorf("write device at offset %d: %w", off, err)
		}
		j.res.Written += int64(len(b))
		j.advance(int64(len(b)))
		return nil
	}
	zeros := func(off, n int64) error {
		if err := j.w.Zero(off, n); err != nil {
			return fmt.Errorf("zero device at offset %d: %w", off, err)
		}
		j.res.Zeroed += n
		j.advance(n)
		return nil
	}
	for _, p := range pieces {
		if err := segments(ctx, p, j.buf, data, zeros); err != nil {
			return err
		}
	}
	return j.sync()
}

// verify reads pieces back and compares every byte.
func (j *job) verify(ctx context.Context, d Device, pieces ...piece) error {
	r, err := openMedium(d)
	if err != nil {
		return err
	}
	defer r.Close()
	defer func() { j.res.Direct = r.direct != nil }()
	data := func(off int64, want []byte) error { return j.compare(r, off, want) }
	zeros := func(off, n int64) error {
		for end := off + n; off < end; {
			want := j.w.zero[:min(end-off, chunk)]
			if err := j.compare(r, off, want); err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			off += int64(len(want))
		}
		return nil
	}
	for _, p := range pieces {
		if err := segments(ctx, p, j.buf, data, zeros); err != nil {
			return err
		}
	}
	return nil
}

// compare reads as many bytes as want has, at most a chunk.
func (j *job) compare(r io.ReaderAt, off int64, want []byte) error {
	got := j.back[:len(want)]
	if n, err := r.ReadAt(got, off); n < len(got) {
		return fmt.Errorf("read back device at offset %d: %w", off, err)
	}
	if !bytes.Equal(got, want) {
		return mismatch(j.layout, off, want, got)
	}
	j.res.Verified += int64(len(want))
	j.advance(int64(len(want)))
	return nil
}

// MismatchError is the first byte that differs after flashing: bad or
// counterfeit media, a bad cable, or another writer.
type MismatchError struct {
	Off       int64  // on the device
	Partition string // role of the partition, or "partition table"
	PartOff   int64  // in the partition, or on the device for the table
	Want, Got byte
}

// Error implements error.
func (e *MismatchError) Error() string {
	return fmt.Sprintf("read back device: byte %d (%s, offset %d) is %#02x, want %#02x", e.Off, e.Partition, e.PartOff, e.Got, e.Want)
}

func mismatch(l partition.Layout, off int64, want, got []byte) *MismatchError {
	i := 0
	for want[i] == got[i] {
		i++
	}
	e := &MismatchError{Off: off + int64(i), Partition: "partition table", PartOff: off + int64(i), Want: want[i], Got: got[i]}
	for _, p := range l.Parts {
		if e.Off >= p.Start && e.Off < p.End() {
			e.Partition, e.PartOff = p.Role, e.Off-p.Start
		}
	}
	return e
}
