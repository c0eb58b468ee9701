package http1

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strconv"
	"strings"
	"time"
)

// Pace of a body: so much has to come while its reader has waited for so long
// altogether. The time in which a handler does something else, such as
// writing to a disk, does not count. So a sender of one byte now and then holds
// its place for half a minute, and one with 2 kB/s uploads for as long as it takes.
const (
	paceBytes = 64 << 10
	paceTime  = 30 * time.Second
)

// Errors of bodies, to be tested with errors.Is.
var (
	// ErrBody is the error of a body over the limit.
	ErrBody = errors.New("the body is too large")
	// ErrSlow is the error of a body that stopped, or comes slower than the
	// server waits.
	ErrSlow = errors.New("the body comes too slowly")
)

// framing is what the head says of the body (RFC 9112 section 6.3).
type framing struct {
	length    int64 // -1: chunked
	lengths   int   // Content-Length fields
	codings   int   // Transfer-Encoding fields
	continues bool  // Expect: 100-continue
}

// field takes one field of the head. Whatever could be read in two ways is
// refused: a proxy in between might read it in the other.
func (f *framing) field(field string) error {
	name, value, ok := strings.Cut(field, ":")
	if !ok || name == "" || strings.ContainsAny(name, " \t") {
		return &StatusError{400, "parse request field: want NAME: VALUE"}
	}
	value = strings.Trim(value, " \t")
	switch strings.ToLower(name) {
	case "content-length":
		n, err := strconv.ParseUint(value, 10, 63)
		if err != nil || f.lengths > 0 {
			return &StatusError{400, "parse request: want one Content-Length, a number"}
		}
		f.length, f.lengths = int64(n), 1
	case "transfer-encoding":
		if !strings.EqualFold(value, "chunked") || f.codings > 0 {
			return &StatusError{501, "parse request: the only transfer coding is chunked, once"}
		}
		f.codings = 1
	case "expect":
		if !strings.EqualFold(value, "100-continue") {
			return &StatusError{417, "parse request: the only expectation is 100-continue"}
		}
		f.continues = true
	}
	return nil
}

// settle is called at the end of the head.
func (f *framing) settle(r Request, old bool) error {
	switch {
	case f.codings > 0 && (f.lengths > 0 || old):
		return &StatusError{400, "parse request: Transfer-Encoding with Content-Length or HTTP/1.0"}
	case f.codings > 0:
		f.length = -1
	}
	if f.length != 0 && (r.Method == "GET" || r.Method == "HEAD") {
		return &StatusError{413, "parse request: a body is not accepted"}
	}
	return nil
}

// read reads a head as ReadRequest does, of any of the four methods, and
// opens the body that follows it.
func (s Conn) read(conn net.Conn) (Request, error) {
	lr := &io.LimitedReader{R: conn, N: MaxHead}
	br := bufio.NewReaderSize(lr, MaxHead)
	line, err := readLine(br)
	if err != nil {
		return Request{}, err
	}
	r, err := parseRequestLine(line, "GET", "HEAD", "POST", "PUT")
	if err != nil {
		return r, err
	}
	f, err := readFraming(br)
	if err == nil {
		err = f.settle(r, strings.HasSuffix(line, "HTTP/1.0"))
	}
	if err != nil {
		return r, err
	}
	most := int64(0)
	if s.MaxBody != nil {
		most = s.MaxBody(r)
	}
	if f.length > most {
		return r, &StatusError{413, fmt.Sprintf("parse request: a body of %d bytes, at most %d are taken", f.length, most)}
	}
	lr.N = math.MaxInt64
	b := &body{conn: conn, left: most, pace: cmp.Or(s.pace, paceTime), continues: f.continues && f.length != 0}
	if b.r = (io.Reader)(&exactReader{br, f.length}); f.length < 0 {
		b.r = &chunkReader{br: br}
	}
	r.Length, r.Body = f.length, b
	return r, nil
}

func readFraming(br *bufio.Reader) (f framing, err error) {
	for {
		field, err := readLine(br)
		if err != nil || field == "" {
			return f, err
		}
		if err := f.field(field); err != nil {
			return f, err
		}
	}
}

// body is the body of a request, decoded.
type body struct {
	conn net.Conn
	r    io.Reader
	left int64 // until the limit
	pace time.Duration

	continues bool          // the client waits to be told to go on
	waited    time.Duration // since so many bytes came:
	came      int64
	err       error
}

// Read implements io.Reader. After an error nothing more comes.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil || len(p) == 0 {
		return 0, b.err
	}
	if b.continues {
		b.continues = false
		b.conn.SetWriteDeadline(time.Now().Add(sendTime))
		if _, b.err = io.WriteString(b.conn, "HTTP/1.1 100 Continue\r\n\r\n"); b.err != nil {
			return 0, b.err
		}
	}
	start := time.Now()
	b.conn.SetReadDeadline(start.Add(b.pace - b.waited))
	// One byte beyond the limit tells a body that ends at it from one that does not.
	n, err := b.r.Read(p[:min(int64(len(p)), max(b.left, 0)+1)])
	b.waited += time.Since(start)
	if b.came += int64(n); b.came >= paceBytes {
		b.came, b.waited = 0, 0
	}
	if b.left -= int64(n); b.left < 0 {
		n, err = 0, ErrBody
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		err = ErrSlow
	}
	b.err = err
	return n, err
}
