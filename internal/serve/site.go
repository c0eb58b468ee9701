package serve

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/ingot-os/ingot/internal/attestapi"
	"github.com/ingot-os/ingot/internal/attestd"
	"github.com/ingot-os/ingot/internal/bootfiles"
	"github.com/ingot-os/ingot/internal/bootrule"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/internal/verifier"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// site is what the parts share: who boots what, and the files of it.
type site struct {
	c       *Config
	store   *fleet.SQLite
	watch   netboot.Watcher
	metrics *metrics

	releases attestd.Releases
	catalog  *verifier.Catalog
	files    *bootfiles.Store
	now      atomic.Pointer[offer]
	machines *machines
	renew    []func() error // certificates
}

// offer is what is served now.
type offer struct {
	rules *bootrule.Rules
	list  []bootrule.Release
	sets  map[string]bootfiles.Set // by digest
}

func (s *Server) openSite(ctx context.Context) (err error) {
	t := &site{c: s.c, metrics: s.metrics, releases: s.c.catalogs()}
	s.site = t
	t.watch = named{watchers{s.metrics, &boots{log: s.o.Log, skipped: func(n int) { s.metrics.quiet.Add(float64(n)) }}}}
	if t.store, err = attestd.OpenStore(s.c.State); err != nil {
		return err
	}
	if t.files, err = bootfiles.New(bootfiles.Options{}); err != nil {
		return err
	}
	t.machines = &machines{dir: s.c.Machines, host: func(netboot.MAC) string { return "" }}
	if t.machines.count, err = t.machines.check(); err != nil {
		return s.c.wrong("machines", "machines", "docs/machine.md says what may be in such a file", "%v", err)
	}
	if t.catalog, err = t.releases.Load(); err != nil {
		return err
	}
	return t.use(ctx, t.catalog)
}

// use offers what a catalog has.
func (t *site) use(ctx context.Context, c *verifier.Catalog) error {
	o := &offer{sets: map[string]bootfiles.Set{}, rules: bootrule.Only(bootrule.Target{})}
	for _, r := range c.Releases {
		if err := t.files.Check(ctx, r.Boot); err != nil {
			return err
		}
		o.list = append(o.list, bootrule.Release{Digest: r.Digest, Name: r.Name, Version: r.Version, Arch: r.Arch, Epoch: r.Epoch})
		o.sets[r.Digest] = r.Boot
	}
	target := t.c.Default
	if target == "" && len(o.list) > 0 {
		target = o.list[0].Name
	}
	if target != "" {
		x, err := bootrule.ParseTarget(target)
		if err != nil {
			return t.c.wrong("default", "default", "", "%v", err)
		}
		o.rules = bootrule.Only(x)
	}
	t.catalog = c
	t.metrics.releases.WithLabelValues("loaded").Set(float64(len(c.Releases)))
	t.metrics.releases.WithLabelValues("refused").Set(float64(len(c.Refused)))
	t.now.Store(o)
	return nil
}

func (t *site) rules() int                      { return 0 }
func (t *site) rulesChanged() bool              { return false }
func (t *site) loadRules(context.Context) error { return nil }
func (t *site) take(c *Config)                  { t.c = c }

// Decide implements netboot.Decider.
func (t *site) Decide(_ context.Context, c netboot.Client) netboot.Answer {
	o := t.now.Load()
	d := bootrule.Decide(bootrule.Case{Facts: bootrule.Facts{MAC: c.MAC, UUID: c.UUID, Arch: c.Arch, IPXE: c.IPXE}, Rules: o.rules, Releases: o.list, Now: time.Now()})
	a := netboot.Answer{Verb: d.Verb, Reason: d.Reason, Method: netboot.TFTP}
	if d.Release != nil {
		a.Release = d.Release.Stem()
		a.Path = fmt.Sprintf("boot/%s/%s.efi", c.MAC.Plain(), a.Release)
	}
	if c.HTTP() {
		a.Method = netboot.HTTP
	}
	return a
}

// Open implements netboot.Source.
func (t *site) Open(ctx context.Context, r netboot.Request) (netboot.Content, error) {
	o := t.now.Load()
	for _, x := range o.list {
		set := o.sets[x.Digest]
		if set.Root != nil && r.Path == "root/"+set.Root.SHA256 {
			return t.files.Open(ctx, *set.Root)
		}
		if len(r.Path) > 18 && r.Path[:5] == "boot/" && r.Path[18:] == x.Stem()+".efi" {
			return t.files.Open(ctx, set.UKI)
		}
	}
	return nil, netboot.ErrNotFound
}

// netboot answers machines that run from RAM.
func (t *site) netboot() verifier.Netboot { return t }

// Machine implements verifier.Netboot.
func (t *site) Machine(ctx context.Context, r attestapi.MachineRequest) (attestapi.MachineFile, error) {
	return t.machines.Machine(ctx, r)
}

// Booted implements verifier.Netboot.
func (t *site) Booted(context.Context, *fleet.Host, updateapi.BootReport) (updateapi.BootOrder, error) {
	return updateapi.BootOrder{}, nil
}

func (t *site) close() {
	if t.store != nil {
		t.store.Close()
	}
}
