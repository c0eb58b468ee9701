// Package listener answers HTTP about one machine: GET /healthz, /v1/status
// and /v1/logs (docs/machine-api.md). It is read only and plain; what it tells
// is no secret, and it takes nothing from a request but two query values.
package listener

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ingot-os/ingot/internal/agent/ring"
)

// Server is the listener. All fields are required.
type Server struct {
	Status func() Status
	Logs   *ring.Ring
}

// MaxLogs is the number of lines in one answer of /v1/logs.
const MaxLogs = 4000

// LogLine is one line of /v1/logs.
type LogLine struct {
	Seq     uint64  `json:"seq"`
	At      float64 `json:"at"` // seconds since the kernel started
	Service string  `json:"service"`
	Text    string  `json:"text"`
}

// Logs is the answer of /v1/logs.
type Logs struct {
	Lines []LogLine `json:"lines"`
	Next  uint64    `json:"next"` // value of since= that continues here
}

// Serve answers on l until the context ends.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
	}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	err := srv.Serve(limit(l, 64))
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// Handler routes the three paths.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.Status()) })
	mux.HandleFunc("GET /v1/logs", s.logs)
	return mux
}

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	st := s.Status()
	if st.Healthy {
		fmt.Fprintln(w, "ok")
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	fmt.Fprintln(w, strings.Join(st.Reasons, "\n"))
}

func (s *Server) logs(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	var since uint64
	if v := q.Get("since"); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			http.Error(w, fmt.Sprintf("parse since=%.40q: want a number", v), http.StatusBadRequest)
			return
		}
		since = n
	}
	out := Logs{Lines: []LogLine{}, Next: since}
	for _, e := range s.Logs.Since(since, q.Get("service"), MaxLogs) {
		out.Lines = append(out.Lines, LogLine{e.Seq, e.At.Seconds(), e.Source, e.Text})
		out.Next = e.Seq
	}
	writeJSON(w, out)
}

func writeJSON(w http.ResponseWriter, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil { // only a type in this package can cause it
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Write(append(b, '\n'))
}

// limit bounds the connections that are open at once: each costs memory that
// the services of a small machine need.
func limit(l net.Listener, n int) net.Listener {
	return &limited{Listener: l, free: make(chan struct{}, n)}
}

type limited struct {
	net.Listener
	free chan struct{}
}

func (l *limited) Accept() (net.Conn, error) {
	l.free <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.free
		return nil, err
	}
	return &limitedConn{Conn: c, free: l.free}, nil
}

type limitedConn struct {
	net.Conn
	free chan struct{}
	once sync.Once
}

// Close gives the place back once.
func (c *limitedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { <-c.free })
	return err
}
