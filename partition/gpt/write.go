package gpt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"

	"github.com/diskfs/go-diskfs/partition/gpt"
)

// Step is one write of a Plan. When Sync is set, the data must be durable
// before the next step starts.
type Step struct {
	Name   string // "backup array", "backup header", "protective mbr", "primary array", "primary header"
	Offset int64  // bytes from the start of the disk
	Data   []byte
	Sync   bool
}

// Plan returns the writes that put the table on a disk, in the order that
// keeps one valid copy at any cut when the disk already holds a valid primary
// copy: backup array, backup header, protective MBR, primary array, primary
// header, each made durable before the next (rows P25 to P27 of the power-cut
// matrix). No reader depends on the size in the MBR; it comes before the primary
// copy so that whoever reads the new table finds that right, too. Use Replace
// when the primary copy may be damaged.
func (t Table) Plan() ([]Step, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	regions, err := t.encode()
	if err != nil {
		return nil, fmt.Errorf("encode partition table: %w", err)
	}
	ss, last := int64(t.SectorSize), t.Size-int64(t.SectorSize)
	steps := []Step{
		{Name: "backup array", Offset: last - arraySize},
		{Name: "backup header", Offset: last},
		{Name: "protective mbr", Offset: mbrOffset},
		{Name: "primary array", Offset: 2 * ss},
		{Name: "primary header", Offset: ss},
	}
	regions[mbrOffset] = t.protectiveMBR()
	for i := range steps {
		steps[i].Data, steps[i].Sync = regions[steps[i].Offset], true
		if len(steps[i].Data) == 0 {
			return nil, fmt.Errorf("encode partition table: no bytes for the %s", steps[i].Name)
		}
	}
	return steps, nil
}

// Replace returns the steps from old, as Read found it with info, to next on
// the same disk. A damaged primary copy is repaired from old first, because
// the plan's first write goes over the only valid one.
func Replace(old Table, info Info, next Table) ([]Step, error) {
	steps, err := next.Plan()
	if err != nil || info.Primary == nil {
		return steps, err
	}
	repair, err := Repair(old)
	if err != nil {
		return nil, err
	}
	return append(repair, steps...), nil
}

// Repair returns the steps that write the primary copy of a table again, which
// was read from the backup copy.
func Repair(t Table) ([]Step, error) {
	steps, err := t.Plan()
	if err != nil {
		return nil, fmt.Errorf("repair primary copy: %w", err)
	}
	return steps[3:], nil
}

// Syncer is what a target of Write may offer to make bytes durable.
type Syncer interface{ Sync() error }

// Write puts protective MBR, primary and backup copy on w by carrying out
// Plan; w is synced after each step when it is a Syncer. Bytes 0 to 445 (boot
// code) keep their value.
func (t Table) Write(w io.WriterAt) error {
	steps, err := t.Plan()
	if err != nil {
		return err
	}
	return Apply(w, steps)
}

// Apply carries out steps in order on w, synced as each step asks when w is a Syncer.
func Apply(w io.WriterAt, steps []Step) error {
	s, _ := w.(Syncer)
	for _, st := range steps {
		if _, err := w.WriteAt(st.Data, st.Offset); err != nil {
			return fmt.Errorf("write %s at offset %d: %w", st.Name, st.Offset, err)
		}
		if !st.Sync || s == nil {
			continue
		}
		if err := s.Sync(); err != nil {
			return fmt.Errorf("sync %s: %w", st.Name, err)
		}
	}
	return nil
}

const mbrOffset = 446 // partition records of the MBR, UEFI table 5.1

// protectiveMBR returns bytes 446 to 511 of the first sector: one record of
// type 0xEE over the whole disk (UEFI tables 5.3 and 5.4) and the signature.
func (t Table) protectiveMBR() []byte {
	b := make([]byte, 512-mbrOffset)
	copy(b[1:4], []byte{0x00, 0x02, 0x00}) // StartingCHS: sector 2 of the first track, that is LBA 1
	b[4] = 0xee
	copy(b[5:8], []byte{0xff, 0xff, 0xff}) // EndingCHS: beyond what CHS can say
	binary.LittleEndian.PutUint32(b[8:], 1)
	sectors := min(t.Size/int64(t.SectorSize)-1, math.MaxUint32)
	binary.LittleEndian.PutUint32(b[12:], uint32(sectors))
	b[64], b[65] = 0x55, 0xaa
	return b
}

// encode lets go-diskfs serialise the table and returns its writes by offset.
func (t Table) encode() (map[int64][]byte, error) {
	d := &gpt.Table{
		LogicalSectorSize:  t.SectorSize,
		PhysicalSectorSize: t.SectorSize,
		GUID:               t.Disk.String(),
	}
	for _, p := range t.Partitions {
		d.Partitions = append(d.Partitions, &gpt.Partition{
			Index:      p.Index,
			Start:      uint64(p.Start) / uint64(t.SectorSize),
			Size:       uint64(p.Size),
			Type:       gpt.Type(p.Type.String()),
			Name:       p.Name,
			GUID:       p.GUID.String(),
			Attributes: p.Attributes,
		})
	}
	rec := recorder{}
	if err := d.Write(rec, t.Size); err != nil {
		return nil, err
	}
	return rec, nil
}

// recorder is a go-diskfs backend that keeps what is written to it, by offset.
type recorder map[int64][]byte

var errWriteOnly = errors.New("recorder is only written to")

func (r recorder) WriteAt(b []byte, off int64) (int, error) {
	r[off] = append([]byte(nil), b...)
	return len(b), nil
}
func (r recorder) Stat() (fs.FileInfo, error)        { return nil, errWriteOnly }
func (r recorder) Read([]byte) (int, error)          { return 0, errWriteOnly }
func (r recorder) ReadAt([]byte, int64) (int, error) { return 0, errWriteOnly }
func (r recorder) Seek(int64, int) (int64, error)    { return 0, errWriteOnly }
func (r recorder) Close() error                      { return nil }
