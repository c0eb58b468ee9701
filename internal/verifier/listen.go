package verifier

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	jsonv2 "github.com/go-json-experiment/json"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/attestapi"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// Serve answers on a listener until the context ends; then requests under way
// are finished, within some seconds.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	limit := s.o.Limits.Timeout
	h := &http.Server{
		Handler: s.Handler(), TLSConfig: s.tls(), TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}, // HTTP/1.1 only
		ReadHeaderTimeout: limit, ReadTimeout: limit, WriteTimeout: 2 * limit, MaxHeaderBytes: 16 << 10, // writing begins to count with the body
		IdleTimeout: max(s.o.Interval+s.o.Interval/2, time.Minute), // a machine keeps its channel
		ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	swept := make(chan struct{})
	go func() {
		defer close(swept)
		s.sweepAlways(ctx)
	}()
	stopped := make(chan error, 1)
	context.AfterFunc(ctx, func() {
		bound, done := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer done()
		if err := h.Shutdown(bound); err != nil {
			h.Close()
		}
		stopped <- nil
	})
	err := h.ServeTLS(newCrowd(l, s.o.Limits.Connections), "", "")
	cancel()
	<-stopped
	<-swept
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve: %w", err)
}

// tls asks for a certificate and takes any: a machine's is its own, and handlers
// look at an operator's. Tickets would resume a channel without its key.
func (s *Server) tls() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.RequestClientCert, NextProtos: []string{"http/1.1"}, SessionTicketsDisabled: true,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.cert.Load(), nil },
	}
}

// Handler is the API. It needs the state of the TLS connection in requests.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	machine := func(path string, limit int64, fn func(*call, []byte) (any, error)) {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) { s.answer(w, r, limit, fn) })
	}
	machine(attestapi.EnrolPath, attestapi.MaxRequest, s.enrol)
	machine(attestapi.ActivatePath, attestapi.MaxRequest, s.activate)
	machine(attestapi.ChallengePath, attestapi.MaxRequest, s.challenge)
	machine(attestapi.EvidencePath, attest.MaxEvidence, s.evidence)
	operator := func(pattern string, fn func(*call, []byte) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { s.answer(w, r, attestapi.MaxRequest, s.operated(fn)) })
	}
	operator("GET "+HostsPath, s.list)
	operator("GET "+HostsPath+"/{name}", s.detail)
	operator("POST "+HostsPath+"/{name}", s.act)
	mux.HandleFunc("GET "+updateapi.AssignmentPath, func(w http.ResponseWriter, r *http.Request) { s.answer(w, r, 0, s.attested(s.assignment)) })
	mux.HandleFunc("POST "+updateapi.SlotsPath, func(w http.ResponseWriter, r *http.Request) { s.answer(w, r, maxReport, s.attested(s.report)) })
	mux.HandleFunc("GET "+updateapi.ReleasesPath+"/{digest}/{part}", s.send)
	if s.o.Boots != nil {
		operator("GET "+BootsPath, s.boots)
		operator("GET "+BootsPath+"/{name}", s.boot)
		operator("POST "+BootsPath+"/{name}", s.order)
	}
	s.netboot(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		write(w, http.StatusNotFound, attestapi.Error{Code: RequestUnknown, Detail: "there is no such path or method"})
	})
	return mux
}

// Reasons of refusals that are not about a host.
const (
	RequestMalformed attest.Code = "request.malformed"
	RequestUnknown   attest.Code = "request.unknown"
	RequestChannel   attest.Code = "request.channel"
	RequestOperator  attest.Code = "request.operator"
	RequestBusy      attest.Code = "request.busy"
	ServerError      attest.Code = "server.error"
)

// call is a request: who asks, and from where.
type call struct {
	ctx      context.Context
	r        *http.Request
	cert     *x509.Certificate // the first that the client has shown
	chain    []*x509.Certificate
	key      []byte // id of the channel's key
	address  string
	operator string      // name, where it is one
	host     *fleet.Host // that is attested, where it is one
}

// refusal is an error for the client.
type refusal struct {
	status int
	says   attestapi.Error
	hint   string // for operators, and of updates
}

// saying is a refusal as it is sent: an updateapi.Error, too.
type saying struct {
	attestapi.Error
	Hint string `json:"hint,omitempty"`
}

func (e *refusal) Error() string { return string(e.says.Code) + ": " + e.says.Detail }

func refuse(status int, code attest.Code, format string, args ...any) error {
	return &refusal{status: status, says: attestapi.Error{Code: code, Detail: fmt.Sprintf(format, args...)}}
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request, limit int64, fn func(*call, []byte) (any, error)) {
	out, err := s.do(w, r, limit, fn)
	if err == nil {
		write(w, http.StatusOK, out)
		return
	}
	s.decline(w, r, err)
}

// decline answers with a refusal; other errors are for the log.
func (s *Server) decline(w http.ResponseWriter, r *http.Request, err error) {
	var e *refusal
	if !errors.As(err, &e) {
		s.log.Error("request failed", "path", r.URL.Path, "address", r.RemoteAddr, "error", err)
		e = &refusal{status: http.StatusInternalServerError, says: attestapi.Error{Code: ServerError, Detail: "the server could not do it: its log says why"}}
	}
	write(w, e.status, saying{e.says, e.hint})
}

// do reads the body within the bounds and calls the handler.
func (s *Server) do(w http.ResponseWriter, r *http.Request, limit int64, fn func(*call, []byte) (any, error)) (any, error) {
	c, err := caller(r)
	if err != nil {
		return nil, err
	}
	var body []byte
	if r.Method == http.MethodPost {
		if r.ContentLength < 0 || r.ContentLength > limit {
			return nil, refuse(http.StatusRequestEntityTooLarge, RequestMalformed, "a body of %d bytes; its length must be said, and is at most %d", r.ContentLength, limit)
		}
		n := r.ContentLength
		if !s.bodies.take(c.address, n) {
			return nil, refuse(http.StatusTooManyRequests, RequestBusy, "too much is being received")
		}
		defer s.bodies.give(c.address, n)
		body = make([]byte, n)
		if _, err := io.ReadFull(r.Body, body); err != nil {
			return nil, refuse(http.StatusBadRequest, RequestMalformed, "read body: %v", err)
		}
	}
	return fn(c, body)
}

// caller is who asks. Without a certificate there is no channel.
func caller(r *http.Request) (*call, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil, refuse(http.StatusForbidden, RequestChannel, "show a certificate: machines one that they signed by themselves, operators one by the operator authority")
	}
	cert := r.TLS.PeerCertificates[0]
	return &call{ctx: r.Context(), r: r, cert: cert, chain: r.TLS.PeerCertificates, key: attestapi.KeyID(cert.RawSubjectPublicKeyInfo), address: r.RemoteAddr}, nil
}

// decode reads a message. Unknown fields are an error: nothing is silently left
// unread. json/v2 takes a quarter of the time that encoding/json does, which was
// a quarter of all that the server did.
func decode(body []byte, v any) error {
	if err := jsonv2.Unmarshal(body, v, jsonv2.RejectUnknownMembers(true)); err != nil {
		return refuse(http.StatusBadRequest, RequestMalformed, "read message: %v", err)
	}
	return nil
}

func write(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"code":"server.error","detail":"encode answer"}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", fmt.Sprint(len(b)))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(b)
}
