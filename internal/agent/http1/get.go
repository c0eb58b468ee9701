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

// ReadResponse reads an answer to a GET with Connection: close.
func ReadResponse(r io.Reader, limit int64) (status int, body []byte, err error) {
	br := bufio.NewReader(r)
	head := &headReader{br: br, left: maxResponseHead}
	for {
		var chunked bool
		length := int64(-1)
		if status, chunked, length, err = head.read(); err != nil {
			return 0, nil, err
		}
		if status >= 100 && status < 200 {
			continue // interim answers precede the final one (RFC 9110 section 15.2)
		}
		var rd io.Reader = br
		switch {
		case chunked:
			rd = &chunkReader{br: br}
		case length >= 0:
			rd = io.LimitReader(br, length)
		}
		body, err = io.ReadAll(io.LimitReader(rd, limit))
		return status, body, err
	}
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

func (h *headReader) read() (status int, chunked bool, length int64, err error) {
	line, err := h.line()
	if err != nil {
		return 0, false, 0, err
	}
	version, rest, _ := strings.Cut(line, " ")
	code, _, _ := strings.Cut(rest, " ")
	status, err = strconv.Atoi(code)
	if err != nil || !strings.HasPrefix(version, "HTTP/1.") || status < 100 || status > 999 {
		return 0, false, 0, fmt.Errorf("parse response: status line is %.60q", line)
	}
	length = -1
	for {
		if line, err = h.line(); err != nil || line == "" {
			return status, chunked, length, err
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.ToLower(name) {
		case "transfer-encoding":
			chunked = strings.EqualFold(value, "chunked")
		case "content-length":
			if length, err = strconv.ParseInt(value, 10, 64); err != nil || length < 0 {
				return 0, false, 0, fmt.Errorf("parse response: content-length is %.40q", value)
			}
		}
	}
}

// chunkReader decodes the chunked coding (RFC 9112 section 7.1); trailers are
// left unread, the connection is closed anyway.
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
		_, err = c.br.Discard(2) // the CRLF behind each chunk
	}
	return n, err
}

func (c *chunkReader) next() error {
	line, err := c.br.ReadSlice('\n')
	if err != nil {
		return fmt.Errorf("read chunk size: %w", err)
	}
	size, _, _ := strings.Cut(strings.TrimSpace(string(line)), ";")
	n, err := strconv.ParseInt(strings.TrimSpace(size), 16, 63)
	if err != nil || n < 0 {
		return fmt.Errorf("parse chunk size %.20q", size)
	}
	c.left, c.done = n, n == 0
	return nil
}
