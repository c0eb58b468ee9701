// Package tftp serves boot files by TFTP: RFC 1350 with the options of RFC 2347, 2348
// (blksize), 2349 (tsize, timeout) and 7440 (windowsize). Files are read, never
// written, and come from a netboot.Source; no path of the server's is known here.
//
// Two senders stand behind one listener:
//
//   - Whatever asks for octets, as all firmware does, gets our own sender: a pure state
//     machine per transfer (sender.go), run by a few threads that wait for all their
//     sockets at once and send a window as one packet that the kernel cuts (UDP_SEGMENT).
//   - Who asks for netascii, which is what people get who type tftp and forget "binary",
//     is served by a goroutine, in lockstep and without options, from the stream that the
//     conversion of github.com/pin/tftp/v3 makes (netascii_linux.go).
//
// The server of that package, for all clients that do not ask for windows, was the plan
// and was measured: v3.2.0 reaches less than the fastest C server in the lockstep rows too,
// breaks packets of more than the link's MTU into fragments, compares names of options
// by case, and answers no stranger with ERROR 5. docs/benchmarks.md has both.
//
//	conn, err := tftp.Listen(netip.MustParseAddrPort("[::]:69"), "")
//	server := &tftp.Server{Source: files, Watcher: log}
//	err = server.Serve(ctx, conn)
//
// TFTP has no authenticity: who can answer first wins, and a source address is proven
// by nothing but the first acknowledgement. So a request costs its sender's victim no
// more than Retries+1 small packets, no blocks go out before an answer when options were
// asked for, and all state is bounded by Limits.
//
// The package is for Linux.
package tftp

import (
	"cmp"
	"context"
	"time"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// Limits bound what clients can make a server hold. Zero means the default.
type Limits struct {
	Transfers int // at once; 4096. One costs a socket and up to 8 KiB
	Waiting   int // requests that wait for a transfer to end; 4096. They get a late OACK, those beyond them no answer: clients ask again
	PerSource int // transfers of one address at once, of one /64 for IPv6; 256
	Rate      int // requests per second of one address; 256. More get no answer
	Burst     int // requests of one address that come at once; 1024
	Window    int // most blocks in flight, whatever a client asks for; 64
	Block     int // largest block; 65464. The path's MTU bounds it too
}

func (l Limits) filled() Limits {
	return Limits{
		Transfers: cmp.Or(l.Transfers, 4096),
		Waiting:   cmp.Or(l.Waiting, 4096),
		PerSource: cmp.Or(l.PerSource, 256),
		Rate:      cmp.Or(l.Rate, 256),
		Burst:     cmp.Or(l.Burst, 1024),
		Window:    min(cmp.Or(l.Window, 64), maxWindow>>1), // half the block numbers: old ones are told from new ones
		Block:     cmp.Or(l.Block, maxBlock),
	}
}

// Server serves files. Its fields are not changed once Serve runs.
type Server struct {
	Source  netboot.Source
	Watcher netboot.Watcher // nil: nobody
	Limits  Limits
	Timeout time.Duration // longest wait for an acknowledgement; 0: 1 s. A client's timeout option wins once it has been heard
	Retries int           // waits without progress, after which a transfer is over; 0: 8
	Grace   time.Duration // for transfers to end when Serve is told to stop; 0: 30 s
	// Engines is how many threads send; 0: one per processor, at most 4.
	Engines int

	counts counters
	uncut  bool // tests: as if the kernel could not cut windows into packets
}

// saw tells the watcher.
func (s *Server) saw(e netboot.Event) {
	if s.Watcher != nil {
		e.Time, e.Method = time.Now(), netboot.TFTP
		s.Watcher.Saw(e)
	}
}

// open asks the source for a file.
func (s *Server) open(ctx context.Context, r netboot.Request) (netboot.Content, error) {
	c, err := s.Source.Open(ctx, r)
	if err == nil && c.Size() < 0 {
		c.Close()
		return nil, netboot.ErrNotFound
	}
	return c, err
}
