package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// httpLoad is a crowd of clients that load one file at once: the same for every
// server. They read and forget, so that what is measured is the servers.
type httpLoad struct {
	server  netip.AddrPort
	path    string
	size    int64
	clients int
	from    netip.Addr // of the client; zero: any
	probe   bool       // HEAD first, on a connection of its own, as EDK2 does
}

// httpOutcome is what came of it.
type httpOutcome struct {
	bytes  int64
	took   time.Duration
	done   []float64 // seconds until each client had it all
	failed int
	first  error // of the failures
}

// httpPatience is how long a client waits for anything: firmware waits longer.
const httpPatience = 60 * time.Second

// run lets all clients load.
func (l httpLoad) run() (o httpOutcome) {
	var mu sync.Mutex
	var all sync.WaitGroup
	begin := time.Now()
	for range l.clients {
		all.Go(func() {
			n, err := l.client()
			mu.Lock()
			defer mu.Unlock()
			o.bytes += n
			if err == nil {
				o.done = append(o.done, time.Since(begin).Seconds())
			} else if o.failed++; o.first == nil {
				o.first = err
			}
		})
	}
	all.Wait()
	o.took = time.Since(begin)
	return o
}

func (l httpLoad) client() (int64, error) {
	if l.probe {
		if _, err := l.ask(http.MethodHead); err != nil {
			return 0, err
		}
	}
	n, err := l.ask(http.MethodGet)
	if err == nil && n != l.size {
		err = fmt.Errorf("%d bytes of %d", n, l.size)
	}
	return n, err
}

var httpBuffers = sync.Pool{New: func() any { return new([128 << 10]byte) }}

// ask sends a request, and gives the bytes that came.
func (l httpLoad) ask(method string) (int64, error) {
	d := net.Dialer{Timeout: httpPatience}
	if l.from.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(l.from, 0))
	}
	conn, err := d.Dial("tcp", l.server.String())
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(httpPatience))
	if _, err := fmt.Fprintf(conn, "%s /%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: UefiHttpBoot/1.0\r\nConnection: close\r\n\r\n", method, l.path, l.server); err != nil {
		return 0, err
	}
	head := bufio.NewReaderSize(conn, 1<<10)
	resp, err := http.ReadResponse(head, &http.Request{Method: method})
	if err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK || resp.ContentLength != l.size {
		return 0, fmt.Errorf("%s: %s, %d bytes", method, resp.Status, resp.ContentLength)
	}
	if method == http.MethodHead {
		return 0, nil
	}
	early := int64(head.Buffered())
	b := httpBuffers.Get().(*[128 << 10]byte)
	defer httpBuffers.Put(b)
	for got := early; ; {
		conn.SetDeadline(time.Now().Add(httpPatience))
		n, err := conn.Read(b[:])
		if got += int64(n); got >= l.size || err == io.EOF {
			return got, nil
		}
		if err != nil {
			return got, err
		}
	}
}
