package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// counting is a Decider that says no.
type counting struct{ n int }

func (c *counting) Decide(context.Context, netboot.Client) netboot.Answer {
	c.n++
	return netboot.Answer{Verb: netboot.Refuse, Reason: "test"}
}

// TestLogLine: one object for each step, with what is known and no more.
func TestLogLine(t *testing.T) {
	var out bytes.Buffer
	b := &boots{log: slog.New(slog.NewJSONHandler(&out, nil)), skipped: func(int) {}}
	named{b}.Saw(netboot.Event{Time: time.Unix(1700000000, 0), Stage: netboot.First, Method: netboot.TFTP, Path: "boot/525400123456/hello-1.0.0.efi", Size: 9, Host: "edge-1", Detail: "window 4"})
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	for k, want := range map[string]any{"msg": "boot", "stage": "first", "mac": "52:54:00:12:34:56", "host": "edge-1", "release": "hello-1.0.0", "method": "tftp", "reason": "window 4", "size": 9.0} {
		if got[k] != want {
			t.Errorf("%s is %v, want %v", k, got[k], want)
		}
	}
	if _, ok := got["address"]; ok {
		t.Error("an address that nobody knows")
	}
	out.Reset()
	named{b}.Saw(netboot.Event{Time: time.Unix(1700000000, 0), Stage: netboot.First, Path: "boot/525400123456/0123456789abcdef/hello-1.0.0.efi"})
	if s := out.String(); !strings.Contains(s, `"release":"hello-1.0.0"`) || !strings.Contains(s, `"path":"boot/525400123456/hello-1.0.0.efi"`) {
		t.Errorf("what iPXE loads: %s", s)
	}
}

// TestLogIsBounded: a flood of questions does not fill the disk, and what was left
// out is counted.
func TestLogIsBounded(t *testing.T) {
	var out bytes.Buffer
	skipped := 0
	b := &boots{log: slog.New(slog.NewJSONHandler(&out, nil)), skipped: func(n int) { skipped += n }}
	at := time.Unix(1700000000, 0)
	for range 10 * linesPerSecond {
		b.Saw(netboot.Event{Time: at, Stage: netboot.Offered})
	}
	if n := strings.Count(out.String(), "\n"); n != linesPerSecond || skipped != 9*linesPerSecond {
		t.Errorf("%d lines, %d left out", n, skipped)
	}
	for range 10 * linesPerSecond { // not written without -v, so they take nobody's place
		b.Saw(netboot.Event{Time: at.Add(time.Second), Stage: netboot.Asked})
	}
	b.Saw(netboot.Event{Time: at.Add(time.Second), Stage: netboot.Offered})
	if n := strings.Count(out.String(), "\n"); n != linesPerSecond+1 {
		t.Error("nothing is written in the next second")
	}
}

// TestVerdictsAreCounted also when the log leaves them out.
func TestVerdictsAreCounted(t *testing.T) {
	m := newMetrics("")
	var out bytes.Buffer
	log := slog.New(verdicts{slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn}), m})
	log.Debug("verdict", "host", "edge-1", "trusted", true)
	log.Warn("verdict", "host", "edge-1", "trusted", false)
	log.Warn("evidence rejected", "host", "edge-1")
	for result, want := range map[string]float64{"trusted": 1, "refused": 1, "rejected": 1} {
		if got := testutil.ToFloat64(m.verdicts.WithLabelValues(result)); got != want {
			t.Errorf("%s: %v", result, got)
		}
	}
	if n := strings.Count(out.String(), "\n"); n != 2 {
		t.Errorf("%d lines:\n%s", n, out.String())
	}
}
