package dhcpd6

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/netlab"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// slow is a site whose decisions take until they are let go.
type slow struct {
	site
	once           sync.Once
	asked, release chan struct{}
}

func (s *slow) Decide(ctx context.Context, c netboot.Client) netboot.Answer {
	s.once.Do(func() { close(s.asked) })
	select {
	case <-s.release:
		return s.site.Decide(ctx, c)
	case <-ctx.Done():
		return netboot.Answer{Verb: netboot.Refuse, Reason: "broken off"}
	}
}

// TestStopWhileAnswering: a server that stops answers whom it has heard, with the decision
// that was asked for; and it does stop.
func TestStopWhileAnswering(t *testing.T) {
	host, client := netlab.New(t, "server"), netlab.New(t, "client")
	netlab.Cable(host, "up0", client, "eth0")
	host.Address("up0", "fd00:77::1/64", "fd00:77::2/64")
	w := &slow{asked: make(chan struct{}), release: make(chan struct{})}
	w.answer = netboot.Answer{Verb: netboot.Boot, Method: netboot.TFTP, Path: "boot/x.efi"}
	o := full()
	o.Links, o.Decider, o.Watcher = []string{"up0"}, w, w
	var s *Server
	if err := host.Do(func() (err error) { s, err = Listen(o); return err }); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	go func() {
		<-w.asked
		stop()
		time.Sleep(50 * time.Millisecond) // for what would break it off
		close(w.release)
	}()
	ll := linkLocal(t, client, "eth0")
	ad := exchange(t, client, "["+ll.String()+"%eth0]:546", "[ff02::1:2%eth0]:547", solicit(t))
	if ad.Options.BootFileURL() != "tftp://[fd00:77::1]/boot/x.efi" {
		t.Error(ad.Summary())
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
