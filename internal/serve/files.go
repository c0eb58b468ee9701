package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/ingot-os/ingot/internal/attestd"
	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/ui"
	"github.com/ingot-os/ingot/internal/verifier"
	"github.com/ingot-os/ingot/pxe/httpboot"
)

// openHTTP opens HTTP and HTTPS. Both share the limits of one server.
func (s *Server) openHTTP(ctx context.Context) error {
	server := &httpboot.Server{Source: s.site, Watcher: s.site.watch, Limits: httpboot.Limits{Connections: s.c.HTTP.Connections}}
	if !s.c.HTTP.Off {
		l, err := s.listen(ctx, "http", "http.listen", s.c.HTTP.Listen)
		if err != nil {
			return err
		}
		s.parts = append(s.parts, part{name: "http", run: func(ctx context.Context) error { return server.Serve(ctx, l) }})
	}
	if !s.c.HTTPS.On {
		return nil
	}
	current, err := s.bootCertificate(ctx)
	if err != nil {
		return err
	}
	l, err := s.listen(ctx, "https", "https.listen", s.c.HTTPS.Listen)
	if err != nil {
		return err
	}
	s.parts = append(s.parts, part{name: "https", run: func(ctx context.Context) error { return server.ServeTLS(ctx, l, current.Load) }})
	return nil
}

// bootCertificate is that of HTTPS Boot: the operator's, or one by the boot
// authority of the key set. It is renewed while the server runs.
func (s *Server) bootCertificate(ctx context.Context) (*atomic.Pointer[tls.Certificate], error) {
	load := func() (tls.Certificate, error) { return tls.LoadX509KeyPair(s.c.HTTPS.Cert, s.c.HTTPS.Key) }
	if s.c.HTTPS.Cert == "" {
		if s.o.Set == nil {
			return nil, s.c.wrong("https", "keys", "name a key set with keys, or a certificate with https.cert and https.key", "HTTPS without keys: who issues its certificate?")
		}
		by, err := attestd.Authority(ctx, s.o.Set, keys.Boot)
		if err != nil {
			return nil, &ui.Error{Err: fmt.Errorf("https: %w", err), Hint: "ingot keys add " + s.c.Keys + " boot; then enrol its certificate in the firmware (docs/netboot-http.md)"}
		}
		load = func() (tls.Certificate, error) {
			return verifier.BootCertificate(s.c.State, *by, s.names(), time.Now())
		}
	}
	c, err := load()
	if err != nil {
		return nil, s.c.wrong("https.cert", "keys", "", "read the certificate of HTTPS: %v", err)
	}
	for _, doubt := range httpboot.Doubts(c.Leaf, time.Now()) {
		s.o.Warn("https: firmware may not take the certificate: %s", doubt)
	}
	current := &atomic.Pointer[tls.Certificate]{}
	current.Store(&c)
	s.site.renew = append(s.site.renew, func() error {
		c, err := load()
		if err == nil {
			current.Store(&c)
		}
		return err
	})
	return current, nil
}

// names are those of certificates: what machines are told first.
func (s *Server) names() []string {
	list := s.c.Names
	if len(list) == 0 {
		list = attestd.OwnNames()
	}
	if a := s.c.Address; a.IsValid() && !contains(list, a.String()) {
		list = append([]string{a.String()}, list...)
	}
	return list
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if strings.EqualFold(x, s) {
			return true
		}
	}
	return false
}

// openMetrics opens /metrics and /healthz.
func (s *Server) openMetrics(ctx context.Context) error {
	if s.c.Metrics.Off {
		return nil
	}
	l, err := s.listen(ctx, "metrics", "metrics.listen", s.c.Metrics.Listen)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second}))
	mux.HandleFunc("POST /-/reload", s.reloadByHTTP)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	server := &http.Server{Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 8 << 10}
	s.parts = append(s.parts, part{name: "metrics", run: func(ctx context.Context) error { return serveHTTP(ctx, server, l) }})
	return nil
}

// reloadByHTTP is SIGHUP for who cannot send one. From this machine only, and not by
// a web page that a browser here shows (Fetch standard: those send Origin).
func (s *Server) reloadByHTTP(w http.ResponseWriter, r *http.Request) {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !from.Addr().Unmap().IsLoopback() || r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" {
		http.Error(w, "a reload is asked for on this machine", http.StatusForbidden)
		return
	}
	if !s.Reload(r.Context()) {
		http.Error(w, "something stays as it was: the log says what, and why", http.StatusUnprocessableEntity)
		return
	}
	fmt.Fprintln(w, "ok")
}

// serveHTTP serves until the context ends.
func serveHTTP(ctx context.Context, server *http.Server, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		server.Shutdown(ctx)
	})
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
