package attester

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/agent/proof"
	"github.com/ingot-os/ingot/internal/attestapi"
)

// TestMachine: machine.yaml comes from a server of the image's authority, and from no other.
func TestMachine(t *testing.T) {
	now := time.Now()
	by, other := newAuthority(t, now.Add(-time.Hour), now.Add(time.Hour)), newAuthority(t, now.Add(-time.Hour), now.Add(time.Hour))
	s := serve(t, by, now.Add(-time.Hour), now.Add(time.Hour))
	says := attestapi.MachineFile{Data: []byte("hostname: web-1\n"), From: "52-54.yaml"}
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q attestapi.MachineRequest
		if r.URL.Path != "/base"+attestapi.MachinePath || json.NewDecoder(r.Body).Decode(&q) != nil || len(q.MACs) != 1 || q.Appliance != "hello" {
			http.NotFound(w, r)
			return
		}
		json.NewEncoder(w).Encode(says)
	})
	ask := func(roots *authority, base string) ([]byte, string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		m := proof.Machine{Roots: [][]byte{roots.cert.Raw}, Server: func() (string, string) { return base, "test" }, TimeKnown: func() bool { return false }}
		return Machine(ctx, m, proof.Hardware{Appliance: "hello", MACs: []string{"52:54:00:12:34:56"}})
	}
	data, from, err := ask(by, s.URL+"/base")
	if err != nil || string(data) != "hostname: web-1\n" || !strings.Contains(from, "52-54.yaml") {
		t.Errorf("%q from %q: %v", data, from, err)
	}
	if data, _, err := ask(other, s.URL+"/base"); err == nil {
		t.Errorf("of a foreign authority: %q is taken", data)
	}
	if _, _, err := ask(by, ""); err == nil {
		t.Error("no server is known, and no error")
	}
	says.Data = make([]byte, attestapi.MaxMachine+1)
	if _, _, err := ask(by, s.URL+"/base"); err == nil {
		t.Error("a file over the limit is taken")
	}
	says = attestapi.MachineFile{}
	if data, _, err := ask(by, s.URL+"/base"); err != nil || data != nil {
		t.Errorf("without a file: %q, %v", data, err)
	}
	s.Config.Handler = refuseAll(attest.HostUnknown, "no")
	start := time.Now()
	if _, _, err := ask(by, s.URL+"/base"); err == nil || time.Since(start) > 1900*time.Millisecond {
		t.Errorf("a refusal is no reason to ask again: %v", err)
	}
}
