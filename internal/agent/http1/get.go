package http1

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
)

// maxResponseHead bounds the head of an answer, in bytes.
const maxResponseHead = 64 << 10

// Get asks a server at addr ("127.0.0.1:80") for a path and returns status and
// body, of which at most limit bytes. Redirects are answers like any other.
func Get(ctx context.Context, addr, path string, limit int64) (status int, body []byte, err error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return 0, nil, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	_, err = fmt.Fprintf(c, "GET /%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: ingot\r\nAccept: */*\r\nConnection: close\r\n\r\n",
		strings.TrimPrefix(path, "/"), addr)
	if err == nil {
		status, body, err = ReadResponse(c, limit)
	}
	if ctx.Err() != nil {
		err = ctx.Err() // more to the point than "use of closed connection"
	}
	if err != nil {
		return 0, nil, fmt.Errorf("GET http://%s/%s: %w", addr, strings.TrimPrefix(path, "/"), err)
	}
	return status, body, nil
}

// ReadResponse reads an answer to a GET with Connection: close; of the body at
// most limit bytes.
func ReadResponse(r io.Reader, limit int64) (status int, body []byte, err error) {
	br := bufio.NewReader(r)
	h, err := readHead(br)
	if err != nil {
		return 0, nil, err
	}
	body, err = io.ReadAll(io.LimitReader(h.body(br), limit))
	return h.status, body, err
}

// head is what matters of the head of an answer.
type head struct {
	status  int
	chunked bool
	length  int64 // -1: not said
	close   bool  // the server closes the connection
	// of a part of a file; -1: not said
	from, total int64
}

// readHead reads the head of the final answer: interim ones precede it (RFC
// 9110 section 15.2).
func readHead(br *bufio.Reader) (head, error) {
	r := &headReader{br: br, left: maxResponseHead}
	for {
		h, err := r.read()
		if err != nil || h.status < 100 || h.status >= 200 {
			return h, err
		}
	}
}

func (h head) body(br *bufio.Reader) io.Reader {
	switch {
	case h.empty():
		return strings.NewReader("")
	case h.chunked:
		return &chunkReader{br: br}
	case h.length >= 0:
		return &exactReader{br, h.length}
	}
	return br
}

// empty reports whether there is never a body (RFC 9112 section 6.3).
func (h head) empty() bool { return h.status == 204 || h.status == 304 }

// open reports whether the body ends with the connection.
func (h head) open() bool { return !h.empty() && !h.chunked && h.length < 0 }

// exactReader reads n bytes; fewer are an error.
type exactReader struct {
	r    io.Reader
	left int64
}

// Read implements io.Reader.
func (e *exactReader) Read(b []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.r.Read(b[:min(int64(len(b)), e.left)])
	if e.left -= int64(n); err == io.EOF && e.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

type headReader struct {
	br   *bufio.Reader
	left int
}

func (h *headReader) line() (string, error) {
	b, err := h.br.ReadSlice('\n')
	if h.left -= len(b); h.left < 0 || errors.Is(err, bufio.ErrBufferFull) {
		return "", errors.New("read response: head is too large")
	}
	if err != nil {
		return "", fmt.Errorf("read response: %w", err)
	}
	return strings.TrimSuffix(string(b[:len(b)-1]), "\r"), nil
}

func (h *headReader) read() (out head, err error) {
	line, err := h.line()
	if err != nil {
		return out, err
	}
	version, rest, _ := strings.Cut(line, " ")
	code, _, _ := strings.Cut(rest, " ")
	out.status, err = strconv.Atoi(code)
	if err != nil || !strings.HasPrefix(version, "HTTP/1.") || out.status < 100 || out.status > 999 {
		return out, fmt.Errorf("parse response: status line is %.60q", line)
	}
	out.length, out.from, out.total, out.close = -1, -1, -1, version == "HTTP/1.0"
	for {
		if line, err = h.line(); err != nil || line == "" {
			return out, err
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.ToLower(name) {
		case "transfer-encoding":
			out.chunked = strings.EqualFold(value, "chunked")
		case "connection":
			out.close = out.close || strings.EqualFold(value, "close")
		case "content-range":
			out.from, out.total = contentRange(value)
		case "content-length":
			if out.length, err = strconv.ParseInt(value, 10, 64); err != nil || out.length < 0 {
				return out, fmt.Errorf("parse response: content-length is %.40q", value)
			}
		}
	}
}

// contentRange reads "bytes 10-19/20"; what is not said, or not so, is -1.
func contentRange(text string) (from, total int64) {
	text, ok := strings.CutPrefix(text, "bytes ")
	part, size, _ := strings.Cut(text, "/")
	first, _, _ := strings.Cut(part, "-")
	if from = number(first); !ok {
		from = -1
	}
	return from, number(size)
}

func number(text string) int64 {
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return -1
	}
	return int64(n)
}

// chunkReader decodes the chunked coding (RFC 9112 section 7.1). Trailers are
// read and dropped, so that the connection can carry the next answer.
type chunkReader struct {
	br   *bufio.Reader
	left int64
	done bool
}

// Read implements io.Reader.
func (c *chunkReader) Read(b []byte) (int, error) {
	if c.left == 0 && !c.done {
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	if c.done {
		return 0, io.EOF
	}
	n, err := c.br.Read(b[:min(int64(len(b)), c.left)])
	if c.left -= int64(n); c.left == 0 && err == nil {
		err = c.end()
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// end reads the CRLF behind each chunk.
func (c *chunkReader) end() error {
	b, err := c.br.Peek(2)
	if err == nil && string(b) != "\r\n" {
		err = fmt.Errorf("read chunk: it ends in %q", b)
	}
	c.br.Discard(len(b))
	return err
}

func (c *chunkReader) next() error {
	line, err := c.br.ReadSlice('\n')
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("read chunk size: %w", err)
	}
	size, _, _ := strings.Cut(strings.TrimSpace(string(line)), ";")
	n, err := strconv.ParseUint(strings.TrimSpace(size), 16, 63)
	if err != nil {
		return fmt.Errorf("parse chunk size %.20q", size)
	}
	c.left, c.done = int64(n), n == 0
	if c.done {
		c.trailers()
	}
	return nil
}

// trailers reads up to the empty line. A connection that ends before is one
// that carries nothing more.
func (c *chunkReader) trailers() {
	for left := maxResponseHead; left > 0; {
		line, err := c.br.ReadSlice('\n')
		if left -= len(line); err != nil || len(strings.TrimSpace(string(line))) == 0 {
			return
		}
	}
}
