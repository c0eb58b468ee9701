package verifier

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/updateapi"
)

// TestBodyThatNeverComes: who is nobody holds a connection no longer than the
// server waits for a request.
func TestBodyThatNeverComes(t *testing.T) {
	s := serve(t, func(o *Options) { o.Limits = Limits{Timeout: 1500 * time.Millisecond} })
	for _, field := range []string{"Content-Length: 10", "Transfer-Encoding: chunked"} {
		conn, err := tls.Dial("tcp", s.address, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{s.channel().cert}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET %s/%064d/slot HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", updateapi.ReleasesPath, 0, field)
		conn.SetReadDeadline(time.Now().Add(15 * time.Second))
		if b, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection is still open, %.100q", field, b)
		}
	}
}

// TestForOthers: a host gets no release of another appliance or processor.
func TestForOthers(t *testing.T) {
	t.Parallel()
	x := open(t, nil, made{name: "payroll", version: "3.0.0", arch: "amd64", layout: "l1", epoch: 2, content: 9},
		made{name: "evidence", version: "2.0.0", arch: "arm64", layout: "l1", epoch: 2, content: 4})
	for _, version := range []string{"3.0.0", "2.0.0"} {
		for _, part := range []string{"manifest", "slot"} {
			resp, b := x.get(&x.cert, "GET", x.path(version, part), nil)
			if code := x.understand(resp, b, new(any)); resp.StatusCode != 403 || code != updateapi.Denied {
				t.Errorf("%s %s: %d %s", version, part, resp.StatusCode, code)
			}
		}
	}
	operator, err := OperatorCertificate(*x.people, "alice", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if resp, _ := x.get(&operator, "GET", x.path("3.0.0", "manifest"), nil); resp.StatusCode != 200 {
		t.Errorf("an operator: %d", resp.StatusCode)
	}
}
