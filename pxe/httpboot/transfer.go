package httpboot

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// Pieces of a file. After each the watch of slow clients begins anew, and the
// file is looked at. The first is small, so that the time of the first byte is
// that; the last is copied out of the file and checked before it goes: a client
// has a whole file only when nothing has changed until then.
const (
	firstPiece = 64 << 10
	piece      = 1 << 20
	lastPiece  = 64 << 10
)

// Filer is Content that can go out by sendfile(2): File has a position of its
// own and begins with the content's first byte; nil is none. What went out counts
// when Same has no error afterwards. Over TLS it is not used.
type Filer interface {
	File() *os.File
	Same() error
}

// buffers are for content that is copied.
var buffers = sync.Pool{New: func() any { return new([lastPiece]byte) }}

// transfer is a file on its way.
type transfer struct {
	c    *call
	f    netboot.Content
	file *os.File
	same func() error
	sent int64
}

func (c *call) transfer(f netboot.Content, want span) {
	t := &transfer{c: c, f: f}
	if s, ok := f.(Filer); ok && c.r.TLS == nil {
		if t.file = s.File(); t.file != nil {
			t.same = s.Same
		}
	}
	err := t.run(want)
	switch {
	case err == nil && want.to == f.Size():
		c.saw(netboot.Last, t.sent, "")
	case err == nil: // the client has the range that it wanted
	case t.sent == 0:
		c.saw(netboot.Probed, 0, "broke off before the first byte: "+err.Error())
	default:
		c.saw(netboot.Broken, t.sent, err.Error())
	}
	// After an error less was sent than Content-Length says, so net/http ends the
	// connection: that is how the client knows.
}

// run sends a span. What is sent is counted even when there is an error.
func (t *transfer) run(want span) error {
	// The header goes alone, so that what is counted is of the file.
	if err := http.NewResponseController(t.c.w).Flush(); err != nil {
		return err
	}
	if t.file != nil {
		if _, err := t.file.Seek(want.from, io.SeekStart); err != nil {
			return err
		}
	}
	for at, n := want.from, int64(firstPiece); at < want.to; n = piece {
		left := want.to - at
		copied := t.file == nil || left <= lastPiece
		switch {
		case copied:
			n = min(left, lastPiece)
		case n >= left:
			n = left - lastPiece
		}
		sent, err := t.send(at, n, copied)
		if t.sent == 0 && sent > 0 {
			t.c.saw(netboot.First, sent, "")
		}
		t.sent += sent
		if err != nil {
			return err
		}
		at += n
	}
	return http.NewResponseController(t.c.w).Flush()
}

// send sends n bytes from an offset.
func (t *transfer) send(at, n int64, copied bool) (int64, error) {
	t.c.deadline(n)
	if !copied {
		sent, err := io.CopyN(t.c.w, t.file, n)
		if err == nil {
			err = t.same()
		}
		return sent, err
	}
	b := buffers.Get().(*[lastPiece]byte)
	defer buffers.Put(b)
	got, err := t.f.ReadAt(b[:n], at)
	if int64(got) < n {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, err
	}
	sent, err := t.c.w.Write(b[:n])
	return int64(sent), err
}

// deadline gives the client time for the next n bytes.
func (c *call) deadline(n int64) {
	l := c.s.limits
	d := l.Stall + time.Duration(float64(n)/float64(l.MinRate)*float64(time.Second))
	http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(d))
}
