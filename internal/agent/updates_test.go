package agent

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/agent/slots"
	"github.com/ingot-os/ingot/internal/agent/updates"
	"github.com/ingot-os/ingot/internal/appliance"
)

// TestUpdateClientPanics: what speaks to the network cannot end the machine.
func TestUpdateClientPanics(t *testing.T) {
	m := testMachine(t)
	m.options.Update = func(context.Context, updates.Machine) { panic("a bad answer") }
	m.updateOnce(updates.Machine{})
	if !slices.ContainsFunc(m.problems, func(p string) bool { return strings.Contains(p, "a bad answer") }) {
		t.Errorf("the problems are %q", m.problems)
	}
}

// TestListenerWithoutSlots: a machine that cannot be updated still answers, and
// says why.
func TestListenerWithoutSlots(t *testing.T) {
	for name, c := range map[string]struct {
		update func(context.Context, updates.Machine)
		keeper *slots.Keeper
		want   string
	}{
		"no slots":      {func(context.Context, updates.Machine) { t.Error("the client was started") }, nil, "not started from a slot"},
		"plain variant": {nil, &slots.Keeper{}, "wrong variant"},
	} {
		t.Run(name, func(t *testing.T) {
			m := testMachine(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			m.ctx, m.judged, m.options.Update, m.keeper = ctx, make(chan struct{}), c.update, c.keeper
			m.spec.Update = &appliance.Update{}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() { m.serveUpdates("127.0.0.1:0", l); close(done) }()
			close(m.judged)
			client := http.Client{Timeout: 10 * time.Second}
			r, err := client.Get("http://" + l.Addr().String() + "/v1/nothing")
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(r.Body)
			r.Body.Close()
			if r.StatusCode != 404 || !strings.Contains(string(b), "/v1/slots") {
				t.Errorf("%d %s", r.StatusCode, b)
			}
			cancel()
			<-done
			m.mu.Lock()
			defer m.mu.Unlock()
			if !slices.ContainsFunc(m.problems, func(p string) bool { return strings.Contains(p, c.want) }) {
				t.Errorf("the problems are %q", m.problems)
			}
		})
	}
}

// TestKeeperPanics: a machine that cannot judge its boot goes on when nothing says
// that another slot is better.
func TestKeeperPanics(t *testing.T) {
	m := testMachine(t)
	m.keeper = &slots.Keeper{}
	m.withoutKeeper(slot.A, func() { panic("a strange disk") })
	if m.slots() != nil || !slices.ContainsFunc(m.problems, func(p string) bool { return strings.Contains(p, "a strange disk") }) {
		t.Errorf("the problems are %q", m.problems)
	}
}
