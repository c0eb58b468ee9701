package updater

import (
	"bytes"
	"fmt"
	"io"
)

// checkpoint is how much is written between two flushes, in bytes: as much may
// come again after a reset.
const checkpoint = 16 << 20

// depth is how many pieces wait for the disk, or were read from it already.
const depth = 3

// medium is a device as package slot writes it. What is written goes to the disk
// while the next piece is received, and what is read back comes from it while
// the piece before is hashed. Everything reaches the disk in the order of the
// calls.
type medium struct {
	d       *device
	flushed func(end int64) // all bytes before end are durable; may be nil
	free    chan []byte
	work    chan job
	done    chan struct{}
	ahead   *ahead

	// of the goroutine
	err    error
	zeros  [2]int64 // a range to be zeroed, not yet begun
	since  int64    // bytes since the last flush
	sealed int64    // end of what is durable
}

// job is a piece to be written, or a wait for all before it.
type job struct {
	b     []byte
	off   int64
	reply chan error
}

func newMedium(d *device, flushed func(end int64)) *medium {
	m := &medium{d: d, flushed: flushed, free: make(chan []byte, depth), work: make(chan job, depth), done: make(chan struct{})}
	for range depth {
		m.free <- buffer(piece)
	}
	go m.run()
	return m
}

// close waits for what is on its way. It does not flush.
func (m *medium) close() {
	m.stopReading()
	close(m.work)
	<-m.done
}

// WriteAt implements io.WriterAt. An error may be that of an earlier call. Both
// offset and length are multiples of align.
func (m *medium) WriteAt(b []byte, off int64) (int, error) {
	m.stopReading()
	for n := 0; n < len(b); {
		buf := (<-m.free)[:piece]
		k := copy(buf, b[n:])
		m.work <- job{b: buf[:k], off: off + int64(n)}
		n += k
	}
	return len(b), nil
}

// Sync implements slot.Device.
func (m *medium) Sync() error {
	reply := make(chan error)
	m.work <- job{reply: reply}
	return <-reply
}

func (m *medium) run() {
	defer close(m.done)
	for j := range m.work {
		if j.reply != nil {
			m.safely(m.flush)
			j.reply <- m.err
			continue
		}
		m.safely(func() { m.put(j) })
		m.free <- j.b
	}
}

// safely makes an error of a panic: this runs in PID 1, and somebody waits.
func (m *medium) safely(f func()) {
	defer func() {
		if v := recover(); v != nil {
			m.err = fmt.Errorf("write the partition: %v", v)
		}
	}()
	f()
}

// put writes a piece. Zeros are kept back, so that a long range of them is one
// request.
func (m *medium) put(j job) {
	if m.err != nil {
		return
	}
	end := j.off + int64(len(j.b))
	if isZero(j.b) {
		if m.zeros[1] != j.off {
			m.putZeros()
			m.zeros[0] = j.off
		}
		m.zeros[1] = end
	} else {
		m.putZeros()
		if m.err == nil {
			m.err = m.d.write(j.b, j.off)
		}
	}
	m.sealed = end
	if m.since += int64(len(j.b)); m.since >= checkpoint {
		m.flush()
	}
}

func (m *medium) putZeros() {
	if n := m.zeros[1] - m.zeros[0]; n > 0 && m.err == nil {
		m.err = m.d.zero(m.zeros[0], n)
	}
	m.zeros = [2]int64{}
}

func (m *medium) flush() {
	m.putZeros()
	if m.err == nil {
		m.err = m.d.sync()
	}
	m.since = 0
	if m.err == nil && m.flushed != nil {
		m.flushed(m.sealed)
	}
}

// ReadAt implements io.ReaderAt. Reading on from where the last call ended is
// fast.
func (m *medium) ReadAt(b []byte, off int64) (int, error) {
	if m.ahead == nil || m.ahead.next != off {
		m.stopReading()
		if err := m.Sync(); err != nil {
			return 0, err
		}
		m.ahead = readAhead(m.d, off)
	}
	return m.ahead.read(b)
}

func (m *medium) stopReading() {
	if m.ahead != nil {
		m.ahead.close()
		m.ahead = nil
	}
}

var zeros = make([]byte, piece)

func isZero(b []byte) bool {
	// The first word tells most pieces apart, the comparison is by memcmp.
	return len(b) <= len(zeros) && bytes.Equal(b, zeros[:len(b)])
}

// ahead reads a device from an offset on, some pieces before they are asked for.
type ahead struct {
	next  int64 // offset of the next byte that read gives
	ready chan filled
	free  chan []byte
	stop  chan struct{}
	done  chan struct{}
	have  filled
}

type filled struct {
	b   []byte
	buf []byte
	err error
}

func readAhead(d *device, off int64) *ahead {
	a := &ahead{next: off, ready: make(chan filled, depth), free: make(chan []byte, depth), stop: make(chan struct{}), done: make(chan struct{})}
	for range depth {
		a.free <- buffer(piece)
	}
	go a.run(d, off)
	return a
}

func (a *ahead) run(d *device, off int64) {
	defer close(a.done)
	defer close(a.ready)
	for skip := off % align; off < d.size; skip = 0 {
		var buf []byte
		select {
		case buf = <-a.free:
		case <-a.stop:
			return
		}
		start := off - skip
		b := buf[:min(piece-start%piece, d.size-start)]
		err := readSafely(d, b, start)
		select {
		case a.ready <- filled{b[skip:], buf, err}:
		case <-a.stop:
			return
		}
		if err != nil {
			return
		}
		off = start + int64(len(b))
	}
}

// readSafely makes an error of a panic.
func readSafely(d *device, b []byte, off int64) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("read the partition: %v", v)
		}
	}()
	return d.read(b, off)
}

func (a *ahead) read(b []byte) (n int, err error) {
	for n < len(b) {
		if a.have.err != nil { // its bytes were not read
			return n, a.have.err
		}
		if len(a.have.b) == 0 {
			if a.have.buf != nil {
				a.free <- a.have.buf
			}
			var ok bool
			if a.have, ok = <-a.ready; !ok {
				return n, io.EOF
			}
			continue
		}
		k := copy(b[n:], a.have.b)
		a.have.b = a.have.b[k:]
		n += k
		a.next += int64(k)
	}
	return n, nil
}

func (a *ahead) close() {
	close(a.stop)
	<-a.done
}
