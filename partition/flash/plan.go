package flash

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/gpt"
	"github.com/ingot-os/ingot/partition/state"
)

const mib = 1 << 20

// plan is what the whole device shall hold, computed before anything is written.
type plan struct {
	layout partition.Layout // on the device
	body   []piece          // everything between the copies of the partition table
	head   piece            // first MiB: protective MBR and primary copy
	tail   piece            // end of the device: backup copy

	image *os.File    // nil for a volume, which nobody else has
	info  os.FileInfo // of image when the plan was made
}

// unchanged reports whether the image is still the file that was planned from.
// One that is rewritten meanwhile would be a mixture, one that is cut would
// read as a hole.
func (p plan) unchanged() error {
	if p.image == nil {
		return nil
	}
	now, err := p.image.Stat()
	if err != nil {
		return fmt.Errorf("look at image again: %w", err)
	}
	if now.Size() != p.info.Size() || !now.ModTime().Equal(p.info.ModTime()) {
		return fmt.Errorf("image %s changed while it was written", p.image.Name())
	}
	return nil
}

// piece is a run of bytes of the device and where they come from.
type piece struct {
	off, size int64       // on the device
	src       io.ReaderAt // byte i of the piece is byte srcOff+i of src
	srcOff    int64
	image     *source // src when it is the image, whose holes need not be read
}

func (p piece) end() int64 { return p.off + p.size }

// bytes returns the length of all pieces.
func (p plan) bytes() int64 {
	n := p.head.size + p.tail.size
	for _, b := range p.body {
		n += b.size
	}
	return n
}

// imageLayout recognises the image. Both copies of its partition table must be
// whole: where one is not, other parts are damaged or cut off too.
func imageLayout(s *source, name string) (partition.Layout, error) {
	table, info, err := gpt.Read(s, s.size)
	if err == nil {
		err = errors.Join(info.Primary, info.Backup)
	}
	var l partition.Layout
	if err == nil {
		l, err = partition.FromTable(table)
	}
	var format *gpt.FormatError
	if errors.Is(err, gpt.ErrNoTable) || errors.Is(err, partition.ErrForeign) || errors.As(err, &format) {
		return l, &RefusedError{name, []Refusal{{Foreign, fmt.Sprintf("not an ingot disk image: %v", err), "name an image set, or its .img or .img.zst"}}}
	}
	return l, err
}

// makePlan places the image on the device: the partitions where they were,
// data up to the end, the table for the device's size and sectors.
func makePlan(image *source, l partition.Layout, d Device, o Options) (plan, error) {
	table := l.Table()
	if d.SectorSize != 0 {
		table.SectorSize = d.SectorSize
	}
	_, hasData := l.Part(partition.Data)
	table, err := gpt.Grow(table, d.Size/int64(table.SectorSize)*int64(table.SectorSize), hasData)
	if err != nil {
		return plan{}, err
	}
	target, err := partition.FromTable(table)
	if err != nil {
		return plan{}, err
	}
	if o.Rekey {
		target = partition.Rekey(target, o.HostID)
	}
	p := plan{layout: target, image: image.file}
	if p.info, err = image.file.Stat(); err != nil {
		return plan{}, fmt.Errorf("look at image: %w", err)
	}
	if p.body, err = body(image, l, o); err != nil {
		return plan{}, err
	}
	return p, p.addTable(d.Size)
}

// body returns the image from the first partition to the end of the last one,
// with machine.yaml put into the state partition.
func body(image *source, l partition.Layout, o Options) ([]piece, error) {
	last := l.Parts[len(l.Parts)-1]
	from := func(off, end int64) piece { return piece{off, end - off, image, off, image} }
	if o.MachineYAML == nil {
		return []piece{from(mib, last.End())}, nil
	}
	st, _ := l.Part(partition.State)
	region := make(memory, state.Size)
	if _, err := image.ReadAt(region, st.Start); err != nil {
		return nil, fmt.Errorf("read state partition of the image: %w", err)
	}
	if err := state.Store(region, state.Machine, o.MachineYAML); err != nil {
		return nil, fmt.Errorf("put machine.yaml on the state partition: %w", err)
	}
	pieces := []piece{
		from(mib, st.Start),
		{off: st.Start, size: state.Size, src: region},
	}
	if rest := from(st.Start+state.Size, last.End()); rest.size > 0 {
		pieces = append(pieces, rest)
	}
	return pieces, nil
}

// addTable renders both copies of the partition table into the first and the
// last MiB, where everything else is zero. The last MiB goes to the very end
// of the device, so that no backup copy of an old table for another sector
// size stays; it is longer where that leaves no gap behind data.
func (p *plan) addTable(deviceSize int64) error {
	steps, err := p.layout.Table().Plan()
	if err != nil {
		return err
	}
	tailOff := (deviceSize - mib) / 4096 * 4096
	if end := p.layout.Parts[len(p.layout.Parts)-1].End(); tailOff < end+2*mib {
		tailOff = end
	}
	head, tail := make(memory, mib), make(memory, deviceSize-tailOff)
	for _, s := range steps {
		if s.Offset < mib {
			copy(head[s.Offset:], s.Data)
		} else {
			copy(tail[s.Offset-tailOff:], s.Data)
		}
	}
	p.head = piece{off: 0, size: mib, src: head}
	p.tail = piece{off: tailOff, size: int64(len(tail)), src: tail}
	return nil
}

// memory is bytes that can be read and written at any offset within them.
type memory []byte

// ReadAt implements io.ReaderAt.
func (m memory) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 || off >= int64(len(m)) {
		return 0, io.EOF
	}
	n := copy(b, m[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt implements io.WriterAt.
func (m memory) WriteAt(b []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(b)) > int64(len(m)) {
		return 0, io.ErrShortWrite
	}
	return copy(m[off:], b), nil
}
