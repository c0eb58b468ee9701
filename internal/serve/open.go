package serve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ingot-os/ingot/internal/bootfiles"
	"github.com/ingot-os/ingot/internal/bootrule"
	"github.com/ingot-os/ingot/internal/chain"
	"github.com/ingot-os/ingot/internal/dispatch"
	"github.com/ingot-os/ingot/pxe/netboot"
)

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
	mac, dir, name, ok := bootPath(r.Path)
	switch {
	case !ok:
		return nil, netboot.ErrNotFound
	case dir != "" || name == chain.Script:
		return t.part(ctx, o, mac, dir, name)
	case o.has(name):
		return t.named(ctx, o, mac, name)
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
	return nil, netboot.ErrNotFound
}

// bootPath reads boot/MAC/NAME and boot/MAC/DIR/NAME, where DIR is that of a release
// for iPXE.
func bootPath(path string) (mac netboot.MAC, dir, name string, ok bool) {
	rest, ok := strings.CutPrefix(path, "boot/")
	plain, name, slash := strings.Cut(rest, "/")
	if a, b, deep := strings.Cut(name, "/"); deep && chain.IsDir(a) {
		dir, name = a, b
	}
	mac, err := netboot.ParseMAC(plain)
	return mac, dir, name, ok && slash && err == nil && len(plain) == 12 && name != "" && !strings.Contains(name, "/")
}

// has reports whether a name is that of a release's UKI, or of several releases'.
func (o *offer) has(name string) bool {
	stem, ok := strings.CutSuffix(name, ".efi")
	return ok && slices.ContainsFunc(o.list, func(r bootrule.Release) bool { return r.Stem() == stem })
}

// named opens a UKI by its name. Two builds of a version share one, and a version for two
// processors, so what is decided for the machine says whose it is.
func (t *site) named(ctx context.Context, o *offer, mac netboot.MAC, name string) (netboot.Content, error) {
	archs := []netboot.Arch{t.boots.Arch(mac)}
	if archs[0] == netboot.Unknown {
		// A server that was started anew has not heard it ask, while its firmware kept
		// what it was told. Most machines are of the first.
		archs = []netboot.Arch{firmware["amd64"], firmware["arm64"]}
	}
	var no error
	for _, arch := range archs {
		c := netboot.Client{MAC: mac, Arch: arch}
		d := t.decide(ctx, c)
		if b := o.decided(d); b != nil && name == b.stem+".efi" {
			return t.uki(ctx, c, b)
		}
		if no == nil || d.Verb == netboot.Boot {
			no = dispatch.Denied(&d)
		}
	}
	return nil, no
}

// decided is the release of a decision; nil: none, or one that has gone.
func (o *offer) decided(d bootrule.Decision) *bootable {
	if d.Verb != netboot.Boot || d.Release == nil {
		return nil
	}
	return o.sets[d.Release.Digest]
}

// chained is who loads by iPXE, and what is decided for it. A server that was started anew
// has not heard it ask; then the directory, which its script named, says which firmware it
// has.
func (t *site) chained(ctx context.Context, o *offer, mac netboot.MAC, dir string) (c netboot.Client, d bootrule.Decision) {
	archs := []netboot.Arch{t.boots.Arch(mac)}
	if archs[0] == netboot.Unknown && dir != "" {
		archs = []netboot.Arch{netboot.BIOS, netboot.EFIX64, netboot.EFIARM64}
	}
	for _, arch := range archs {
		c = netboot.Client{MAC: mac, Arch: arch, IPXE: true}
		d = t.decide(ctx, c)
		if b := o.decided(d); b != nil && dir == chain.Dir(b.digest) {
			break
		}
	}
	return c, d
}

// part opens what iPXE loads: the script of the release that the machine boots, or what
// that names. A script that is of another release by now gets no more of its files.
func (t *site) part(ctx context.Context, o *offer, mac netboot.MAC, dir, name string) (netboot.Content, error) {
	c, d := t.chained(ctx, o, mac, dir)
	b := o.decided(d)
	switch {
	case b == nil:
		return nil, dispatch.Denied(&d)
	case dir != "" && dir != chain.Dir(b.digest):
		return nil, dispatch.ErrMoved
	case b.parts == nil:
		return nil, fmt.Errorf("%w for iPXE: %v", netboot.ErrNotFound, b.whole)
	case dir == "":
		text, err := b.parts.ScriptFor(c.Arch)
		return chain.Bytes([]byte(text), nil), err
	}
	p, section := b.parts.Named(name)
	if !section && name != b.parts.UKI {
		return nil, netboot.ErrNotFound
	}
	uki, err := t.uki(ctx, netboot.Client{MAC: mac, Arch: c.Arch}, b)
	if err != nil || !section {
		return uki, err
	}
	return p.Of(uki), nil
}

// uki opens a release's UKI for a machine: its first byte begins an attempt.
func (t *site) uki(ctx context.Context, c netboot.Client, b *bootable) (netboot.Content, error) {
	f, err := t.files.Open(ctx, b.UKI)
	if err != nil {
		return nil, err
	}
	return begun{f, func() error { return t.begin(c, b.digest) }}, nil
}

// client is who asks for a file that is for a processor, also when it was not heard to
// ask for an address.
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
