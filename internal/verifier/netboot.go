package verifier

import (
	"context"
	"errors"
	"net/http"
	"strings"

	jsonv2 "github.com/go-json-experiment/json"

	"github.com/ingot-os/ingot/internal/attestapi"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// Netboot knows the machines that boot over the network and keep nothing of
// themselves. Its methods are called by many goroutines.
type Netboot interface {
	// Machine gives the machine.yaml of a machine that nothing is proven of; nil Data
	// when it has none.
	Machine(ctx context.Context, r attestapi.MachineRequest) (attestapi.MachineFile, error)
	// Booted takes the report of an attested host, which is as its last verdict says
	// (fleet.Host.Last): release, version, boot path.
	Booted(ctx context.Context, h *fleet.Host, r updateapi.BootReport) (updateapi.BootOrder, error)
}

// netboot adds the paths of machines without a disk.
func (s *Server) netboot(mux *http.ServeMux) {
	mux.HandleFunc("POST "+attestapi.MachinePath, func(w http.ResponseWriter, r *http.Request) {
		s.answer(w, r, attestapi.MaxRequest, s.machineFile)
	})
	mux.HandleFunc("POST "+updateapi.BootPath, func(w http.ResponseWriter, r *http.Request) {
		s.answer(w, r, updateapi.MaxBootReport, s.attested(s.booted))
	})
}

// machineFile answers who is not known yet: as often as one may ask for a challenge.
func (s *Server) machineFile(c *call, body []byte) (any, error) {
	if !s.askRate.allow(site(c.address), 1, s.now()) {
		return nil, refuse(http.StatusTooManyRequests, RequestBusy, "too many questions from your address: wait a while")
	}
	var q attestapi.MachineRequest
	if err := jsonv2.Unmarshal(body, &q); err != nil { // a later machine may say more than this server knows
		return nil, refuse(http.StatusBadRequest, RequestMalformed, "read message: %v", err)
	}
	if s.o.Netboot == nil {
		return attestapi.MachineFile{}, nil
	}
	f, err := s.o.Netboot.Machine(c.ctx, q)
	if err == nil && len(f.Data) > attestapi.MaxMachine {
		err = errors.New("machine.yaml is too large")
	}
	return f, err
}

// booted answers POST /v1/boot.
func (s *Server) booted(c *call, body []byte) (any, error) {
	name := c.host.Record.Name
	if !s.reports.allow(name, 1, s.now()) {
		return nil, refuse(http.StatusTooManyRequests, RequestBusy, "more reports of %s than are kept: wait for the interval", name)
	}
	var r updateapi.BootReport
	if err := jsonv2.Unmarshal(body, &r); err != nil {
		return nil, refuse(http.StatusBadRequest, RequestMalformed, "read message: %v", err)
	}
	if err := checkBootReport(&r); err != nil {
		return nil, err
	}
	order := updateapi.BootOrder{}
	if s.o.Netboot != nil {
		var err error
		if order, err = s.o.Netboot.Booted(c.ctx, c.host, r); err != nil {
			return nil, err
		}
	}
	if order.Interval == 0 {
		order.Interval = s.o.Interval.Seconds()
	}
	return order, nil
}

// checkBootReport bounds what a host can have kept and shown.
func checkBootReport(r *updateapi.BootReport) error {
	words := append([]string{r.Boot, r.Name, r.Version, r.Build, r.Path, r.UUID, r.Serial, r.Asset, r.Cause}, r.MACs...)
	texts := []string{r.Detail}
	for _, e := range r.Evidence {
		words, texts = append(words, e.Cause), append(texts, e.Detail)
	}
	if i := r.Install; i != nil {
		words, texts = append(words, i.Ticket, i.Phase), append(texts, i.Disk, i.Detail)
	}
	bad := func(w string) bool {
		return len(w) > maxWord || strings.ContainsFunc(w, func(c rune) bool { return c < ' ' || c > '~' })
	}
	for _, w := range words {
		if bad(w) {
			return refuse(http.StatusBadRequest, RequestMalformed, "a word of the report is over %d bytes, or not printable ASCII", maxWord)
		}
	}
	if longest(texts) > maxText || len(r.MACs) > maxMACs || len(r.Evidence) > maxEvidences {
		return refuse(http.StatusBadRequest, RequestMalformed, "the report is beyond its bounds: texts of %d bytes, %d addresses, %d traces", maxText, maxMACs, maxEvidences)
	}
	if len(r.Boot) != 32 || r.Uptime < 0 || r.Healthy < 0 || r.Healthy > r.Uptime {
		return refuse(http.StatusBadRequest, RequestMalformed, "the report names no boot, or times that cannot be")
	}
	return nil
}

// Bounds of a report's lists.
const (
	maxMACs      = 64
	maxEvidences = 8
)
