package dhcp

import (
	"testing"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// TestInitIsSeen: ingot-init's first question is told in both modes, with its address
// where it has one; what it asks to keep its address is not, and neither is that of
// an operating system.
func TestInitIsSeen(t *testing.T) {
	full := fullConfig()
	proxy := fullConfig()
	proxy.Mode, proxy.Subnets = Proxy, nil
	for name, c := range map[string]struct {
		config Config
		typ    Type
		opts   []Option
		addr   string
		want   string
	}{
		"full, DISCOVER":      {full, Discover, []Option{class("ingot")}, "", "init"},
		"full, INFORM":        {full, Inform, []Option{class("ingot")}, "10.0.0.7", "init"},
		"proxy, INFORM":       {proxy, Inform, []Option{class("ingot")}, "10.0.0.7", "init"},
		"full, REQUEST":       {full, Request, []Option{class("ingot")}, "10.0.0.7", ""},
		"an operating system": {full, Discover, []Option{class("systemd")}, "", ""},
	} {
		b := newBench(t, c.config)
		m := ask(c.typ, mac(1), c.opts...)
		if c.addr != "" {
			m.Client = ip(c.addr)
		}
		out := b.step(packet(m))
		if got := stages(out); got != c.want {
			t.Errorf("%s tells %q, want %q", name, got, c.want)
			continue
		}
		if c.want == "" {
			continue
		}
		e := out.Events[0]
		if e.Stage != netboot.Started || e.MAC != mac(1) || c.addr != "" && e.Addr.Addr() != ip(c.addr) {
			t.Errorf("%s: %+v", name, e)
		}
	}
}
