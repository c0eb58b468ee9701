package httpboot

import (
	"net"
	"net/netip"
	"sync"
)

// crowd bounds open connections, of all listeners and of an address.
type crowd struct {
	places chan struct{}
	each   int

	mu    sync.Mutex
	by    map[netip.Addr]int
	stats Stats
}

func newCrowd(all, each int) *crowd {
	return &crowd{places: make(chan struct{}, all), each: each, by: map[netip.Addr]int{}}
}

func (c *crowd) listen(l net.Listener) net.Listener {
	return &gate{Listener: l, crowd: c, closed: make(chan struct{})}
}

// enter counts a connection of an address, or says that it has too many.
func (c *crowd) enter(from netip.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.Accepted++
	if c.by[from] >= c.each {
		c.stats.Refused++
		return false
	}
	c.by[from]++
	c.stats.Open++
	return true
}

func (c *crowd) leave(from netip.Addr) {
	c.mu.Lock()
	c.stats.Open--
	if c.by[from]--; c.by[from] <= 0 {
		delete(c.by, from)
	}
	c.mu.Unlock()
	<-c.places
}

// gate is a listener that accepts when there is a place.
type gate struct {
	net.Listener
	crowd  *crowd
	once   sync.Once
	closed chan struct{}
}

// Accept implements net.Listener.
func (g *gate) Accept() (net.Conn, error) {
	select {
	case g.crowd.places <- struct{}{}:
	case <-g.closed:
		return nil, net.ErrClosed
	}
	for {
		conn, err := g.Listener.Accept()
		if err != nil {
			<-g.crowd.places
			return nil, err
		}
		from := peer(conn.RemoteAddr()).Addr()
		if !g.crowd.enter(from) {
			conn.Close()
			continue
		}
		leave := sync.OnceFunc(func() { g.crowd.leave(from) })
		if tcp, ok := conn.(*net.TCPConn); ok {
			return &tcpMember{tcp, leave}, nil
		}
		return &member{conn, leave}, nil
	}
}

// Close implements net.Listener.
func (g *gate) Close() error {
	g.once.Do(func() { close(g.closed) })
	return g.Listener.Close()
}

// peer is an address as others write it: an IPv4 address is one on a listener
// for IPv6, too.
func peer(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	p := tcp.AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

// tcpMember keeps the ReadFrom of a TCP connection, which is sendfile(2).
type tcpMember struct {
	*net.TCPConn
	leave func()
}

// Close implements net.Conn.
func (m *tcpMember) Close() error {
	defer m.leave()
	return m.TCPConn.Close()
}

type member struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (m *member) Close() error {
	defer m.leave()
	return m.Conn.Close()
}
