// Package listener answers HTTP about one machine: GET /healthz, /v1/status,
// /v1/slots and /v1/logs (docs/machine-api.md). It is read only and plain; what it tells
// is no secret, and it takes nothing from a request but two query values.
package listener

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/ingot-os/ingot/internal/agent/http1"
	"github.com/ingot-os/ingot/internal/agent/ring"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// Server is the listener. Status and Logs are required.
type Server struct {
	Status func() Status
	Logs   *ring.Ring
	// Failed gives the log of the last boot that failed; nil: none is kept.
	Failed func() []byte
	// Slots gives nil on a machine without slots.
	Slots func() *updateapi.Slots
}

// Limits of one answer of /v1/logs. http1.MaxConns answers may be in memory at
// once, several times over while they are encoded.
const (
	MaxLogs     = 4000      // lines
	MaxLogBytes = 256 << 10 // of text; the line that passes it is the last
)

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
	return http1.Serve(ctx, l, s.Handle)
}

// Handle answers one request.
func (s *Server) Handle(r http1.Request) http1.Response {
	switch r.Path {
	case "/healthz":
		return s.healthz()
	case "/v1/status":
		return answerJSON(s.Status())
	case updateapi.SlotsPath:
		return s.slots()
	case "/v1/logs":
		return s.logs(r)
	}
	return http1.Text(404, "not found: want /healthz, /v1/status, /v1/slots or /v1/logs")
}

func (s *Server) healthz() http1.Response {
	st := s.Status()
	if st.Healthy {
		return http1.Text(200, "ok")
	}
	return http1.Text(503, strings.Join(st.Reasons, "\n"))
}

func (s *Server) slots() http1.Response {
	if s.Slots != nil {
		if v := s.Slots(); v != nil {
			return answerJSON(v)
		}
	}
	return http1.Text(404, "this machine was not started from a slot")
}

func (s *Server) logs(r http1.Request) http1.Response {
	switch r.Query.Get("boot") {
	case "":
	case "failed":
		return s.failed()
	default:
		return http1.Text(400, "parse boot: want failed")
	}
	var since uint64
	if v := r.Query.Get("since"); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			return http1.Text(400, fmt.Sprintf("parse since=%.40q: want a number", v))
		}
		since = n
	}
	out, size := Logs{Lines: []LogLine{}, Next: since}, 0
	for _, e := range s.Logs.Since(since, r.Query.Get("service"), MaxLogs) {
		out.Lines = append(out.Lines, LogLine{e.Seq, e.At.Seconds(), e.Source, e.Text})
		out.Next = e.Seq
		if size += len(e.Text); size >= MaxLogBytes {
			break
		}
	}
	return answerJSON(out)
}

// failed answers with a log as it is kept: text, in the order in which it was written.
func (s *Server) failed() http1.Response {
	if s.Failed != nil {
		if b := s.Failed(); len(b) > 0 {
			return http1.Text(200, strings.TrimSuffix(string(b), "\n"))
		}
	}
	return http1.Text(404, "no log of a boot that failed is kept")
}

func answerJSON(v any) http1.Response {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil { // only a type in this package can cause it
		return http1.Text(500, err.Error())
	}
	return http1.Response{Status: 200, Type: "application/json", Body: append(b, '\n')}
}
