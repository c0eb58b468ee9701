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

// TestClient speaks to the standard library's server: several requests over one
// connection, chunked answers with and without trailers among them.
func TestClient(t *testing.T) {
	connections := 0
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/chunked":
			w.Header().Set("Trailer", "X-Sum")
			for range 3 {
				fmt.Fprint(w, strings.Repeat("c", 1000))
				w.(http.Flusher).Flush()
			}
			w.Header().Set("X-Sum", "1")
		case "/none":
			w.WriteHeader(http.StatusNoContent)
		case "/last":
			w.Header().Set("Connection", "close")
			fmt.Fprint(w, "bye")
		default:
			w.WriteHeader(http.StatusTeapot)
			fmt.Fprintf(w, "%s %s %s %s", r.Method, r.Host, r.Header.Get("Content-Type"), body)
		}
	}))
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			connections++
		}
	}
	s.Start()
	defer s.Close()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := NewClient(conn, "host:1")
	for _, r := range []struct {
		path, body string
		status     int
		want       string
	}{
		{"/echo", "text", 418, "POST host:1 application/json text"},
		{"/chunked", "", 200, strings.Repeat("c", 3000)},
		{"/none", "", 204, ""},
		{"/echo", "", 418, "POST host:1 application/json "},
		{"/last", "", 200, "bye"},
	} {
		status, body, err := c.Post(t.Context(), r.path, "application/json", []byte(r.body), 3000)
		if err != nil || status != r.status || string(body) != r.want {
			t.Errorf("%s: %d %.60q %v", r.path, status, body, err)
		}
		if c.Done() != (r.path == "/last") {
			t.Errorf("%s: done %t", r.path, c.Done())
		}
	}
	if connections != 1 {
		t.Errorf("%d connections", connections)
	}
}

// server answers one request with fixed bytes.
func fixed(t *testing.T, answer string) *Client {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	go func() {
		b := make([]byte, 4096)
		far.Read(b)
		io.WriteString(far, answer)
		if answer != "" {
			far.Close()
		}
	}()
	return NewClient(near, "h")
}

func TestClientRefuses(t *testing.T) {
	for name, c := range map[string]struct{ answer, want string }{
		"too large": {"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n01234567890", "too large"},
		"cut":       {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n0123", "unexpected EOF"},
		"no HTTP":   {"SSH-2.0-x\r\n", "status line"},
		"chunk":     {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "chunk size"},
	} {
		cl := fixed(t, c.answer)
		if _, _, err := cl.Post(t.Context(), "/", "text/plain", nil, 10); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if !cl.Done() {
			t.Errorf("%s: the connection is to be used again", name)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, _, err := fixed(t, "").Post(ctx, "/", "text/plain", nil, 10); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a silent server: %v", err)
	}
}
