package agent

import (
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
