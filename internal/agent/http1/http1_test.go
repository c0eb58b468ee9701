package http1

import (
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

func TestReadRequest(t *testing.T) {
	for _, c := range []struct {
		in     string
		path   string
		since  string
		status int
	}{
		{"GET /v1/logs?since=7&x=%20 HTTP/1.1\r\nHost: a\r\n\r\n", "/v1/logs", "7", 0},
		{"HEAD /a%2fb HTTP/1.0\n\n", "/a/b", "", 0},
		{"GET http://h/abs HTTP/1.1\r\n\r\n", "/abs", "", 0},
		{"GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "/", "", 0},
		{"POST / HTTP/1.1\r\n\r\n", "", "", 405},
		{"GET / HTTP/2.0\r\n\r\n", "", "", 505},
		{"GET /\r\n\r\n", "", "", 400},
		{"GET  / HTTP/1.1\r\n\r\n", "", "", 400},
		{"GET * HTTP/1.1\r\n\r\n", "", "", 400},
		{"GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", "", "", 413},
		{"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "", "", 413},
		{"GET / HTTP/1.1\r\nbroken\r\n\r\n", "", "", 400},
		{"GET / HTTP/1.1\r\nA : b\r\n\r\n", "", "", 400},
		{"GET /" + strings.Repeat("a", MaxHead) + " HTTP/1.1\r\n\r\n", "", "", 431},
		{"GET / HTTP/1.1\r\n" + strings.Repeat("a: b\r\n", MaxHead), "", "", 431},
		{"GET / HT", "", "", 431},
	} {
		req, err := ReadRequest(strings.NewReader(c.in))
		var status *StatusError
		if c.status != 0 {
			if !errors.As(err, &status) || status.Status != c.status {
				t.Errorf("ReadRequest(%.40q) = %v, want status %d", c.in, err, c.status)
			}
			continue
		}
		if err != nil || req.Path != c.path || req.Query.Get("since") != c.since {
			t.Errorf("ReadRequest(%.40q) = %+v, %v; want path %s", c.in, req, err, c.path)
		}
	}
	if _, err := ReadRequest(strings.NewReader("")); err == nil {
		t.Error("ReadRequest of nothing succeeds")
	}
}

// serve runs the server on loopback.
func serve(t *testing.T, h func(Request) Response) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, h) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve() = %v", err)
		}
	})
	return l.Addr().String()
}

// TestServeTalksToNetHTTP has the standard library's client as the judge.
func TestServeTalksToNetHTTP(t *testing.T) {
	addr := serve(t, func(r Request) Response {
		if r.Path == "/panic" {
			panic("boom")
		}
		return Text(503, "path "+r.Path)
	})
	for _, c := range []struct {
		method, path, body string
		status             int
	}{{"GET", "/x", "path /x\n", 503}, {"HEAD", "/x", "", 503}, {"POST", "/x", "only GET", 405}, {"GET", "/panic", "boom", 500}} {
		req, _ := http.NewRequest(c.method, "http://"+addr+c.path, nil)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != c.status || !strings.Contains(string(body), c.body) {
			t.Errorf("%s %s = %d %q, %v; want %d %q", c.method, c.path, resp.StatusCode, body, err, c.status, c.body)
		}
	}
}

// TestConnectionsAreBounded opens more than MaxConns silent connections; the
// server must still answer once they time out or go.
func TestConnectionsAreBounded(t *testing.T) {
	addr := serve(t, func(Request) Response { return Text(200, "ok") })
	var idle []net.Conn
	for range MaxConns {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, c)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if _, _, err := Get(ctx, addr, "/", 100); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Get with all places taken = %v, want it to wait", err)
	}
	for _, c := range idle {
		c.Close()
	}
	if status, _, err := Get(context.Background(), addr, "/", 100); err != nil || status != 200 {
		t.Errorf("Get afterwards = %d, %v", status, err)
	}
}

// TestGetTalksToNetHTTP has the standard library's server as the judge.
func TestGetTalksToNetHTTP(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/chunked":
			for i := range 3 {
				fmt.Fprintf(w, "part %d;", i)
				w.(http.Flusher).Flush()
			}
		case "/early":
			w.WriteHeader(http.StatusEarlyHints)
			fmt.Fprint(w, "late")
		case "/big":
			w.Write(make([]byte, 1<<20))
		case "/missing":
			http.NotFound(w, r)
		default:
			fmt.Fprint(w, r.Host)
		}
	}))
	defer srv.Close()
	addr := srv.Listener.Addr().String()
	for _, c := range []struct {
		path, body string
		status     int
	}{
		{"/chunked", "part 0;part 1;part 2;", 200}, {"early", "late", 200}, {"/missing", "404 page not found\n", 404},
		{"/", addr, 200}, {"", addr, 200}, {"/big", string(make([]byte, 1000)), 200},
	} {
		status, body, err := Get(context.Background(), addr, c.path, 1000)
		if err != nil || status != c.status || string(body) != c.body {
			t.Errorf("Get(%q) = %d %.40q, %v; want %d %.40q", c.path, status, body, err, c.status, c.body)
		}
	}
}

func TestGetEndsWithItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := Get(ctx, l.Addr().String(), "/", 10); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Get of a silent server = %v, want deadline exceeded", err)
	}
}

func TestReadResponseRefusesNonsense(t *testing.T) {
	for _, in := range []string{"", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "HTTP/1.1 200 OK\r\n" + strings.Repeat("a: b\r\n", maxResponseHead)} {
		if _, _, err := ReadResponse(strings.NewReader(in), 100); err == nil {
			t.Errorf("ReadResponse(%.40q) succeeds", in)
		}
	}
}

func FuzzReadRequest(f *testing.F) {
	f.Add("GET /v1/logs?since=1 HTTP/1.1\r\nHost: x\r\n\r\n")
	f.Add("GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello")
	f.Fuzz(func(t *testing.T, in string) {
		req, err := ReadRequest(strings.NewReader(in))
		if err == nil && !strings.HasPrefix(req.Path, "/") {
			t.Errorf("path %q", req.Path)
		}
	})
}

func FuzzReadResponse(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
	f.Add("HTTP/1.1 103 Early\r\n\r\nHTTP/1.0 404 x\r\nContent-Length: 2\r\n\r\nab")
	f.Fuzz(func(t *testing.T, in string) {
		_, body, err := ReadResponse(strings.NewReader(in), 64)
		if err == nil && len(body) > 64 {
			t.Errorf("%d bytes of body", len(body))
		}
	})
}
