package serve

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
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
	"github.com/ingot-os/ingot/internal/regular"
	"github.com/ingot-os/ingot/internal/release"
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

// offer is the releases that can be booted.
type offer struct {
	list []bootrule.Release
	sets map[string]*bootable // by digest of the manifest
}

// bootable is a release with all that is served of it.
type bootable struct {
	bootfiles.Set
	stem   string
	arch   string       // GOARCH
	digest string       // of the manifest
	parts  *chain.Parts // for a BIOS, and scripts of iPXE
	whole  error        // why it has no parts
}

// unchained is why iPXE cannot be told to load the release on that firmware; nil: it
// can.
func (b *bootable) unchained(a netboot.Arch) (err error) {
	switch {
	case b == nil:
		return nil // it has gone meanwhile, which is found when its files are asked for
	case b.parts == nil:
		return b.whole
	}
	_, err = b.parts.ScriptFor(a)
	return err
}

// ruling is a rules file, and the programs that it names.
type ruling struct {
	rules    *bootrule.Rules
	programs map[string][]byte // by name
	stamp    string            // of the file
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
	o := s.c.Trial.options(t)
	o.Link, o.Watcher = s.networks, seen
	if t.boots, err = dispatch.New(ctx, o); err != nil {
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
	if err := t.use(ctx, c); err != nil {
		return err
	}
	return t.loadRules(ctx)
}

// options are those of the memory of boots.
func (x Trial) options(t *site) dispatch.Options {
	return dispatch.Options{Store: t.store, Site: served{t}, Window: time.Duration(x.Window),
		Slots: slot.Rules{Tries: x.Tries, Health: time.Duration(x.Health), Limit: time.Duration(x.Limit)}}
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

// use offers what a catalog has. A release whose files are not those of its
// manifest is refused, and the others go on.
func (t *site) use(ctx context.Context, c *verifier.Catalog) error {
	o := &offer{sets: map[string]*bootable{}}
	var kept []bootfiles.Set
	for _, r := range c.Releases {
		b, err := t.bootable(ctx, r)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			c.Refused = append(c.Refused, verifier.Refused{Dir: r.Dir, Reason: "it cannot be booted from here: " + err.Error()})
			continue
		}
		o.list = append(o.list, bootrule.Release{Digest: r.Digest, Name: r.Name, Version: r.Version, Arch: r.Arch, Epoch: r.Epoch})
		o.sets[r.Digest] = b
		kept = append(kept, b.Set)
	}
	t.catalog = c
	t.offered.Store(o)
	t.files.Retain(kept)
	t.metrics.releases.WithLabelValues("loaded").Set(float64(len(o.list)))
	t.metrics.releases.WithLabelValues("refused").Set(float64(len(c.Refused)))
	if t.c.Load().Rules == "" && t.ruled.Load() != nil {
		return t.loadRules(ctx) // without rules and default, the only appliance is it
	}
	return nil
}

// bootable checks each byte of a release, and finds what a BIOS needs of it.
func (t *site) bootable(ctx context.Context, r verifier.Release) (*bootable, error) {
	if err := t.files.Check(ctx, r.Boot); err != nil {
		return nil, err
	}
	b := &bootable{Set: r.Boot, stem: r.Name + "-" + r.Version, arch: r.Arch, digest: r.Digest}
	m, err := manifest(r)
	if err != nil {
		return nil, err
	}
	uki, err := t.files.Open(ctx, r.Boot.UKI)
	if err != nil {
		return nil, err
	}
	defer uki.Close()
	// What iPXE cannot be told still boots without it.
	b.parts, b.whole = chain.Split(uki, uki.Size(), m)
	return b, nil
}

// manifest reads the manifest that the catalog has believed.
func manifest(r verifier.Release) (*release.Manifest, error) {
	set, err := release.Open(r.Dir)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(r.Dir, release.ManifestName))
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != r.Digest {
		return nil, fmt.Errorf("%s was changed meanwhile", filepath.Join(r.Dir, release.ManifestName))
	}
	return set.Manifest, nil
}

// loadRules reads the rules file, or makes rules of the default.
func (t *site) loadRules(context.Context) error {
	x := &ruling{stamp: stampOf(t.c.Load().Rules)}
	var err error
	if t.c.Load().Rules == "" {
		x.rules, err = t.only()
	} else {
		err = x.read(t.c.Load().Rules)
	}
	if err != nil {
		if old := t.ruled.Load(); old != nil { // said once for each change
			kept := *old
			kept.stamp = x.stamp
			t.ruled.Store(&kept)
		}
		return err
	}
	t.ruled.Store(x)
	t.metrics.rules.Set(float64(len(x.rules.Rules)))
	return nil
}

// only is what all machines boot without a rules file.
func (t *site) only() (*bootrule.Rules, error) {
	text := t.c.Load().Default
	if text == "" {
		text = "local"
		for i, r := range t.offered.Load().list {
			if i > 0 && r.Name != text {
				text = "local"
				break
			}
			text = r.Name
		}
	}
	target, err := bootrule.ParseTarget(text)
	if err != nil {
		return nil, t.c.Load().explain("default", err)
	}
	return bootrule.Only(target), nil
}

func (x *ruling) read(path string) error {
	data, err := regular.Read(path, bootrule.MaxSize)
	if err != nil {
		return fmt.Errorf("read rules: %w", err)
	}
	if x.rules, err = bootrule.Parse(path, data); err != nil {
		return err
	}
	x.programs = map[string][]byte{}
	for name, p := range x.rules.Programs {
		file := below(filepath.Dir(path), p.File)
		data, err := regular.Read(file, maxProgram)
		if err != nil {
			return fmt.Errorf("read program %s: %w", name, err)
		}
		if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != p.SHA256 {
			return fmt.Errorf("read program %s: %s has the SHA-256 %x, not that of the rules", name, file, sum)
		}
		x.programs[name] = data
	}
	return nil
}

// maxProgram bounds a program of the rules in bytes.
const maxProgram = 64 << 20

// rules is how many rules there are.
func (t *site) rules() int { return len(t.ruled.Load().rules.Rules) }

// rulesChanged reports whether the rules file is another one than was read.
func (t *site) rulesChanged() bool {
	return t.c.Load().Rules != "" && stampOf(t.c.Load().Rules) != t.ruled.Load().stamp
}

func stampOf(path string) string {
	info, err := os.Stat(path)
	switch {
	case path == "" || errors.Is(err, fs.ErrNotExist):
		return ""
	case err != nil:
		return err.Error()
	}
	return fmt.Sprint(info.Size(), info.ModTime().UnixNano())
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
