package http1

import (
	"errors"
	"net"
	"time"
)

// Conn answers one request on a connection that somebody else has accepted, and
// closes it.
type Conn struct {
	// MaxBody says how large the body of a request may be, in bytes, by its head;
	// nil or 0: it may have none.
	MaxBody func(Request) int64
	// Handle answers a request. Its Body ends with an error when it is cut, too
	// large (ErrBody) or too slow (ErrSlow); what is not read of it is dropped.
	Handle func(Request) Response

	pace time.Duration // 0: paceTime
}

// Serve answers. A panic of the handler ends the connection and nothing else.
func (s Conn) Serve(c net.Conn) {
	defer func() { _ = recover() }()
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(readTime))
	r, err := s.read(c)
	var status *StatusError
	var resp Response
	switch {
	case errors.As(err, &status):
		resp = Text(status.Status, status.Msg)
	case err != nil:
		return
	default:
		resp = safely(s.Handle, r)
	}
	c.SetWriteDeadline(time.Now().Add(sendTime))
	c.Write(AppendResponse(nil, r.Method, resp))
	drain(c)
}
