// Package httpboot serves boot files over HTTP and HTTPS to firmware (UEFI 2.10
// section 24.7, "HTTP Boot"), to iPXE and to machines that fetch the rest of
// their release: GET and HEAD of RFC 9110 on HTTP/1.1, with single byte ranges so
// that a download can be taken up again, and the SHA-256 of a file as its ETag.
//
// There are no directories, no redirects, no default page and no upload: a path
// is a file of the Source, or nothing. All that a client can cause is bounded:
// connections, of all and of an address; the time of a header, of idleness and of
// a piece of a file; the size of a header.
//
//	s := &httpboot.Server{Source: source, Watcher: watcher}
//	err := s.Serve(ctx, listener)                        // HTTP, until ctx ends
//	err = s.ServeTLS(ctx, listener, current)             // HTTPS for firmware, too
//
// HTTPS is for firmware first: that of EDK2 as Debian 12 has it offers RSA key
// exchange and DHE only, so TLSConfig takes RSA key exchange, which the TLS
// library refuses by default. Nothing else may use that configuration.
//
// Limits: HTTP/1.1 only, because firmware speaks nothing else; of several ranges
// in one request none is obeyed, as section 14.2 allows; no compression, since
// kernels are compressed already.
package httpboot

import (
	"context"
	"crypto/tls"
	"errors"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// Digester is Content that knows its SHA-256, in hex: it becomes the ETag.
type Digester interface{ Digest() string }

// Limits bound what clients can cause. Zero values are replaced by defaults.
type Limits struct {
	// Connections are open at once; 2048. Further clients wait for a place, as the
	// kernel's queue allows, and are not refused.
	Connections int
	// PerAddress is how many of these an address may have; 256. One more is closed at
	// once. A machine needs one or two, so the default lets a hall of a hundred boot
	// through one NAT; behind a larger one it is raised. IPv6 addresses count each for
	// themselves: the hosts of a link share their first 64 bits.
	PerAddress int
	Header     time.Duration // that a request, or a TLS handshake, may take to arrive; 10 s
	Idle       time.Duration // between two requests of a connection; 30 s
	Open       time.Duration // that a client waits for a file that is being checked; 45 s
	// Stall and MinRate bound a piece of a file: it must go out within Stall and
	// what it takes at MinRate bytes in a second; 30 s, and 16 KiB in a second.
	Stall   time.Duration
	MinRate int64
	// Drain is how long transfers under way go on after the end of the context; 30 s.
	Drain time.Duration
}

func (l Limits) defaults() Limits {
	number := func(n *int, d int) {
		if *n <= 0 {
			*n = d
		}
	}
	span := func(n *time.Duration, d time.Duration) {
		if *n <= 0 {
			*n = d
		}
	}
	number(&l.Connections, 2048)
	number(&l.PerAddress, 256)
	span(&l.Header, 10*time.Second)
	span(&l.Idle, 30*time.Second)
	span(&l.Open, 45*time.Second)
	span(&l.Stall, 30*time.Second)
	span(&l.Drain, 30*time.Second)
	if l.MinRate <= 0 {
		l.MinRate = 16 << 10
	}
	return l
}

// maxHeader bounds the header of a request, in bytes. That of EDK2 has 150.
const maxHeader = 8 << 10

// Server serves the files of a source, on any number of listeners, which share
// its limits. Its fields are set before the first use.
type Server struct {
	Source  netboot.Source
	Watcher netboot.Watcher // nil: nobody watches
	Limits  Limits
	Now     func() time.Time // of events; nil is time.Now

	once   sync.Once
	limits Limits
	crowd  *crowd
}

func (s *Server) setUp() {
	s.once.Do(func() {
		s.limits = s.Limits.defaults()
		s.crowd = newCrowd(s.limits.Connections, s.limits.PerAddress)
		if s.Now == nil {
			s.Now = time.Now
		}
	})
}

// Serve serves HTTP on a listener until the context ends, and then lets transfers
// under way come to their end, no longer than Limits.Drain. It closes the
// listener. The error is nil after the end of the context.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	return s.serve(ctx, l, netboot.HTTP, nil)
}

// ServeTLS is Serve for HTTPS. It asks for the certificate at each handshake, so
// that another one can take its place.
func (s *Server) ServeTLS(ctx context.Context, l net.Listener, certificate func() *tls.Certificate) error {
	return s.serve(ctx, l, netboot.HTTPS, TLSConfig(certificate))
}

func (s *Server) serve(ctx context.Context, l net.Listener, m netboot.Method, config *tls.Config) error {
	s.setUp()
	h := &http.Server{
		Handler:                      http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.answer(w, r, m) }),
		DisableGeneralOptionsHandler: true, // OPTIONS * is refused like all else
		ReadHeaderTimeout:            s.limits.Header,
		ReadTimeout:                  s.limits.Header, // of what net/http answers by itself; see call.noBody
		IdleTimeout:                  s.limits.Idle,
		MaxHeaderBytes:               maxHeader,
		TLSConfig:                    config,
		ErrorLog:                     log.New(handshakes{s, m}, "", 0),
		// Requests outlive the context by Drain.
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		Protocols:   new(http.Protocols),
	}
	h.Protocols.SetHTTP1(true)
	drained := make(chan struct{})
	served := make(chan struct{})
	go func() {
		defer close(drained)
		select {
		case <-ctx.Done():
		case <-served: // the listener failed
		}
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.limits.Drain)
		defer cancel()
		if h.Shutdown(end) != nil {
			h.Close()
		}
	}()
	places := s.crowd.listen(l)
	var err error
	if config == nil {
		err = h.Serve(places)
	} else {
		err = h.ServeTLS(places, "", "")
	}
	close(served)
	<-drained
	if errors.Is(err, http.ErrServerClosed) && ctx.Err() != nil {
		return nil
	}
	return err
}

// saw tells the watcher.
func (s *Server) saw(e netboot.Event) {
	if s.Watcher == nil {
		return
	}
	e.Time = s.Now()
	s.Watcher.Saw(e)
}
