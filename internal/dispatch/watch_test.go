package dispatch

import (
	"bytes"
	"testing"

	"github.com/ingot-os/ingot/internal/verifier"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// TestKeepsNoForgedMachine: packets with addresses that somebody makes up write
// nothing, also not when a pattern of the rules matches them. Machines that fetched
// something, attested, have an order or are written out in the rules are there again
// after a crash.
func TestKeepsNoForgedMachine(t *testing.T) {
	r := newRig(t, "groups:\n  rack: {mac: [\"02:00:00:00:00:10\"]}\ndeny:\n  - {mac: [\"02:00:00:00:00:11\"], reason: sold}\n"+
		"rules:\n  - {mac: [\"02:00:00:00:00:12\", \"02:66:*\"], boot: hello@1.0}\n  - {group: [rack], boot: hello@1.0}\ndefault: hello@1.0\n")
	host := r.machine("web-1", 1)
	host.start()
	host.report(0)
	fetched, ordered := netboot.MAC{2, 0, 0, 0, 0, 1}, netboot.MAC{2, 0, 0, 0, 0, 2}
	if err := r.d.Order(ctx, ordered.String(), verifier.BootOrder{Action: verifier.OrderOnce, Boot: "hello@3.0"}, "alice"); err != nil {
		t.Fatal(err)
	}
	want := []netboot.MAC{host.mac, fetched, ordered, {2, 0, 0, 0, 0, 0x10}, {2, 0, 0, 0, 0, 0x11}, {2, 0, 0, 0, 0, 0x12}}
	ask := func() {
		t.Helper()
		list := want
		for i := range 1000 {
			list = append(list, netboot.MAC{2, 0x66, 0, 0, byte(i >> 8), byte(i)})
		}
		for _, m := range list {
			r.d.Saw(netboot.Event{Time: r.at, Stage: netboot.Asked, MAC: m})
			r.d.Saw(netboot.Event{Time: r.at, Stage: netboot.Offered, MAC: m})
		}
		r.d.Saw(netboot.Event{Time: r.at, Stage: netboot.First, MAC: fetched})
		if err := r.d.Keep(ctx); err != nil {
			t.Fatal(err)
		}
	}
	check := func() {
		t.Helper()
		bodies, err := r.store.Timelines(ctx)
		if err != nil || len(bodies) != len(want) {
			t.Errorf("%d machines are kept, %v; want %d", len(bodies), err, len(want))
		}
		for _, m := range want {
			if all := bytes.Join(bodies, nil); !bytes.Contains(all, []byte(`"mac":"`+m.String())) {
				t.Errorf("%s is not kept", m)
			}
		}
	}
	ask()
	check()
	r.crash()
	for _, m := range want {
		if len(r.d.o.Timeline.Of(m, r.at)) == 0 {
			t.Errorf("%s is forgotten", m)
		}
	}
	if !r.d.isNamed(ordered) || r.d.isNamed(fetched) {
		t.Error("the order is forgotten, or one was made up")
	}
	ask()
	check()
}
