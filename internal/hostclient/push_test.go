package hostclient

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"
)

// TestLimit: a name that is none is not asked for again, a port where nobody
// listens once more, and a machine that has answered before is waited for.
func TestLimit(t *testing.T) {
	cut := errors.New("connection reset")
	none := fmt.Errorf("ask lmap-7: %w", &net.OpError{Op: "dial", Err: &net.DNSError{IsNotFound: true}})
	mute := fmt.Errorf("ask lamp-7: %w", &net.OpError{Op: "dial", Err: &net.DNSError{IsTimeout: true}})
	closed := fmt.Errorf("ask lamp-7: %w", &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED})
	for _, c := range []struct {
		heard bool
		err   error
		want  int
	}{
		{false, none, 1}, {false, mute, 2}, {false, closed, 2}, {false, cut, maxTries},
		{true, none, maxTries}, {true, closed, maxTries}, {true, cut, maxTries},
	} {
		if got := (&pushing{heard: c.heard}).limit(c.err); got != c.want {
			t.Errorf("heard %v, %v: %d tries, want %d", c.heard, c.err, got, c.want)
		}
	}
}
