package serve

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/attestapi"
	"github.com/ingot-os/ingot/internal/attestd"
	"github.com/ingot-os/ingot/internal/bootfiles"
	"github.com/ingot-os/ingot/internal/bootrule"
	"github.com/ingot-os/ingot/internal/chain"
	"github.com/ingot-os/ingot/internal/dispatch"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/internal/verifier"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// site is what the parts share: who boots what (netboot.Decider), and the files of
// it (netboot.Source).
type site struct {
	log     *slog.Logger
	store   *fleet.SQLite
	watch   netboot.Watcher
	metrics *metrics
	setups  installs

	releases attestd.Releases
	catalog  *verifier.Catalog
	files    *bootfiles.Store
	ipxe     *chain.ProgramsSet
	renew    []func() error // certificates

	// These are exchanged whole by a reload, while questions are answered.
	c        atomic.Pointer[Config]
	offered  atomic.Pointer[offer]
	ruled    atomic.Pointer[ruling]
	machines atomic.Pointer[machines]
	boots    *dispatch.Dispatcher // what is known of machines, tickets, tries
}

func (s *Server) openSite(ctx context.Context) (err error) {
	t := &site{log: s.o.Log, metrics: s.metrics, setups: installs{log: s.o.Log}, releases: s.c.catalogs()}
	t.c.Store(s.c)
	s.site = t
	if t.store, err = attestd.OpenStore(s.c.State); err != nil {
		return err
	}
	if t.files, err = bootfiles.New(bootfiles.Options{}); err != nil {
		return err
	}
	if t.ipxe, err = chain.Load(s.c.IPXE); err != nil {
		return s.c.explain("ipxe", err)
	}
	m := &machines{dir: s.c.Machines, host: t.hostOf}
	if m.count, err = m.check(); err != nil {
		return s.c.wrong("machines", "machines", "docs/machine.md says what may be in such a file", "%v", err)
	}
	t.machines.Store(m)
	seen := watchers{s.metrics, &boots{log: s.o.Log, skipped: func(n int) { s.metrics.quiet.Add(float64(n)) }}}
	d := s.c.Trial.options(t)
	d.Link, d.Watcher = s.networks, seen
	if t.boots, err = dispatch.New(ctx, d); err != nil {
		return err
	}
	t.watch = named{append(watchers{t.boots}, seen...)}
	s.parts = append(s.parts, part{name: "boots", run: func(ctx context.Context) error {
		t.boots.Run(ctx)
		return nil
	}})
	c, err := t.releases.Load()
	if err != nil {
		return err
	}
	o, err := t.check(ctx, c)
	if err != nil {
		return err
	}
	if err := t.use(ctx, o); err != nil {
		return err
	}
	return t.loadRules(ctx)
}

// options are those of the memory of boots.
func (x Trial) options(t *site) dispatch.Options {
	return dispatch.Options{Store: t.store, Site: served{t}, Answer: t.answer, Window: time.Duration(x.Window), Failed: t.notKept,
		Slots: slot.Rules{Tries: x.Tries, Health: time.Duration(x.Health), Limit: time.Duration(x.Limit)}}
}

// notKept logs what the memory of boots could not keep where nobody waits for an error.
func (t *site) notKept(host, step string, err error) {
	t.log.Error("not kept", "host", host, "step", step, "error", err.Error())
}

// networks are those in which the server is on a link.
func (s *Server) networks(link string) []netip.Prefix {
	for _, l := range s.links {
		if l.Name == link {
			return l.Prefixes
		}
	}
	return nil
}

// explain places an error at a key, with its own hint.
func (c *Config) explain(key string, err error) error {
	hint := ""
	var with interface{ Hint() string }
	if errors.As(err, &with) {
		hint = with.Hint()
	}
	return c.wrong(key, key, hint, "%v", err)
}

// take takes another configuration: what is read next is what that says.
func (t *site) take(c *Config) {
	t.c.Store(c)
	t.machines.Store(&machines{dir: c.Machines, host: t.hostOf})
	t.releases = c.catalogs()
}

// hostOf is the host that has attested with a MAC address.
func (t *site) hostOf(mac netboot.MAC) string { return t.known(mac).Host }

// known is what a machine has said of itself when it attested; nothing for others.
func (t *site) known(mac netboot.MAC) fleet.Machine {
	m, _ := t.boots.Machine(mac)
	return m
}

// served is what a dispatcher asks of the site.
type served struct{ t *site }

// Rules implements dispatch.Site.
func (s served) Rules() *bootrule.Rules {
	if x := s.t.ruled.Load(); x != nil {
		return x.rules
	}
	return nil
}

// Releases implements dispatch.Site.
func (s served) Releases() []bootrule.Release {
	if o := s.t.offered.Load(); o != nil {
		return o.list
	}
	return nil
}

// netboot answers machines that run from RAM.
func (t *site) netboot() verifier.Netboot { return t }

// Machine implements verifier.Netboot.
func (t *site) Machine(ctx context.Context, r attestapi.MachineRequest) (attestapi.MachineFile, error) {
	return t.machines.Load().Machine(ctx, r)
}

// Booted implements verifier.Netboot: from now on the machine's addresses stand for
// its host in choosing what it boots, and nowhere else.
func (t *site) Booted(ctx context.Context, h *fleet.Host, r updateapi.BootReport) (updateapi.BootOrder, error) {
	calm := map[netboot.MAC]bool{}
	for _, text := range r.MACs {
		if mac, err := netboot.ParseMAC(text); err == nil {
			calm[mac] = t.known(mac).Quarantine == ""
		}
	}
	order, err := t.boots.Booted(ctx, h, r)
	for mac, was := range calm {
		if now := t.known(mac).Quarantine; was && now != "" {
			t.log.Warn("quarantine", "mac", mac.String(), "host", h.Record.Name, "reason", now)
		}
	}
	t.setups.saw(ctx, h.Record.Name, r.Install)
	if order.Reset || order.Why != "" {
		t.log.Info("order", "host", h.Record.Name, "reset", order.Reset, "install", order.Install != nil, "why", order.Why)
	}
	return order, err
}

func (t *site) close() {
	if t.store != nil {
		t.store.Close()
	}
}
