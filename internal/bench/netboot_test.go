package main

import (
	"context"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/pxe/tftp"
)

// TestTFTPLoad: what the clients of the load count is what a server sends, also when
// they lose a block, share a window, or have addresses of their own.
func TestTFTPLoad(t *testing.T) {
	dir, err := tftpFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := tftp.Listen(netip.MustParseAddrPort("0.0.0.0:0"), "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	s := &tftp.Server{Source: rootSource{root}, Grace: time.Millisecond}
	go func() { ended <- s.Serve(ctx, conn) }()
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), conn.LocalAddr().(*net.UDPAddr).AddrPort().Port())
	for _, l := range []tftpLoad{
		{clients: 1, block: 512, window: 1},
		{clients: 1, block: 1468, window: 4, lose: lostInWindow, take: time.Microsecond, turn: time.Microsecond},
		{clients: 20, block: 1428, window: 1, from: apart},
		{clients: 20, block: 8192, window: 16, path: func(int) string { return tftpMega }},
	} {
		l.server, l.file, l.size = at, tftpMega, tftpMegaSize
		o, err := l.run()
		if err != nil || o.failed > 0 || o.bytes != int64(l.clients)*tftpMegaSize || len(o.done) != l.clients {
			t.Errorf("%+v: %d bytes, %d failed, %v, %v", l, o.bytes, o.failed, o.first, err)
		}
	}
	l := tftpLoad{server: at, file: "none", size: 1, clients: 2, block: 512, window: 1}
	if o, err := l.run(); err != nil || o.failed != 2 || o.first.Error() != "no such file" {
		t.Errorf("a file that is not there: %d failed, %v, %v", o.failed, o.first, err)
	}
	l = tftpLoad{server: at, file: tftpMega, size: tftpMegaSize + 1, clients: 1, block: 1428, window: 4}
	if o, err := l.run(); err != nil || o.failed != 1 {
		t.Errorf("a file that is too short counts as whole: %v", err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestRace(t *testing.T) {
	slow, fast := race{job: "time", unit: seconds, runs: 1}, race{job: "speed", unit: rate, runs: 1, lost: map[string]int{tftpAtftpd: 7}}
	for name, v := range map[string]float64{tftpOurs: 1, tftpDnsmasq: 4, tftpHPA: 2, tftpPin: 0.5} {
		slow.add(name, v)
		fast.add(name, v*1e6)
	}
	if name, ratio := slow.best(); name != tftpHPA || ratio != "2.00 x" {
		t.Errorf("the least time: %s, %s", name, ratio)
	}
	if name, ratio := fast.best(); name != tftpDnsmasq || ratio != "0.25 x" {
		t.Errorf("the highest speed: %s, %s", name, ratio)
	}
	text := (&report{races: []race{slow, fast}}).raceTable()
	if !strings.Contains(text, "| 1 MB/s | 4 MB/s | 2 MB/s | 7 clients failed | 0 MB/s | 0.25 x (dnsmasq) | 1 |") {
		t.Error(text)
	}
}
