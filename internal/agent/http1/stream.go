package http1

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// silence is how long a client waits for the head of an answer that it reads
// piece by piece. For the body it waits as a server does: see paceTime.
const silence = 30 * time.Second

// Answer is an answer whose body is read as it comes.
type Answer struct {
	Status int
	Length int64 // of the body in bytes; -1: not said
	// From and Total are those of a part of a file (status 206, RFC 9110 section
	// 14.4): where the body begins in it, and its size; -1: not said.
	From, Total int64
	Body        io.Reader // ends with an error when it is cut, ErrSlow, or when the context ends

	c     *Client
	stop  func() bool
	ended bool // the body was read to its end
}

// Get asks for a path and returns the answer as soon as its head is there. The
// Answer must be closed before the next request.
func (c *Client) Get(ctx context.Context, path string) (*Answer, error) {
	return c.GetFrom(ctx, path, 0)
}

// GetFrom asks for what is behind the first bytes of a file. A server may send all
// of it nevertheless: Answer.Status says which it is.
func (c *Client) GetFrom(ctx context.Context, path string, from int64) (*Answer, error) {
	a := &Answer{c: c, stop: context.AfterFunc(ctx, func() { c.conn.SetDeadline(time.Unix(1, 0)) })}
	err := a.get(ctx, path, from)
	if err != nil && ctx.Err() != nil {
		err = ctx.Err() // more to the point than "i/o timeout"
	}
	if err != nil {
		a.stop()
		c.done = true
		return nil, fmt.Errorf("GET %s://%s%s: %w", c.scheme(), c.host, path, err)
	}
	return a, nil
}

func (a *Answer) get(ctx context.Context, path string, from int64) error {
	c := a.c
	if err := push(ctx, c.conn, silence); err != nil {
		return err
	}
	part := ""
	if from > 0 {
		part = fmt.Sprintf("Range: bytes=%d-\r\n", from)
	}
	if _, err := fmt.Fprintf(c.conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: ingot\r\nAccept: */*\r\n%s\r\n", path, c.host, part); err != nil {
		return err
	}
	h, err := readHead(c.br)
	if err != nil {
		return err
	}
	a.Status, a.Length, a.From, a.Total = h.status, h.length, h.from, h.total
	if h.empty() {
		a.Length = 0
	} else if h.chunked {
		a.Length = -1
	}
	a.Body = &streamed{ctx: ctx, conn: c.conn, r: h.body(c.br), ended: &a.ended, pace: cmp.Or(c.pace, paceTime)}
	a.ended = a.Length == 0
	c.done = c.done || h.close || h.open()
	return nil
}

// push moves the connection's deadline. The order matters: a context that ends
// after the check finds the deadline moved already, and moves it back itself.
func push(ctx context.Context, conn net.Conn, d time.Duration) error {
	conn.SetDeadline(time.Now().Add(d))
	return ctx.Err()
}

// Close ends the reading. When the body was not read to its end, the connection
// is of no more use: closing it is for its owner.
func (a *Answer) Close() {
	if !a.stop() || !a.ended {
		a.c.done = true
		return
	}
	a.c.conn.SetDeadline(time.Time{})
}

// streamed is a body that has to come at a pace: a server that sends a byte now
// and then would hold an update for ever.
type streamed struct {
	ctx   context.Context
	conn  net.Conn
	r     io.Reader
	ended *bool
	pace  time.Duration

	waited time.Duration // since so many bytes came:
	came   int
}

// Read implements io.Reader.
func (s *streamed) Read(b []byte) (int, error) {
	start := time.Now()
	if err := push(s.ctx, s.conn, s.pace-s.waited); err != nil {
		return 0, err
	}
	n, err := s.r.Read(b)
	s.waited += time.Since(start)
	if s.came += n; s.came >= paceBytes {
		s.came, s.waited = 0, 0
	}
	var timeout net.Error
	switch {
	case err == io.EOF:
		*s.ended = true
	case err != nil && s.ctx.Err() != nil:
		err = s.ctx.Err() // more to the point than "i/o timeout"
	case errors.As(err, &timeout) && timeout.Timeout():
		err = ErrSlow
	}
	return n, err
}
