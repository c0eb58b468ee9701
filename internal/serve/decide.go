package serve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ingot-os/ingot/internal/bootfiles"
	"github.com/ingot-os/ingot/internal/bootrule"
	"github.com/ingot-os/ingot/internal/chain"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// Decide implements netboot.Decider.
func (t *site) Decide(ctx context.Context, c netboot.Client) netboot.Answer {
	t.boots.Asked(c)
	d := t.decide(ctx, c)
	a := netboot.Answer{Verb: d.Verb, Reason: d.Reason, Host: t.known(c.MAC).Host}
	switch {
	case d.Verb != netboot.Boot:
		return a
	case d.Program != "":
		return t.file(a, c, d.Program+".efi", c.HTTP())
	}
	a.Release = d.Release.Stem()
	step := chain.Next(c, chain.Options{UKI: a.Release + ".efi", IPXE: d.Chain, Programs: t.ipxe, Unscripted: t.offered.Load().sets[d.Release.Digest].unchained(c.Arch)})
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

// decide says what a client boots, by rules, tickets and its slots. Without what is
// kept of it nothing is decided: it is told no, and goes on.
func (t *site) decide(ctx context.Context, c netboot.Client) bootrule.Decision {
	d, err := t.boots.Decide(ctx, c)
	if err != nil {
		t.log.Error("no decision", "mac", c.MAC.String(), "error", err.Error())
		return bootrule.Decision{Verb: netboot.Refuse, Reason: "the server cannot read what it keeps: its log says why"}
	}
	return d.Decision
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
			return t.uki(ctx, mac, b)
		}
	}
	if p := t.ipxe.Named(name); p != nil {
		return chain.Bytes(p.Data, nil), nil
	}
	if program, ok := strings.CutSuffix(name, ".efi"); ok {
		if data := t.ruled.Load().programs[program]; data != nil {
			c := t.client(mac, cmp.Or(t.ruled.Load().rules.Programs[program].Arch, "amd64"))
			return chain.Bytes(data, func() error { return t.begin(c, program) }), nil
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
	arch := t.boots.Arch(mac)
	d := t.decide(ctx, netboot.Client{MAC: mac, Arch: arch, IPXE: true})
	if d.Verb != netboot.Boot || d.Release == nil {
		return nil, netboot.ErrDenied
	}
	b := o.sets[d.Release.Digest]
	if b == nil {
		return nil, netboot.ErrNotFound
	}
	if b.parts == nil {
		return nil, fmt.Errorf("%w for iPXE: %v", netboot.ErrNotFound, b.whole)
	}
	if name == chain.Script {
		text, err := b.parts.ScriptFor(arch)
		return chain.Bytes([]byte(text), nil), err
	}
	p, ok := b.parts.Named(name)
	if !ok {
		return nil, netboot.ErrNotFound
	}
	uki, err := t.uki(ctx, mac, b)
	if err != nil {
		return nil, err
	}
	return p.Of(uki), nil
}

// uki opens a release's UKI for a machine: its first byte begins an attempt.
func (t *site) uki(ctx context.Context, mac netboot.MAC, b *bootable) (netboot.Content, error) {
	f, err := t.files.Open(ctx, b.UKI)
	if err != nil {
		return nil, err
	}
	c := t.client(mac, b.arch)
	return begun{f, func() error { return t.begin(c, b.digest) }}, nil
}

// client is who asks for a file that is for a processor. A server that was started
// anew has not heard it ask, while its firmware kept what it was told.
func (t *site) client(mac netboot.MAC, goarch string) netboot.Client {
	c := netboot.Client{MAC: mac, Arch: t.boots.Arch(mac)}
	if c.Arch == netboot.Unknown {
		c.Arch = firmware[goarch]
	}
	return c
}

// firmware is what boots images for a processor.
var firmware = map[string]netboot.Arch{"amd64": netboot.EFIX64, "arm64": netboot.EFIARM64}

// begun is a file whose first byte begins an attempt.
type begun struct {
	*bootfiles.Content
	begin func() error
}

// Begin implements netboot.Content.
func (b begun) Begin() error {
	if err := b.Content.Begin(); err != nil {
		return err
	}
	return b.begin()
}

// beginTime bounds how long the first byte waits for the disk of the server.
const beginTime = 10 * time.Second

func (t *site) begin(c netboot.Client, what string) error {
	ctx, done := context.WithTimeout(context.Background(), beginTime)
	defer done()
	err := t.boots.Begin(ctx, c, what)
	if err != nil && !errors.Is(err, netboot.ErrDenied) {
		t.log.Error("a boot cannot begin", "mac", c.MAC.String(), "error", err.Error())
	}
	return err
}
