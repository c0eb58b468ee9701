package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/assign"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/ui"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/internal/verifier"
)

// TestRefusedAssignment: what verification refuses is exit code 3, with the
// server's hint; what makes no sense is 1.
func TestRefusedAssignment(t *testing.T) {
	c := &hostsCmd{Host: "edge-1", Server: "https://localhost:1"}
	for code, want := range map[attest.Code]int{
		updateapi.Mismatched: ui.CodeRefused, updateapi.BelowFloor: ui.CodeRefused, updateapi.IsRejected: ui.CodeRefused,
		assign.Missing: ui.CodeRefused, assign.Unusable: ui.CodeRefused, assign.Nothing: 0, attest.HostRevoked: 0,
	} {
		var e *ui.Error
		err := c.explain(&verifier.APIError{Status: 409, Code: code, Detail: "why", Hint: "do this"})
		if !errors.As(err, &e) || e.Code != want || e.Hint != "do this" || !strings.Contains(e.Error(), "why") {
			t.Errorf("%s: %+v", code, err)
		}
	}
}

// TestAssigned: what an operator sees after an assignment, and types next.
func TestAssigned(t *testing.T) {
	c := &hostsCmd{Host: "edge-1"}
	for _, x := range []struct {
		approved bool
		withheld *assign.Refusal
		want     []string
	}{
		{false, nil, []string{"edge-1: 1.1.0 is assigned, manifest abc", "ingot hosts edge-1 --assign 1.1.0 --approve-update"}},
		{true, &assign.Refusal{Code: assign.Untrusted, Detail: "edge-1 is not trusted now"}, []string{"withheld for now: edge-1 is not trusted now"}},
	} {
		var out bytes.Buffer
		d := &verifier.Detail{Summary: verifier.Summary{Name: "edge-1", Update: &fleet.Update{Assignment: &assign.Assignment{Release: "abc", Version: "1.1.0", Approved: x.approved}}}, Withheld: x.withheld}
		u := ui.New(&out, &out)
		u.Terminal = true
		if err := c.assigned(&verb{ctx: context.Background(), ui: u}, d); err != nil {
			t.Fatal(err)
		}
		for _, w := range x.want {
			if !strings.Contains(out.String(), w) {
				t.Errorf("no %q in\n%s", w, out.String())
			}
		}
		if x.approved == strings.Contains(out.String(), "--approve-update") {
			t.Errorf("approved %v, and it says\n%s", x.approved, out.String())
		}
	}
}
