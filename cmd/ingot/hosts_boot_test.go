package main

import (
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/verifier"
)

// TestAttestedAs: an order against a quarantine is for the one host that was shown.
func TestAttestedAs(t *testing.T) {
	for _, c := range []struct {
		hosts      []string // "": not in quarantine
		want, fail string
	}{
		{nil, "", ""},
		{[]string{"", ""}, "", ""},
		{[]string{"", "web-2", "web-2"}, "web-2", ""},
		{[]string{"web-2", "", "web-3"}, "", "web-2 and as web-3"},
	} {
		d := &verifier.BootDetail{Name: "web-1"}
		for _, h := range c.hosts {
			d.Machines = append(d.Machines, verifier.BootMachine{ClaimedHost: h})
		}
		got, err := attestedAs(d)
		if got != c.want || (err != nil) != (c.fail != "") || err != nil && !strings.Contains(err.Error(), c.fail) {
			t.Errorf("%q: %q, %v", c.hosts, got, err)
		}
	}
}
