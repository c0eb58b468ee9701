package httpboot

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener without a network, so that time can pass at once.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// dial gives a client's end.
func (p *pipes) dial() net.Conn {
	a, b := net.Pipe()
	p.conns <- b
	return a
}

// slow runs f with a server in a bubble, where waiting takes no time.
func slow(t *testing.T, l Limits, n int, f func(t *testing.T, p *pipes, d *diary)) {
	t.Helper()
	src := newShelf(t)
	src.copy = true
	src.put("a.efi", body(n))
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		p, d := newPipes(), &diary{}
		ended := make(chan error)
		go func() { ended <- (&Server{Source: src, Watcher: d, Limits: l}).Serve(ctx, p) }()
		f(t, p, d)
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// lasts is how long the server keeps a connection on which f is what happens.
func lasts(conn net.Conn, f func(net.Conn)) time.Duration {
	begin, gone := time.Now(), make(chan time.Time)
	go func() {
		io.Copy(io.Discard, conn)
		conn.Close()
		gone <- time.Now()
	}()
	f(conn)
	return (<-gone).Sub(begin)
}

// TestSlowLoris: who sends a header byte by byte, or nothing, is gone after
// Limits.Header, and who has asked once and says no more after Limits.Idle.
func TestSlowLoris(t *testing.T) {
	l := Limits{Header: 10 * time.Second, Idle: 30 * time.Second}
	slow(t, l, 10, func(t *testing.T, p *pipes, d *diary) {
		if got := lasts(p.dial(), func(net.Conn) {}); got != l.Header {
			t.Errorf("nothing: %s", got)
		}
		if got := lasts(p.dial(), func(c net.Conn) {
			for _, b := range []byte("GET /a.efi HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X: y\r\n", 100)) {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}); got > l.Header+time.Second {
			t.Errorf("byte by byte: %s", got)
		}
		if got := lasts(p.dial(), func(c net.Conn) {
			io.WriteString(c, "HEAD /a.efi HTTP/1.1\r\nHost: x\r\n\r\n")
		}); got != l.Idle {
			t.Errorf("idle: %s", got)
		}
	})
}

// TestSlowReader: who takes nothing of a file, or less than the least rate, is
// gone; who takes just enough gets it.
func TestSlowReader(t *testing.T) {
	const n = 1 << 20
	l := Limits{Stall: 30 * time.Second, MinRate: 16 << 10}
	take := func(c net.Conn, piece int, each time.Duration) (got int) {
		io.WriteString(c, "GET /a.efi HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		b := make([]byte, piece)
		for {
			m, err := io.ReadFull(c, b)
			if got += m; err != nil {
				return got
			}
			time.Sleep(each)
		}
	}
	slow(t, l, n, func(t *testing.T, p *pipes, d *diary) {
		begin := time.Now()
		if got := take(p.dial(), 1, time.Hour); got > 10 {
			t.Errorf("%d bytes, one in an hour", got)
		}
		p.dial().Close()
		if got := take(p.dial(), 1<<10, time.Second); got >= n {
			t.Error("1 KiB in a second is enough")
		}
		if got := take(p.dial(), 16<<10, time.Second); got < n {
			t.Errorf("16 KiB in a second: %d bytes", got)
		}
		if d := time.Since(begin); d > 3*time.Hour {
			t.Errorf("%s", d)
		}
		synctest.Wait()
		if got := d.stages(); got != "probed first broken first last" {
			t.Error(got)
		}
	})
}

// TestDrainEnds: a client that takes nothing does not keep the server from
// ending.
func TestDrainEnds(t *testing.T) {
	src := newShelf(t)
	src.copy = true
	src.put("a.efi", body(1<<20))
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		p, ended := newPipes(), make(chan error)
		go func() {
			ended <- (&Server{Source: src, Limits: Limits{Drain: 7 * time.Second, Stall: time.Hour}}).Serve(ctx, p)
		}()
		c := p.dial()
		defer c.Close()
		io.WriteString(c, "GET /a.efi HTTP/1.1\r\nHost: x\r\n\r\n")
		io.ReadFull(c, make([]byte, 10))
		stop()
		begin := time.Now()
		if err := <-ended; err != nil || time.Since(begin) != 7*time.Second {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
	})
}

// TestFull: when all places are taken, the next client waits for one and is not
// refused; those who say nothing give theirs back.
func TestFull(t *testing.T) {
	slow(t, Limits{Connections: 100, PerAddress: 1000, Header: 10 * time.Second}, 10, func(t *testing.T, p *pipes, d *diary) {
		for range 100 {
			c := p.dial()
			defer c.Close()
		}
		begin := time.Now()
		c := p.dial() // waits for a place
		defer c.Close()
		if got := time.Since(begin); got != 10*time.Second {
			t.Errorf("a place after %s", got)
		}
		io.WriteString(c, "HEAD /a.efi HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if b, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 200 OK") {
			t.Errorf("%q, %v", b, err)
		}
	})
}

// TestOpenTakesLong: a client waits for a file as long as Limits.Open, and is told
// to come back.
func TestOpenTakesLong(t *testing.T) {
	src := newShelf(t)
	src.put("a.efi", body(10))
	synctest.Test(t, func(t *testing.T) {
		src.hold = make(chan struct{})
		ctx, stop := context.WithCancel(t.Context())
		p, ended := newPipes(), make(chan error)
		go func() { ended <- (&Server{Source: src, Limits: Limits{Open: 5 * time.Second}}).Serve(ctx, p) }()
		c := p.dial()
		begin := time.Now()
		io.WriteString(c, "GET /a.efi HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		b, err := io.ReadAll(c)
		if err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 503") || !strings.Contains(string(b), http.CanonicalHeaderKey("retry-after")) || time.Since(begin) != 5*time.Second {
			t.Errorf("%q, %v after %s", b, err, time.Since(begin))
		}
		stop()
		<-ended
	})
}

// TestBodyThatNeverComes: who announces a body and sends none is answered and gone
// at once, whatever the method; what net/http refuses by itself, after the time of a
// header. Each connection is the only one that may be open.
func TestBodyThatNeverComes(t *testing.T) {
	l := Limits{Connections: 1, Header: 10 * time.Second}
	slow(t, l, 10, func(t *testing.T, p *pipes, d *diary) {
		for _, c := range []struct {
			head string
			most time.Duration
		}{
			{"POST /a.efi HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n", 0},
			{"GET /a.efi HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf of", 0},
			{"HEAD /a.efi HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 0},
			{"PUT /a.efi HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n", 0},
			{"GET /a.efi HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nExpect: something\r\n\r\n", l.Header},
		} {
			conn := p.dial()
			end := time.AfterFunc(time.Hour, func() { conn.Close() })
			if got := lasts(conn, func(c2 net.Conn) { io.WriteString(c2, c.head) }); got > c.most {
				t.Errorf("%q: %s", c.head, got)
			}
			end.Stop()
		}
	})
}

// TestLongTransferOutlivesHeader: the time of a header is not that of a request.
func TestLongTransferOutlivesHeader(t *testing.T) {
	src := newShelf(t)
	src.put("a.efi", body(10))
	for after, want := range map[time.Duration]string{40 * time.Second: "HTTP/1.1 200", time.Hour: "HTTP/1.1 503"} {
		synctest.Test(t, func(t *testing.T) {
			src.hold = make(chan struct{})
			ctx, stop := context.WithCancel(t.Context())
			p, ended := newPipes(), make(chan error)
			go func() { ended <- (&Server{Source: src}).Serve(ctx, p) }() // the defaults
			hold := time.AfterFunc(after, func() { close(src.hold) })
			defer hold.Stop()
			c := p.dial()
			begin := time.Now()
			io.WriteString(c, "GET /a.efi HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			b, err := io.ReadAll(c)
			if most := min(after, 45*time.Second); err != nil || !strings.HasPrefix(string(b), want) || time.Since(begin) != most {
				t.Errorf("a file after %s: %q, %v after %s", after, b, err, time.Since(begin))
			}
			stop()
			<-ended
		})
	}
}
