package updater

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/agent/updates"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// bootServer takes reports and gives an order.
type bootServer struct {
	mu      sync.Mutex
	order   updateapi.BootOrder
	reports []updateapi.BootReport
	refuse  bool
}

func (s *bootServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var report updateapi.BootReport
	if r.URL.Path != "/site"+updateapi.BootPath || s.refuse || json.NewDecoder(r.Body).Decode(&report) != nil {
		s.refuse = false
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	s.reports = append(s.reports, report)
	json.NewEncoder(w).Encode(s.order)
}

func (s *bootServer) said() []updateapi.BootReport {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reports
}

// TestDiskless: a machine without a disk reports, tells at once when it is well, goes on
// after a refusal, and starts again when it is told to, and not before.
func TestDiskless(t *testing.T) {
	b := newBench(t)
	f := attested(b, fresh)
	s := &bootServer{order: updateapi.BootOrder{Interval: 3600}, refuse: true}
	f.http.Config.Handler = s
	var mu sync.Mutex
	well, reset := false, make(chan string, 1)
	set := func(ok bool) { mu.Lock(); defer mu.Unlock(); well = ok }
	m := updates.Diskless{Spec: b.machine.Spec, Server: b.machine.Server, Certificate: b.machine.Certificate, Now: time.Now, Logf: t.Logf,
		Report: func() updateapi.BootReport {
			return updateapi.BootReport{Name: "hello", Version: "1.0.0", Uptime: 100, MACs: []string{"52:54:00:12:34:56"}}
		},
		Health: func() (bool, string, string) {
			mu.Lock()
			defer mu.Unlock()
			return well, "unhealthy", "a service is not ready"
		},
		Reset: func(why string) { reset <- why },
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); RunDiskless(ctx, m) }()
	defer func() { cancel(); <-done }()
	wait := func(what string, ok func(r updateapi.BootReport) bool) updateapi.BootReport {
		t.Helper()
		for range 1500 {
			if all := s.said(); len(all) > 0 && ok(all[len(all)-1]) {
				return all[len(all)-1]
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Fatalf("no report of a machine that is %s: %+v", what, s.said())
		return updateapi.BootReport{}
	}
	first := wait("not well", func(r updateapi.BootReport) bool { return r.Healthy == 0 && r.Cause == "unhealthy" && r.Detail != "" })
	if len(first.Boot) != 32 || len(first.MACs) != 1 {
		t.Errorf("the report is %+v", first)
	}
	set(true) // told long before the interval
	r := wait("well", func(r updateapi.BootReport) bool { return r.Healthy > 0 && r.Cause == "" && r.Detail == "" })
	if r.Boot != first.Boot {
		t.Error("one boot has two ids")
	}
	s.mu.Lock()
	s.order.Reset, s.order.Why = true, "tally 2.0.0 is to be tried"
	s.mu.Unlock()
	select {
	case why := <-reset:
		t.Fatalf("a reset without an order: %s", why)
	default:
	}
	set(false)
	select {
	case why := <-reset:
		t.Log(why)
	case <-time.After(30 * time.Second):
		t.Fatal("the order to start again was not followed")
	}
}
