// Package http1 is the part of HTTP/1.1 (RFC 9112) that a machine needs for
// itself: a server of GET and HEAD without request bodies (Serve), one for a
// connection with bodies of any size, which are read as they come (Conn), one
// GET for health checks, each on a connection of its own, and a Client that
// sends one request after the other over a connection that somebody else has
// opened, and can read an answer piece by piece.
//
// Bodies are bounded in size and in the time that is waited for them; neither
// side ever has more than some kilobytes of one in memory.
//
// net/http would do all of it. It is not used because it costs 3.4 MB of PID 1
// (measured: 9.6 MB with it, 6.2 MB without, Go 1.26), and a whole signed
// image has to stay within 24 MB, of which the kernel takes 11.7.
package http1

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Limits of the server.
const (
	MaxHead  = 8 << 10 // bytes of request line and fields together
	MaxConns = 64      // connections at once; each costs memory that services need
	readTime = 5 * time.Second
	sendTime = 30 * time.Second
)

// Request is what a handler sees.
type Request struct {
	Method string // GET or HEAD; of Conn also POST and PUT
	Path   string // decoded, starts with /
	Query  url.Values
	Length int64     // of the body in bytes; -1: not known before it ends
	Body   io.Reader // nil but for Conn
}

// Response is a handler's answer.
type Response struct {
	Status int
	Type   string // Content-Type
	Body   []byte
}

// StatusError is a request that is answered with an error status.
type StatusError struct {
	Status int
	Msg    string
}

// Error implements error.
func (e *StatusError) Error() string { return e.Msg }

var reasons = map[int]string{200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
	408: "Request Timeout", 409: "Conflict", 413: "Content Too Large", 417: "Expectation Failed", 422: "Unprocessable Content",
	431: "Request Header Fields Too Large", 500: "Internal Server Error", 501: "Not Implemented",
	503: "Service Unavailable", 505: "HTTP Version Not Supported"}

// ReadRequest reads the head of one request, at most MaxHead bytes. Fields are
// read and ignored, but for those that announce a body, which is refused.
func ReadRequest(r io.Reader) (Request, error) {
	br := bufio.NewReaderSize(io.LimitReader(r, MaxHead), MaxHead)
	line, err := readLine(br)
	if err != nil {
		return Request{}, err
	}
	req, err := parseRequestLine(line, "GET", "HEAD")
	if err != nil {
		return req, err
	}
	for {
		field, err := readLine(br)
		if err != nil {
			return req, err
		}
		if field == "" {
			return req, nil
		}
		if err := checkField(field); err != nil {
			return req, err
		}
	}
}

func readLine(br *bufio.Reader) (string, error) {
	b, err := br.ReadSlice('\n')
	if errors.Is(err, io.EOF) && br.Buffered() == 0 && len(b) == 0 {
		return "", io.ErrUnexpectedEOF // the head ended early, or at the limit
	}
	if err != nil {
		return "", &StatusError{431, "read request: head is too large or cut"}
	}
	return strings.TrimSuffix(string(b[:len(b)-1]), "\r"), nil
}

func parseRequestLine(line string, methods ...string) (Request, error) {
	f := strings.Split(line, " ")
	if len(f) != 3 {
		return Request{}, &StatusError{400, "parse request line: want METHOD TARGET VERSION"}
	}
	if f[2] != "HTTP/1.1" && f[2] != "HTTP/1.0" {
		return Request{}, &StatusError{505, "parse request line: want HTTP/1.1"}
	}
	if !slices.Contains(methods, f[0]) {
		return Request{}, &StatusError{405, "parse request line: only " + strings.Join(methods, ", ") + " are answered"}
	}
	u, err := url.ParseRequestURI(f[1])
	if err != nil || !strings.HasPrefix(u.Path, "/") {
		return Request{}, &StatusError{400, "parse request line: malformed target"}
	}
	return Request{Method: f[0], Path: u.Path, Query: u.Query()}, nil
}

func checkField(field string) error {
	name, value, ok := strings.Cut(field, ":")
	if !ok || name == "" || strings.ContainsAny(name, " \t") {
		return &StatusError{400, "parse request field: want NAME: VALUE"}
	}
	switch strings.ToLower(name) {
	case "transfer-encoding":
		return &StatusError{413, "parse request: a body is not accepted"}
	case "content-length":
		if strings.TrimSpace(value) != "0" {
			return &StatusError{413, "parse request: a body is not accepted"}
		}
	}
	return nil
}

// AppendResponse writes head and, unless the method was HEAD, body.
func AppendResponse(b []byte, method string, r Response) []byte {
	b = fmt.Appendf(b, "HTTP/1.1 %d %s\r\n", r.Status, reasons[r.Status])
	b = fmt.Appendf(b, "Content-Type: %s\r\nContent-Length: %d\r\n", r.Type, len(r.Body))
	b = append(b, "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"...)
	if method == "HEAD" {
		return b
	}
	return append(b, r.Body...)
}

// Serve answers connections of l until the context ends.
func Serve(ctx context.Context, l net.Listener, handle func(Request) Response) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	slots := make(chan struct{}, MaxConns)
	var active sync.WaitGroup
	defer active.Wait()
	for {
		slots <- struct{}{}
		c, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil { // out of descriptors, or the peer left: passes by itself
			<-slots
			time.Sleep(50 * time.Millisecond)
			continue
		}
		active.Go(func() {
			defer func() { <-slots }()
			answer(c, handle)
		})
	}
}

// answer serves one connection. A panic in it ends that connection and nothing
// else: this runs in PID 1.
func answer(c net.Conn, handle func(Request) Response) {
	defer func() { _ = recover() }()
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(readTime))
	req, err := ReadRequest(c)
	var status *StatusError
	var resp Response
	switch {
	case errors.As(err, &status):
		resp = Text(status.Status, status.Msg)
	case err != nil:
		return
	default:
		resp = safely(handle, req)
	}
	c.SetWriteDeadline(time.Now().Add(sendTime))
	c.Write(AppendResponse(nil, req.Method, resp))
	drain(c)
}

// safely keeps a handler's panic inside its request: the listener is the means
// to learn what is wrong with a machine, and must not be what ends it.
func safely(handle func(Request) Response, req Request) (resp Response) {
	defer func() {
		if v := recover(); v != nil {
			resp = Text(500, fmt.Sprintf("handle %s: %v", req.Path, v))
		}
	}()
	return handle(req)
}

// drain reads what the client still sends, shortly: closing with unread bytes
// makes the kernel send a reset that can overtake the answer (RFC 9112 section
// 9.6).
func drain(c net.Conn) {
	if t, ok := c.(interface{ CloseWrite() error }); ok { // TCP and TLS
		t.CloseWrite()
	}
	c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	io.Copy(io.Discard, io.LimitReader(c, 64<<10))
}

// Text makes a plain answer of one or more lines.
func Text(status int, text string) Response {
	return Response{status, "text/plain; charset=utf-8", []byte(text + "\n")}
}
