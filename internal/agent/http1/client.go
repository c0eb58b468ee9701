package http1

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// ErrTooLarge is the error of a body over the limit.
var ErrTooLarge = errors.New("the answer is too large")

// Client sends requests over one connection, one at a time. After an error, or
// once Done, the connection is of no more use; closing it is for its owner.
type Client struct {
	conn net.Conn
	br   *bufio.Reader
	host string
	done bool
	pace time.Duration // 0: paceTime
}

// NewClient speaks over an open connection to a host ("example.com:8443").
func NewClient(conn net.Conn, host string) *Client {
	return &Client{conn: conn, br: bufio.NewReader(conn), host: host}
}

// scheme is that of addresses in messages.
func (c *Client) scheme() string {
	if _, plain := c.conn.(*net.TCPConn); plain {
		return "http"
	}
	return "https"
}

// Done reports whether the server has said that it closes the connection.
func (c *Client) Done() bool { return c.done }

// Post sends a body and returns status and body of the answer, which has at
// most limit bytes. It waits until the context ends.
func (c *Client) Post(ctx context.Context, path, contentType string, body []byte, limit int64) (status int, answer []byte, err error) {
	// A deadline in the past wakes what blocks and leaves the connection to be
	// closed by its owner, TLS alert and all.
	stop := context.AfterFunc(ctx, func() { c.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	status, answer, err = c.post(path, contentType, body, limit)
	if err != nil && ctx.Err() != nil {
		err = ctx.Err() // more to the point than "i/o timeout"
	}
	if err != nil {
		c.done = true
		return 0, nil, fmt.Errorf("POST %s://%s%s: %w", c.scheme(), c.host, path, err)
	}
	return status, answer, nil
}

func (c *Client) post(path, contentType string, body []byte, limit int64) (int, []byte, error) {
	b := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: ingot\r\nAccept: */*\r\n", path, c.host)
	b = fmt.Appendf(b, "Content-Type: %s\r\nContent-Length: %d\r\n\r\n", contentType, len(body))
	if _, err := c.conn.Write(append(b, body...)); err != nil {
		return 0, nil, err
	}
	h, err := readHead(c.br)
	if err != nil {
		return 0, nil, err
	}
	answer, err := io.ReadAll(io.LimitReader(h.body(c.br), limit+1))
	if err == nil && int64(len(answer)) > limit {
		err = ErrTooLarge
	}
	c.done = c.done || h.close || h.open()
	return h.status, answer, err
}
