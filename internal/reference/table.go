package reference

import (
	"io"

	"github.com/ingot-os/ingot/attest/predict"
	"github.com/ingot-os/ingot/partition"
)

// table is the partition table of a layout as firmware measures it, written to
// a disk of nothing else.
func table(l *partition.Layout) (*predict.Table, error) {
	d := &blank{size: l.Size}
	if err := l.Table().Write(d); err != nil {
		return nil, err
	}
	return predict.ReadTable(d, l.Size)
}

// blank is a disk of zeros in which the few runs lie that were written.
type blank struct {
	size int64
	runs []run // in the order of writing
}

type run struct {
	at int64
	b  []byte
}

// WriteAt implements io.WriterAt.
func (d *blank) WriteAt(b []byte, off int64) (int, error) {
	d.runs = append(d.runs, run{off, append([]byte(nil), b...)})
	return len(b), nil
}

// ReadAt implements io.ReaderAt.
func (d *blank) ReadAt(b []byte, off int64) (int, error) {
	n := int(min(int64(len(b)), max(d.size-off, 0)))
	clear(b[:n])
	for _, r := range d.runs {
		from, to := max(off, r.at), min(off+int64(n), r.at+int64(len(r.b)))
		if from < to {
			copy(b[from-off:to-off], r.b[from-r.at:])
		}
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}
