package http1

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// serveBodies runs Conn on loopback; its handler says what it has read.
func serveBodies(t *testing.T, s Conn) string {
	t.Helper()
	if s.Handle == nil {
		s.Handle = func(r Request) Response {
			if r.Path == "/unread" {
				return Text(409, "busy")
			}
			n, err := io.Copy(io.Discard, r.Body)
			return Text(200, fmt.Sprintf("%s %d of %d: %v", r.Method, n, r.Length, err))
		}
	}
	if s.MaxBody == nil {
		s.MaxBody = func(Request) int64 { return 1 << 20 }
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.Serve(c)
		}
	}()
	return l.Addr().String()
}

// TestConnTalksToNetHTTP has the standard library's client as the judge.
func TestConnTalksToNetHTTP(t *testing.T) {
	addr := serveBodies(t, Conn{})
	client := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Minute}}
	for _, c := range []struct {
		name, method, path string
		size               int
		chunked, expect    bool
		status             int
		want               string
	}{
		{"known length", "PUT", "/", 1 << 20, false, false, 200, "PUT 1048576 of 1048576: <nil>"},
		{"empty", "POST", "/", 0, false, false, 200, "POST 0 of 0: <nil>"},
		{"chunked", "PUT", "/", 1 << 20, true, false, 200, "PUT 1048576 of -1: <nil>"},
		{"chunked and too large", "PUT", "/", 1<<20 + 1, true, false, 200, "the body is too large"},
		{"too large", "PUT", "/", 1<<20 + 1, false, true, 413, "at most 1048576 are taken"},
		{"asks first", "PUT", "/", 100, false, true, 200, "PUT 100 of 100: <nil>"},
		{"asks first, chunked", "PUT", "/", 100, true, true, 200, "PUT 100 of -1: <nil>"},
		{"asks first, refused", "PUT", "/unread", 1 << 20, false, true, 409, "busy"},
		{"no body", "GET", "/", 0, false, false, 200, "GET 0 of 0: <nil>"},
		{"other method", "DELETE", "/", 0, false, false, 405, "only GET, HEAD, POST, PUT"},
	} {
		var body io.Reader = bytes.NewReader(make([]byte, c.size))
		if c.chunked {
			body = io.MultiReader(body)
		}
		r, _ := http.NewRequestWithContext(t.Context(), c.method, "http://"+addr+c.path, body)
		if c.expect {
			r.Header.Set("Expect", "100-continue")
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != c.status || !strings.Contains(string(text), c.want) {
			t.Errorf("%s: %d %q %v, want %d %q", c.name, resp.StatusCode, text, err, c.status, c.want)
		}
	}
}

// exchange sends text and reads the answer to the end.
func exchange(t *testing.T, addr, text string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	c.(*net.TCPConn).CloseWrite()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestFraming: what two readers could take for different bodies is refused.
func TestFraming(t *testing.T) {
	addr := serveBodies(t, Conn{})
	for head, want := range map[string]string{
		"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3":                          " 400 ",
		"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked":                 " 400 ",
		"POST / HTTP/1.0\r\nTransfer-Encoding: chunked":                                      " 400 ",
		"POST / HTTP/1.1\r\nContent-Length: +3":                                              " 400 ",
		"POST / HTTP/1.1\r\nContent-Length: -3":                                              " 400 ",
		"POST / HTTP/1.1\r\nContent-Length:":                                                 " 400 ",
		"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999":                            " 400 ",
		"POST / HTTP/1.1\r\nContent-Length: 9999999999":                                      " 413 ",
		"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked":                                " 501 ",
		"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked":        " 501 ",
		"POST / HTTP/1.1\r\nExpect: tea":                                                     " 417 ",
		"GET / HTTP/1.1\r\nContent-Length: 3":                                                " 413 ",
		"GET / HTTP/1.1\r\nTransfer-Encoding: chunked":                                       " 413 ",
		"POST / HTTP/1.1\r\n" + strings.Repeat("a: b\r\n", MaxHead):                          " 431 ",
		"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nabc":                                    "POST 3 of 4: unexpected EOF",
		"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc":                      "unexpected EOF",
		"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcXX0\r\n\r\n":           "read chunk: it ends in",
		"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n":        "parse chunk size",
		"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: v\r\n": "POST 3 of -1: <nil>",
	} {
		if !strings.Contains(head, "\r\n\r\n") {
			head += "\r\n\r\n"
		}
		if got := exchange(t, addr, head); !strings.Contains(got, want) {
			t.Errorf("%.80q: %q, want %q", head, got, want)
		}
	}
}

// TestSlowSender: who sends a byte now and then is cut although no single read
// waits long; who sends more goes on for as long as it takes.
func TestSlowSender(t *testing.T) {
	addr := serveBodies(t, Conn{pace: time.Second, MaxBody: func(Request) int64 { return 8 << 20 }})
	send := func(piece int, count int) string {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "PUT / HTTP/1.1\r\nContent-Length: %d\r\n\r\n", piece*count)
		go func() {
			for range count {
				if _, err := c.Write(make([]byte, piece)); err != nil {
					return
				}
				time.Sleep(50 * time.Millisecond)
			}
		}()
		b, _ := io.ReadAll(c)
		return string(b)
	}
	if got := send(1, 1000); !strings.Contains(got, ErrSlow.Error()) {
		t.Errorf("a byte each 50 ms: %q", got)
	}
	if got := send(64<<10, 40); !strings.Contains(got, "PUT 2621440 of 2621440: <nil>") {
		t.Errorf("64 KiB each 50 ms, 2 s altogether: %q", got)
	}
}

// TestHandlerMayTakeItsTime: only the time in which the server waits counts.
func TestHandlerMayTakeItsTime(t *testing.T) {
	addr := serveBodies(t, Conn{pace: 100 * time.Millisecond, Handle: func(r Request) Response {
		b := make([]byte, 1<<10)
		for range 4 {
			time.Sleep(60 * time.Millisecond) // a slow disk
			if _, err := io.ReadFull(r.Body, b); err != nil {
				return Text(500, err.Error())
			}
		}
		return Text(200, "all")
	}})
	if got := exchange(t, addr, "PUT / HTTP/1.1\r\nContent-Length: 4096\r\n\r\n"+strings.Repeat("x", 4096)); !strings.HasSuffix(got, "all\n") {
		t.Errorf("got %q", got)
	}
}

func TestHandlerPanics(t *testing.T) {
	addr := serveBodies(t, Conn{Handle: func(Request) Response { panic("boom") }})
	if got := exchange(t, addr, "POST / HTTP/1.1\r\n\r\n"); !strings.Contains(got, " 500 ") {
		t.Errorf("got %q", got)
	}
}

// TestGetStreams reads answers piece by piece, from the standard library's server.
func TestGetStreams(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/chunked":
			for range 16 {
				w.Write(make([]byte, 64<<10))
				w.(http.Flusher).Flush()
			}
		case "/none":
			w.WriteHeader(http.StatusNoContent)
		case "/missing":
			http.NotFound(w, r)
		default:
			w.Header().Set("Content-Length", "1000000")
			w.Write(make([]byte, 1000000))
		}
	}))
	defer s.Close()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := NewClient(conn, "host")
	for _, r := range []struct {
		path   string
		status int
		length int64
		size   int64
	}{{"/x?from=3", 200, 1000000, 1000000}, {"/chunked", 200, -1, 1 << 20}, {"/none", 204, 0, 0}, {"/missing", 404, 19, 19}, {"/x", 200, 1000000, 1000000}} {
		a, err := c.Get(t.Context(), r.path)
		if err != nil {
			t.Fatalf("%s: %v", r.path, err)
		}
		n, err := io.Copy(io.Discard, a.Body)
		a.Close()
		if err != nil || a.Status != r.status || a.Length != r.length || n != r.size || c.Done() {
			t.Errorf("%s: status %d, length %d, %d bytes, %v, done %v", r.path, a.Status, a.Length, n, err, c.Done())
		}
	}
	a, err := c.Get(t.Context(), "/x")
	if err != nil {
		t.Fatal(err)
	}
	a.Body.Read(make([]byte, 10))
	if a.Close(); !c.Done() {
		t.Error("a connection with half an answer in it is to be used again")
	}
}

func TestGetStreamsEnd(t *testing.T) {
	cl := fixed(t, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n0123")
	a, err := cl.Get(t.Context(), "/")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(a.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a cut body: %v", err)
	}
	a.Close()
	if !cl.Done() {
		t.Error("a cut connection is to be used again")
	}
	ctx, cancel := context.WithCancel(t.Context())
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	go func() {
		far.Read(make([]byte, 4096))
		io.WriteString(far, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n0123")
	}()
	if a, err = NewClient(near, "h").Get(ctx, "/"); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := io.ReadAll(a.Body); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that ends: %v", err)
	}
	a.Close()
	if _, err := NewClient(near, "h").Get(ctx, "/"); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: %v", err)
	}
}

// memory is a connection that says fixed bytes.
type memory struct {
	net.Conn
	in  io.Reader
	out int
}

func (m *memory) Read(b []byte) (int, error)         { return m.in.Read(b) }
func (m *memory) Write(b []byte) (int, error)        { m.out += len(b); return len(b), nil }
func (m *memory) SetReadDeadline(time.Time) error    { return nil }
func (m *memory) SetWriteDeadline(t time.Time) error { return nil }
func (m *memory) Close() error                       { return nil }

// FuzzConn: no body is longer than was said or allowed, and nothing panics.
func FuzzConn(f *testing.F) {
	f.Add("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello")
	f.Add("PUT /x?from=1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n3;a\r\nabc\r\n0\r\nT: x\r\n\r\n")
	f.Add("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\nabc\r\n0\r\n\r\n")
	f.Fuzz(func(t *testing.T, in string) {
		const most = 64
		c := Conn{MaxBody: func(Request) int64 { return most }}
		r, err := c.read(&memory{in: strings.NewReader(in)})
		if err != nil {
			return
		}
		n, err := io.Copy(io.Discard, r.Body)
		if n > most || err == nil && r.Length >= 0 && n != r.Length || int(n) > len(in) {
			t.Errorf("%d bytes of %d: %v", n, r.Length, err)
		}
	})
}
