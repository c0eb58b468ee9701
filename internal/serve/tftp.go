package serve

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/ingot-os/ingot/pxe/tftp"
)

// openTFTP opens TFTP.
func (s *Server) openTFTP(ctx context.Context) error {
	if s.c.TFTP.Off {
		return nil
	}
	addrs, err := resolve(ctx, s.c.TFTP.Listen)
	if err != nil {
		return s.c.wrong("tftp.listen", "tftp", "", "%v", err)
	}
	t := &tftp.Server{Source: s.site, Watcher: s.site.watch, Limits: tftp.Limits{Transfers: s.c.TFTP.Transfers}}
	var conns []*net.UDPConn
	for _, a := range addrs {
		conn, err := tftp.Listen(a, "")
		if err != nil {
			closeAll(conns)
			return s.troubled(listener{Part: "tftp", Network: "udp", Address: s.c.TFTP.Listen}, s.c.bindError("tftp.listen", "tftp", "udp", int(a.Port()), err))
		}
		conns = append(conns, conn)
		s.listeners = append(s.listeners, &listener{Part: "tftp", Key: "tftp.listen", Network: "udp", Address: conn.LocalAddr().String()})
	}
	s.countTFTP(t)
	s.parts = append(s.parts, part{name: "tftp", run: func(ctx context.Context) error { return t.Serve(ctx, conns...) }, close: func() { closeAll(conns) }})
	return nil
}

func closeAll(conns []*net.UDPConn) {
	for _, c := range conns {
		c.Close()
	}
}

// resolve gives the addresses of a listener: all of IPv4 and IPv6 without a host.
func resolve(ctx context.Context, address string) ([]netip.AddrPort, error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("port %q: not a number up to 65535", text)
	}
	if host == "" {
		return []netip.AddrPort{netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(port))}, nil
	}
	list, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	var out []netip.AddrPort
	for _, a := range list { // a name may have one address twice
		if at := netip.AddrPortFrom(a.Unmap(), uint16(port)); !slices.Contains(out, at) {
			out = append(out, at)
		}
	}
	return out, nil
}

// countTFTP tells what the TFTP server counts itself.
func (s *Server) countTFTP(t *tftp.Server) {
	s.metrics.gauge("ingot_tftp_transfers", "TFTP transfers that run.", nil, func() float64 { return float64(t.Stats().Active) })
	s.metrics.gauge("ingot_tftp_waiting", "TFTP requests that wait for a transfer to end.", nil, func() float64 { return float64(t.Stats().Waiting) })
	for _, x := range []struct {
		name, help string
		of         func(tftp.Stats) int64
	}{
		{"requests", "TFTP requests that could be read.", func(s tftp.Stats) int64 { return s.Requests }},
		{"malformed", "Packets to the TFTP port that could not be read.", func(s tftp.Stats) int64 { return s.Malformed }},
		{"dropped", "TFTP requests beyond the limits, which got no answer.", func(s tftp.Stats) int64 { return s.Dropped }},
		{"strangers", "Packets to a TFTP transfer that were not its client's.", func(s tftp.Stats) int64 { return s.Strangers }},
		{"blocks", "TFTP blocks that were sent.", func(s tftp.Stats) int64 { return s.Blocks }},
		{"resent_blocks", "TFTP blocks that were sent once more, after a timeout or a gap.", func(s tftp.Stats) int64 { return s.Resent }},
	} {
		s.metrics.counter("ingot_tftp_"+x.name+"_total", x.help, nil, func() float64 { return float64(x.of(t.Stats())) })
	}
}
