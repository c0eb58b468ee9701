package agent

import (
	"strings"
	"testing"
	"time"
)

// TestTPMIsWaitedForOnce: four steps of a boot look for the TPM, but together they
// wait no longer than one.
func TestTPMIsWaitedForOnce(t *testing.T) {
	m := testMachine(t)
	for _, c := range []struct{ now, want time.Duration }{
		{time.Second, tpmWait}, {3 * time.Second, tpmWait - 2*time.Second}, {time.Second + tpmWait, 0}, {time.Hour, 0},
	} {
		if got := m.tpmLeft(c.now); got != c.want {
			t.Errorf("after %s: %s, want %s", c.now, got, c.want)
		}
	}
}

// TestPollutedEvidence: the reset of a polluted boot does not take away why an
// earlier one had crashed, and happens once.
func TestPollutedEvidence(t *testing.T) {
	const crash = "hello 1.0.0 build aa\npanic in network: out of range\n[    1.0] ingot: network\n[    2.0] ingot: more\n"
	text, first := pollutedEvidence("a shell ran", crash)
	for _, want := range []string{pollutedMark + "a shell ran; reset", "build aa; panic in network: out of range; "} {
		if !first || !strings.Contains(text, want) {
			t.Errorf("%q, first %t: want %q", text, first, want)
		}
	}
	if strings.Contains(text, "\n") || !strings.HasPrefix(text, pollutedMark) {
		t.Errorf("%q: not one line that begins with the mark", text)
	}
	if _, again := pollutedEvidence("a shell ran", "hello 1.0.0 build aa\n"+text+"\n"); again {
		t.Error("a second reset")
	}
	if text, _ := pollutedEvidence("x", ""); text != pollutedMark+"x; reset to start anew" {
		t.Errorf("%q", text)
	}
	if text, _ := pollutedEvidence("x", strings.Repeat("y", 1<<16)); len(text) > maxBefore+200 {
		t.Errorf("%d bytes", len(text))
	}
}
