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
	server := &httpboot.Server{Source: s.site, Watcher: s.site.watch, Limits: httpboot.Limits{Connections: s.c.HTTP.Connections, PerAddress: s.c.HTTP.PerAddress}}
	if !s.c.HTTP.Off || s.c.HTTPS.On {
		s.countHTTP(server)
	}
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

// countHTTP tells what the HTTP server counts itself.
func (s *Server) countHTTP(h *httpboot.Server) {
	s.metrics.gauge("ingot_http_connections", "Connections of HTTP and HTTPS that are open.", nil, func() float64 { return float64(h.Stats().Open) })
	s.metrics.counter("ingot_http_accepted_connections_total", "Connections of HTTP and HTTPS that came in.", nil, func() float64 { return float64(h.Stats().Accepted) })
	s.metrics.counter("ingot_http_refused_connections_total", "Connections of HTTP and HTTPS that were closed at once, because their address had http.perAddress of them.", nil, func() float64 { return float64(h.Stats().Refused) })
}

// bootCertificate is that of HTTPS Boot: the operator's, or one by the boot
// authority of the key set. It is renewed while the server runs.
func (s *Server) bootCertificate(ctx context.Context) (*atomic.Pointer[tls.Certificate], error) {
	conf := s.c
	load := func() (tls.Certificate, error) {
		c, err := tls.LoadX509KeyPair(conf.HTTPS.Cert, conf.HTTPS.Key)
		if err != nil {
			err = fmt.Errorf("read %s and %s: %w", conf.HTTPS.Cert, conf.HTTPS.Key, err)
		}
		return c, err
	}
	if s.c.HTTPS.Cert == "" {
		if s.o.Set == nil {
			return nil, s.c.wrong("https", "keys", "name a key set with keys, or a certificate with https.cert and https.key", "HTTPS without keys: who issues its certificate?")
		}
		by, err := attestd.Authority(ctx, s.o.Set, keys.Boot)
		if err != nil {
			return nil, &ui.Error{Err: fmt.Errorf("https: %w", err), Hint: attestd.LackHint(err, s.o.Set, s.c.Keys, keys.Boot)}
		}
		names := s.names()
		load = func() (tls.Certificate, error) {
			return verifier.BootCertificate(conf.State, *by, names, time.Now())
		}
	}
	c, err := load()
	if err != nil {
		return nil, s.c.wrong("https.cert", "keys", "", "certificate of HTTPS: %v", err)
	}
	for _, doubt := range httpboot.Doubts(c.Leaf, time.Now()) {
		s.o.Warn("https: firmware may not take the certificate: %s", doubt)
	}
	current := &atomic.Pointer[tls.Certificate]{}
	current.Store(&c)
	s.site.renew = append(s.site.renew, func() error {
		c, err := load()
		if err != nil {
			return fmt.Errorf("https: %w", err)
		}
		current.Store(&c)
		return nil
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
