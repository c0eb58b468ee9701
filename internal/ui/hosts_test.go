package ui

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/assign"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/internal/verifier"
)

var hostsNow = time.Date(2026, 11, 23, 2, 0, 0, 0, time.UTC)

func sampleHost(name string, state attest.State, standing attest.Standing, heard time.Duration, code attest.Code) verifier.Summary {
	h := verifier.Summary{Name: name, State: state, Standing: standing}
	if heard > 0 {
		h.Heard = hostsNow.Add(-heard)
		h.Last = &fleet.Last{Code: code, Detail: string(code) + ": why", Release: "hello", Version: "1.0.0", Slot: "a", Boot: "disk", Address: "192.0.2.1:5"}
	}
	return h
}

func withUpdate(h verifier.Summary, u fleet.Update) verifier.Summary {
	h.Update = &u
	return h
}

func TestHosts(t *testing.T) {
	var out, errs bytes.Buffer
	u := New(&out, &errs)
	list := &verifier.List{Now: hostsNow, Hosts: []verifier.Summary{
		sampleHost("edge-1", attest.Active, attest.StandingTrusted, 12*time.Second, ""),
		sampleHost("edge-2", attest.Active, attest.StandingRefused, 3*time.Minute, attest.ImageUnknown),
		sampleHost("edge-3", attest.Active, attest.StandingUnknown, 5*24*time.Hour, ""),
		sampleHost("edge-4", attest.Pending, attest.StandingUnknown, 0, ""),
		withUpdate(sampleHost("edge-5", attest.Active, attest.StandingTrusted, time.Minute, ""), fleet.Update{Brief: fleet.Brief{Phase: "STAGED", Version: "1.0.0", Next: "1.1.0"}, Assignment: &assign.Assignment{Version: "1.1.0"}}),
		withUpdate(sampleHost("edge-6", attest.Active, attest.StandingTrusted, time.Minute, ""), fleet.Update{Brief: fleet.Brief{Phase: "REJECTED", Version: "1.0.0", Cause: "unhealthy"}, Assignment: &assign.Assignment{Version: "1.1.0"}}),
		withUpdate(sampleHost("edge-7", attest.Active, attest.StandingTrusted, time.Minute, ""), fleet.Update{Assignment: &assign.Assignment{Version: "1.1.0"}}),
	}, Refused: []verifier.Refused{{Dir: "x\x1b[2J", Reason: "no"}}}
	if err := u.Hosts(list, nil); err != nil {
		t.Fatal(err)
	}
	want := `NAME    STANDING  RELEASE  VERSION  SLOT  UPDATE                     FAILURE    LAST       REASON
edge-1  trusted   hello    1.0.0    a     -                          -          12 s ago
edge-2  refused   hello    1.0.0    a     -                          -          3 min ago  image.unknown
edge-3  unknown   hello    1.0.0    a     -                          -          5 d ago    silent
edge-4  pending   -        -        -     -                          -          never
edge-5  trusted   hello    1.0.0    a     STAGED 1.1.0               -          1 min ago
edge-6  trusted   hello    1.0.0    a     REJECTED (1.1.0 assigned)  unhealthy  1 min ago
edge-7  trusted   hello    1.0.0    a     (1.1.0 assigned)           -          1 min ago
`
	if out.String() != want || strings.Contains(errs.String(), "\x1b") {
		t.Errorf("got\n%s%q", out.String(), errs.String())
	}
}

func TestHost(t *testing.T) {
	for _, c := range []struct {
		h    verifier.Summary
		code int
		want []string
	}{
		{sampleHost("a", attest.Active, attest.StandingTrusted, time.Second, ""), 0, []string{"standing     trusted", "release      hello 1.0.0, slot a", "not checked  PCR 1", "EK           sha256 abcd"}},
		{sampleHost("a", attest.Active, attest.StandingRefused, time.Second, attest.ImageUnknown), CodeRefused, []string{"reason       image.unknown: why", "note         clock.unsafe"}},
		{sampleHost("a", attest.Revoked, attest.StandingRefused, time.Second, ""), CodeRefused, []string{"standing     revoked"}},
		{sampleHost("a", attest.Pending, attest.StandingUnknown, 0, ""), 0, []string{"standing     pending", "heard        never", "no certificate"}},
	} {
		var out bytes.Buffer
		d := &verifier.Detail{Summary: c.h, EK: "abcd", Certified: attest.Certified{Why: "the TPM has no certificate"},
			Verdict: &attest.Verdict{NotChecked: []string{"PCR 1"}, Notes: []attest.Finding{{Code: attest.ClockUnsafe, PCR: -1, Detail: "x"}}}}
		err := New(&out, &out).Host(d, hostsNow)
		var code exit
		if errors.As(err, &code); int(code) != c.code {
			t.Errorf("%s: %v", c.h.Standing, err)
		}
		for _, w := range c.want {
			if !strings.Contains(out.String(), w) {
				t.Errorf("no %q in\n%s", w, out.String())
			}
		}
	}
}

// TestHostSlots: what a host has said about its slots, and what it is offered.
func TestHostSlots(t *testing.T) {
	d := &verifier.Detail{Summary: sampleHost("a", attest.Active, attest.StandingTrusted, time.Second, ""),
		Withheld: &assign.Refusal{Code: updateapi.IsRejected, Detail: "a has rejected hello 1.1.0: unhealthy"},
		Slots: &fleet.Report{At: hostsNow.Add(-time.Minute), Slots: updateapi.Slots{Running: "a", Good: "a", Phase: "REJECTED", Means: "firmware", Cause: "unhealthy", Culprit: "b", Detail: "web: GET\x1b[2J",
			Slots:    []updateapi.Slot{{Name: "a", Version: "1.0.0", Condition: "good", Epoch: 2}, {Name: "b", Version: "1.1.0", Condition: "ready", Epoch: 2}},
			Rejected: []updateapi.Rejected{{Version: "1.1.0", Cause: "unhealthy"}}, Why: []string{"slot a runs", "slot b failed"}}}}
	d.Update = &fleet.Update{Brief: d.Slots.Brief(), Assignment: &assign.Assignment{Release: strings.Repeat("a", 64), Version: "1.1.0", Approved: true, By: "alice"}}
	var out bytes.Buffer
	if err := New(&out, &out).Host(d, hostsNow); err != nil {
		t.Fatal(err)
	}
	for _, w := range []string{"assigned   1.1.0, manifest aaaa", "by alice, approved", "withheld   release.rejected: a has rejected", "slots      REJECTED, good is a, by firmware, told 1 min ago",
		"slot a     1.0.0, good, security epoch 2, runs", "slot b     1.1.0, ready", "failure    unhealthy, slot b, web: GET", "not again  1.1.0: unhealthy", "why        slot b failed"} {
		if !strings.Contains(out.String(), w) {
			t.Errorf("no %q in\n%s", w, out.String())
		}
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Error("a host writes control characters to the terminal")
	}
}

func TestEvents(t *testing.T) {
	var out, errs bytes.Buffer
	u := New(&out, &errs)
	say := func() {
		log := slog.New(u.Events(false))
		log.Debug("verdict", "host", "quiet")
		log.Info("verdict", "host", "a", "trusted", true, "release", "hello", "version", "1", "slot", "b", "address", "192.0.2.1:5")
		log.Warn("verdict", "host", "a", "trusted", false, "code", "log.replay", "detail", "PCR 4\nx\x1b[2J")
		log.Error("look for silent hosts", "error", errors.New("disk full"))
	}
	say()
	lines := strings.Split(strings.TrimSpace(errs.String()), "\n")
	for i, want := range []string{" a is trusted: hello 1, slot b, from 192.0.2.1:5", ` a is REFUSED: log.replay: PCR 4; x\x1b[2J`, "look for silent hosts: error disk full"} {
		if len(lines) != 3 || !strings.HasSuffix(lines[i], want) {
			t.Errorf("%q, want %q", lines, want)
		}
	}
	u.JSON = true
	say()
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil || v["msg"] == "" {
			t.Errorf("%s: %v", line, err)
		}
	}
}
