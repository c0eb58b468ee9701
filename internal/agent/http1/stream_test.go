package http1

import (
	"bufio"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// TestSlowServer: a server that sends a byte now and then holds nobody for ever.
func TestSlowServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		bufio.NewReader(c).ReadString('\n')
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
		for range 300 {
			if _, err := c.Write([]byte("x")); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := NewClient(conn, "x")
	c.pace = 300 * time.Millisecond
	a, err := c.Get(t.Context(), "/")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if n, err := io.Copy(io.Discard, a.Body); !errors.Is(err, ErrSlow) {
		t.Errorf("%d bytes, %v", n, err)
	}
}
