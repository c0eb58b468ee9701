package verifier

import (
	"context"
	"encoding/hex"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/tpmtest"
)

// TestPendingAgain: a host that waits may ask as often as it likes, and nothing
// is kept of it.
func TestPendingAgain(t *testing.T) {
	s, m := serve(t, nil), boot(t, tpmtest.Blank(t))
	for range 3 {
		if state, code := m.enrol(s.channel(), "a"); state != attest.Pending || code != "" {
			t.Fatalf("%s, %s", state, code)
		}
	}
	if n := len(s.kinds("a")); n != 1 {
		t.Errorf("%d records", n)
	}
}

// addressed is a connection from an address.
type addressed struct {
	net.Conn
	from net.Addr
}

func (a addressed) RemoteAddr() net.Addr { return a.from }
func (a addressed) Close() error         { return nil }

// queue hands out connections.
type queue struct {
	net.Listener
	from []string
}

func (q *queue) Accept() (net.Conn, error) {
	if len(q.from) == 0 {
		return nil, net.ErrClosed
	}
	a := &net.TCPAddr{IP: net.ParseIP(q.from[0]), Port: 1}
	q.from = q.from[1:]
	return addressed{from: a}, nil
}

// TestCrowd: one address cannot take all places, and gives back what it has.
func TestCrowd(t *testing.T) {
	const a, b = "192.0.2.1", "192.0.2.2"
	q := &queue{from: []string{a, a, a, a, b}}
	c := newCrowd(q, 32)
	var members []net.Conn
	for {
		conn, err := c.Accept()
		if err != nil {
			break
		}
		members = append(members, conn)
	}
	if len(members) != 3 || members[2].RemoteAddr().String() != b+":1" {
		t.Fatalf("%d got in", len(members))
	}
	for range 2 {
		members[0].Close()
	}
	if q.from = []string{a, a}; c.open != 2 {
		t.Errorf("%d are open", c.open)
	}
	if conn, err := c.Accept(); err != nil || conn.RemoteAddr().String() != a+":1" {
		t.Error("no place was given back")
	}
	if _, err := c.Accept(); err == nil {
		t.Error("more than its share")
	}
}

// TestSecretOfHostsName: a host may have the name of a secret, and a verdict is
// answered also when the secrets cannot be read.
func TestSecretOfHostsName(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"a": "for all"})
	s, m, c := joined(t, func(o *Options) { o.Secrets = dir })
	answer, code := m.attest(c, "a")
	if code != "" || len(answer.Secrets) != 1 {
		t.Errorf("%s, %d secrets", code, len(answer.Secrets))
	}
	s.grants.secrets = dir + "/gone"
	if answer, code = m.attest(c, "a"); code != "" || !answer.Trusted || answer.Next == nil || answer.Secrets != nil {
		t.Errorf("%s, %+v", code, answer)
	}
}

// failing is a store that cannot be written.
type failing struct{ fleet.Store }

var errDisk = errors.New("the disk is full")

func (failing) Update(context.Context, string, func(*fleet.Change) error) error { return errDisk }

// TestSweepFails: a store that cannot write is told of.
func TestSweepFails(t *testing.T) {
	s, m, c := joined(t, nil)
	if _, code := m.attest(c, "a"); code != "" {
		t.Fatal(code)
	}
	s.wait(time.Hour)
	o := s.o
	o.Store = failing{s.store}
	broken, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := broken.Sweep(context.Background()); !errors.Is(err, errDisk) {
		t.Errorf("got %v", err)
	}
}

// TestDeniedLater: lists of TPMs count for hosts that are enrolled, too.
func TestDeniedLater(t *testing.T) {
	s, m, c := joined(t, nil)
	err := s.store.Update(context.Background(), "a", func(x *fleet.Change) error {
		x.Host.Certified.Model = attest.Model{Manufacturer: "id:00001014", Name: "swtpm", Version: "id:20191023"}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	key, err := hex.DecodeString(s.detail("a").EK)
	if err != nil || len(key) != 32 {
		t.Fatal(err)
	}
	roots := &s.o.Rules.Roots
	for want, set := range map[attest.Code]func(){
		"":               func() { roots.Denied = []attest.Model{{Manufacturer: "id:49465800"}} },
		attest.TPMDenied: func() { roots.Denied = []attest.Model{{Manufacturer: "id:00001014", Name: "swtpm"}} },
		attest.EKRevoked: func() { roots.Revoked = [][32]byte{[32]byte(key)} },
	} {
		roots.Denied, roots.Revoked = nil, nil
		set()
		if _, code := m.attest(c, "a"); code != want {
			t.Errorf("got %s, want %q", code, want)
		}
	}
}
