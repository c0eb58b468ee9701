package serve

import (
	"context"
	"strings"
	"time"

	"github.com/ingot-os/ingot/internal/bootrule"
	"github.com/ingot-os/ingot/internal/chain"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// Decide implements netboot.Decider.
func (t *site) Decide(_ context.Context, c netboot.Client) netboot.Answer {
	if !c.Init { // iPXE says the architecture of its firmware, too
		t.seen.asked(c.MAC, c.Arch)
	}
	d := t.decide(c)
	a := netboot.Answer{Verb: d.Verb, Reason: d.Reason, Host: t.known(c.MAC).Host}
	switch {
	case d.Verb != netboot.Boot:
		return a
	case d.Program != "":
		return t.file(a, c, d.Program+".efi", c.HTTP())
	}
	a.Release = d.Release.Stem()
	step := chain.Next(c, chain.Options{UKI: a.Release + ".efi", IPXE: d.Chain, Programs: t.ipxe})
	if step.Name == "" {
		a.Verb, a.Reason = netboot.Refuse, d.Reason+": "+step.Reason
		return a
	}
	if step.Name != a.Release+".efi" {
		a.Reason += "; " + step.Reason
	}
	return t.file(a, c, step.Name, step.HTTP)
}

// file names a file below the machine's own path, by a method that is served.
func (t *site) file(a netboot.Answer, c netboot.Client, name string, http bool) netboot.Answer {
	conf := t.c.Load()
	a.Path = "boot/" + c.MAC.Plain() + "/" + name
	switch {
	case http && conf.HTTPS.On && (conf.HTTPS.Prefer || conf.HTTP.Off) && !c.IPXE:
		a.Method = netboot.HTTPS
	case http && !conf.HTTP.Off:
		a.Method = netboot.HTTP
	case !http && !conf.TFTP.Off:
		a.Method = netboot.TFTP
	default:
		what := map[bool]string{true: "HTTP", false: "TFTP"}[http]
		a.Verb, a.Path, a.Reason = netboot.Refuse, "", a.Reason+": it would load by "+what+", which is off here"
	}
	return a
}

// decide asks the rules.
func (t *site) decide(c netboot.Client) bootrule.Decision {
	m := t.known(c.MAC)
	f := bootrule.Facts{MAC: c.MAC, UUID: c.UUID, Arch: c.Arch, IPXE: c.IPXE, Host: m.Host, Serial: m.Serial, Asset: m.Asset, Quarantine: m.Quarantine}
	if c.Addr.IsValid() {
		f.Addrs = append(f.Addrs, c.Addr)
	}
	if c.Relay.IsValid() {
		f.Addrs = append(f.Addrs, c.Relay)
	}
	return bootrule.Decide(bootrule.Case{Facts: f, Rules: t.ruled.Load().rules, Releases: t.offered.Load().list, Now: time.Now()})
}

// Open implements netboot.Source. A path is looked up, and never becomes that of a
// file of the server.
func (t *site) Open(ctx context.Context, r netboot.Request) (netboot.Content, error) {
	o := t.offered.Load()
	if digest, ok := strings.CutPrefix(r.Path, "root/"); ok {
		for _, b := range o.sets {
			if b.Root != nil && b.Root.SHA256 == digest && r.Method != netboot.TFTP {
				return t.files.Open(ctx, *b.Root)
			}
		}
		return nil, netboot.ErrNotFound
	}
	mac, name, ok := bootPath(r.Path)
	if !ok {
		return nil, netboot.ErrNotFound
	}
	for _, b := range o.sets {
		if name == b.stem+".efi" && b.stem != "" {
			return t.files.Open(ctx, b.UKI)
		}
	}
	if p := t.ipxe.Named(name); p != nil {
		return chain.Bytes(p.Data, nil), nil
	}
	if program, ok := strings.CutSuffix(name, ".efi"); ok {
		if data := t.ruled.Load().programs[program]; data != nil {
			return chain.Bytes(data, nil), nil
		}
	}
	return t.part(ctx, o, mac, name)
}

// bootPath reads boot/MAC/NAME.
func bootPath(path string) (mac netboot.MAC, name string, ok bool) {
	rest, ok := strings.CutPrefix(path, "boot/")
	plain, name, slash := strings.Cut(rest, "/")
	mac, err := netboot.ParseMAC(plain)
	return mac, name, ok && slash && err == nil && len(plain) == 12 && name != "" && !strings.Contains(name, "/")
}

// part opens what iPXE loads of the release that the machine boots: a script, or a
// part of the UKI.
func (t *site) part(ctx context.Context, o *offer, mac netboot.MAC, name string) (netboot.Content, error) {
	arch := t.seen.arch(mac)
	d := t.decide(netboot.Client{MAC: mac, Arch: arch, IPXE: true})
	if d.Verb != netboot.Boot || d.Release == nil {
		return nil, netboot.ErrDenied
	}
	b := o.sets[d.Release.Digest]
	if b == nil || b.parts == nil {
		return nil, netboot.ErrNotFound
	}
	if name == chain.Script {
		text, err := b.parts.UEFIScript()
		if !arch.UEFI() {
			text, err = b.parts.BIOSScript()
		}
		return chain.Bytes([]byte(text), nil), err
	}
	p, ok := b.parts.Named(name)
	if !ok {
		return nil, netboot.ErrNotFound
	}
	uki, err := t.files.Open(ctx, b.UKI)
	if err != nil {
		return nil, err
	}
	return p.Of(uki), nil
}
