package dispatch

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/quote"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/internal/verifier"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// TestAtOnce: machines ask, load, attest and report while operators look and order,
// and rules change; nobody gets what was not decided. With -race it finds what shares
// memory.
func TestAtOnce(t *testing.T) {
	r := newRig(t, "default: hello@1.0\n")
	var all []*machine
	for i := range 6 {
		all = append(all, r.machine(fmt.Sprint("web-", i), i+1))
	}
	var wait sync.WaitGroup
	errs := make(chan error, 100)
	for _, m := range all {
		h, err := r.store.Host(ctx, m.name)
		if err != nil {
			t.Fatal(err)
		}
		wait.Go(func() {
			for n := range 20 {
				c := m.client()
				c.Link = "eth1"
				r.d.Asked(c)
				x, err := r.d.Decide(ctx, c)
				if err == nil && x.Verb == netboot.Boot {
					err = r.d.Begin(ctx, m.client(), x.names())
				}
				if err != nil && err != ErrMoved { // the rules change under it
					errs <- fmt.Errorf("%s: %w", m.name, err)
				}
				r.d.Saw(netboot.Event{Time: r.at, Stage: netboot.First, MAC: m.mac, Path: "boot/" + m.mac.Plain() + "/x.efi"})
				r.d.Attested(ctx, h, &attest.Verdict{Trusted: true, Release: "hello", Version: "1.0", Boot: "pxe", Clock: quote.Clock{ResetCount: uint32(n)}}, "192.0.2.7:1")
				b := updateapi.BootReport{Boot: strings.Repeat("0", 30) + fmt.Sprintf("%02d", n), Path: "pxe", MACs: []string{m.mac.String()}, Uptime: 100, Healthy: 80}
				if _, err := r.d.Booted(ctx, h, b); err != nil {
					errs <- fmt.Errorf("%s: %w", m.name, err)
				}
			}
		})
	}
	wait.Go(func() {
		for n := range 20 {
			r.site.rule(t, fmt.Sprintf("default: hello@%d.0\n", 1+n%2))
			if _, err := r.d.Lines(ctx); err != nil {
				errs <- err
			}
			if _, err := r.d.Boot(ctx, "web-1"); err != nil {
				errs <- err
			}
			if err := r.d.Order(ctx, "web-2", verifier.BootOrder{Action: verifier.OrderOnce, Boot: "hello"}, "alice"); err != nil {
				errs <- err
			}
			if err := r.d.Keep(ctx); err != nil {
				errs <- err
			}
		}
	})
	wait.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
}
