package bootrule

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// Decide says what a machine boots, and why. It changes nothing, and gives the
// same for the same case.
func Decide(c Case) Decision {
	d := &deciding{Case: c}
	if d.Rules == nil {
		d.Rules = Only(Target{local: true})
	}
	d.groups = d.Rules.groupsOf(&d.Facts)
	if !d.denied() && !d.quarantined() && !d.ticketed() {
		d.follow()
	}
	return d.out
}

type deciding struct {
	Case
	out    Decision
	groups map[string]string // that the machine is in, and by what
}

func (d *deciding) step(what string, matched bool, format string, args ...any) {
	d.out.Steps = append(d.out.Steps, Step{what, matched, fmt.Sprintf(format, args...)})
}

func (d *deciding) refuse(format string, args ...any) {
	d.out.Verb, d.out.Release, d.out.Program, d.out.Reason = netboot.Refuse, nil, "", fmt.Sprintf(format, args...)
}

func (d *deciding) denied() bool {
	for i := range d.Rules.Deny {
		x := &d.Rules.Deny[i]
		yes, why := d.matches(&x.Match)
		what := fmt.Sprintf("deny %d", i+1)
		d.step(what, yes, "%s", why)
		if yes {
			d.out.Rule = what
			d.refuse("deny list: %s", orElse(x.Reason, why))
			return true
		}
	}
	return false
}

func (d *deciding) quarantined() bool {
	if d.Facts.Quarantine == "" {
		return false
	}
	d.step("quarantine", true, "%s", d.Facts.Quarantine)
	d.out.Rule = "quarantine"
	d.refuse("quarantine: %s", d.Facts.Quarantine)
	return true
}

// ticketed follows a ticket. What it boots is no try of the machine's slots.
func (d *deciding) ticketed() bool {
	k := d.Ticket
	if k == nil {
		return false
	}
	until := k.Expires.UTC().Format(time.RFC3339)
	if !d.Now.Before(k.Expires) {
		d.step("ticket", false, "%s by %s ended at %s", k.Kind, k.By, until)
		return false
	}
	d.step("ticket", true, "%s by %s, until %s", k.Kind, k.By, until)
	t, chain := k.Target, false
	switch {
	case k.Kind == Memtest:
		t = Target{program: Memtest}
	case k.Kind == Rescue:
		t = d.Rules.Rescue
	case k.Kind == Install && t.IsZero():
		t, chain = d.rule()
	}
	d.out.Rule, d.out.Ticket = "ticket "+k.Kind, k.Kind
	switch {
	case t.IsZero():
		d.refuse("ticket %s: the rules name no release for it", k.Kind)
	case t.program != "":
		d.program(t.program)
	case !t.isRelease():
		d.refuse("ticket %s: the rules give this machine no release, and the ticket names none", k.Kind)
	default:
		d.release(t, chain)
	}
	return true
}

// follow does what the rules say.
func (d *deciding) follow() {
	t, chain := d.rule()
	switch {
	case t.local || t.IsZero():
		d.refuse("%s: local boot", d.out.Rule)
	case t.program != "":
		d.program(t.program)
	case d.release(t, chain):
		d.assign()
		d.slots()
	}
}

// rule finds the rule that counts.
func (d *deciding) rule() (t Target, chain bool) {
	for i := range d.Rules.Rules {
		x := &d.Rules.Rules[i]
		yes, why := d.matches(&x.Match)
		d.step(d.Rules.Title(i), yes, "%s", why)
		if yes {
			d.out.Rule = d.Rules.Title(i)
			return x.Boot, x.Chain != ""
		}
	}
	d.out.Rule = "default"
	t = d.Rules.Default
	if t.IsZero() {
		t = Target{local: true}
	}
	d.step("default", true, "%s", t)
	return t, false
}

// program boots what is no release. Its processor must be the machine's, and
// BIOS starts no UEFI programs.
func (d *deciding) program(name string) {
	p, ok := d.Rules.Programs[name]
	a := d.Facts.Arch
	switch {
	case !ok:
		d.refuse("%s: the rules have no program %s", d.out.Rule, name)
	case !a.UEFI() || a.GOARCH() != orElse(p.Arch, "amd64"):
		d.refuse("%s: program %s is for UEFI on %s, this is %s", d.out.Rule, name, orElse(p.Arch, "amd64"), a)
	default:
		d.out.Verb, d.out.Program, d.out.Reason = netboot.Boot, name, d.out.Rule
	}
}

// release boots a release for the machine's processor. BIOS cannot start it
// without iPXE.
func (d *deciding) release(t Target, chain bool) bool {
	arch := d.Facts.Arch.GOARCH()
	if arch == "" {
		d.refuse("%s: there are no images for architecture %s", d.out.Rule, d.Facts.Arch)
		d.step("architecture", false, "%s", d.Facts.Arch)
		return false
	}
	r, why := t.find(d.Releases, arch)
	if r == nil {
		d.step("release", false, "%s", why)
		d.refuse("%s: %s", d.out.Rule, why)
		return false
	}
	d.step("release", true, "%s is %s, manifest %.12s", t, r.Stem(), r.Digest)
	d.out.Verb, d.out.Release, d.out.Reason, d.out.Approve = netboot.Boot, r, d.out.Rule, true
	d.out.Chain = chain || !d.Facts.Arch.UEFI()
	if d.out.Chain {
		d.step("chain", true, "by way of iPXE: %s", map[bool]string{true: "the rule says so", false: "BIOS starts no UKI"}[chain])
	}
	return true
}

// assign takes another version of what the rules say.
func (d *deciding) assign() {
	a := d.Assigned
	if a == nil {
		return
	}
	i := slices.IndexFunc(d.Releases, func(r Release) bool { return r.Digest == a.Digest })
	switch {
	case i < 0:
		d.step("assigned", false, "%s by %s: the server has no such release", a.Version, a.By)
	case d.Releases[i].Arch != d.out.Release.Arch:
		d.step("assigned", false, "%s by %s is for %s", a.Version, a.By, d.Releases[i].Arch)
	default:
		d.out.Release, d.out.Approve = &d.Releases[i], a.Approved
		d.out.Reason = "assigned by " + a.By
		d.step("assigned", true, "%s by %s%s", d.out.Release.Stem(), a.By, map[bool]string{false: ", not to be tried yet"}[a.Approved])
	}
}

// slots asks the machine's slots.
func (d *deciding) slots() {
	if d.Peek == nil {
		if d.Assigned != nil && !d.out.Approve {
			d.step("slots", false, "the machine has none: what is assigned is booted all the same")
		}
		return
	}
	wanted := d.out.Release
	p := d.Peek(*wanted, d.out.Approve)
	d.out.Wanted, d.out.Slots = wanted, true
	i := slices.IndexFunc(d.Releases, func(r Release) bool { return r.Digest == p.Digest })
	if i < 0 || d.Releases[i].Arch != wanted.Arch {
		d.step("slots", false, "%s", orElse(p.Why, "what they hold is not there any more"))
		d.refuse("slots: %s", orElse(p.Why, "what they hold is not among the releases any more"))
		return
	}
	d.step("slots", true, "%s: %s", d.Releases[i].Stem(), p.Why)
	d.out.Release, d.out.Trial = &d.Releases[i], p.Trial
	if p.Digest != wanted.Digest || p.Trial {
		d.out.Reason += ", slots: " + p.Why
	}
}

// groupsOf are the groups that a machine is in, with what put it there.
func (r *Rules) groupsOf(f *Facts) map[string]string {
	out := map[string]string{}
	add := func(m member, why string) {
		if _, dup := out[m.group]; !dup {
			out[m.group] = why
		}
	}
	for _, key := range []string{"mac " + f.MAC.String(), "uuid " + f.UUID, "host " + f.Host, "serial " + f.Serial, "asset " + f.Asset} {
		for _, m := range r.members.exact[key] {
			add(m, key)
		}
	}
	for _, m := range r.members.pattern {
		g := m.one
		if yes, why := f.named(g.MAC, g.UUID, g.Host, g.Serial, g.Asset, g.EK); yes {
			add(m, why)
		}
	}
	return out
}

// named reports whether the values of one kind that are given name the machine.
func (f *Facts) named(mac []MACPattern, uuid []UUID, host, serial, asset []Glob, ek []EK) (bool, string) {
	d := &deciding{Case: Case{Facts: *f}}
	yes, no := d.compare(&Match{MAC: mac, UUID: uuid, Host: host, Serial: serial, Asset: asset, EK: ek})
	if no != nil {
		return false, ""
	}
	return true, strings.Join(yes, ", ")
}

// matches compares each key that is given, and says which decided.
func (d *deciding) matches(m *Match) (bool, string) {
	yes, no := d.compare(m)
	switch {
	case no != nil:
		return false, no.mismatch()
	case len(yes) == 0:
		return true, "every machine"
	}
	return true, strings.Join(yes, ", ")
}

// key is one key of a Match.
type key struct {
	name  string
	given int
	list  func() []string // the given values
	is    string          // of the machine
	ok    func() bool
}

// mismatch says what the machine is, and what it would have to be.
func (k *key) mismatch() string {
	list := k.list()
	const few = 3
	want := strings.Join(list[:min(few, len(list))], ", ")
	if more := len(list) - few; more > 0 {
		want += fmt.Sprintf(" or %d more", more)
	}
	switch {
	case k.is == "" && k.name == "group":
		return "it is in no group, want " + want
	case k.is == "":
		return k.name + " is not known, want " + want
	}
	return k.name + " " + k.is + " is not " + want
}

// compare gives the keys that match, and the first that does not; nil: all do.
func (d *deciding) compare(m *Match) (yes []string, no *key) {
	f := &d.Facts
	for _, k := range []key{
		{"group", len(m.Group), func() []string { return m.Group }, strings.Join(keysOf(d.groups), " "), func() bool { return slices.ContainsFunc(m.Group, func(g string) bool { return d.groups[g] != "" }) }},
		{"mac", len(m.MAC), func() []string { return textsOf(m.MAC) }, f.MAC.String(), func() bool { return slices.ContainsFunc(m.MAC, func(p MACPattern) bool { return p.matches(f.MAC) }) }},
		{"uuid", len(m.UUID), func() []string { return textsOf(m.UUID) }, f.UUID, func() bool { return Identifies(f.UUID) && slices.Contains(m.UUID, UUID(f.UUID)) }},
		{"host", len(m.Host), func() []string { return textsOf(m.Host) }, f.Host, func() bool { return anyGlob(m.Host, f.Host) }},
		{"serial", len(m.Serial), func() []string { return textsOf(m.Serial) }, f.Serial, func() bool { return anyGlob(m.Serial, f.Serial) }},
		{"asset", len(m.Asset), func() []string { return textsOf(m.Asset) }, f.Asset, func() bool { return anyGlob(m.Asset, f.Asset) }},
		{"ek", len(m.EK), func() []string { return textsOf(m.EK) }, strings.Join(f.EK[:min(1, len(f.EK))], ""), func() bool { return slices.ContainsFunc(m.EK, func(e EK) bool { return e.matches(f.EK) }) }},
		{"subnet", len(m.Subnet), func() []string { return textsOf(m.Subnet) }, addrText(m.Subnet, f.Addrs), func() bool { return inSubnet(m.Subnet, f.Addrs) }},
		{"arch", len(m.Arch), func() []string { return textsOf(m.Arch) }, f.Arch.String(), func() bool {
			return slices.ContainsFunc(m.Arch, func(a Arch) bool { return slices.Contains(a.is, f.Arch) })
		}},
	} {
		if k.given == 0 {
			continue
		}
		if !k.ok() {
			return nil, &k
		}
		yes = append(yes, k.name+" "+k.is)
	}
	return yes, nil
}

// textsOf are values as they are written.
func textsOf[T any](list []T) []string {
	out := make([]string, len(list))
	for i, x := range list {
		out[i] = fmt.Sprint(x)
	}
	return out
}

func anyGlob(list []Glob, s string) bool {
	return slices.ContainsFunc(list, func(g Glob) bool { return g.matches(s) })
}

func inSubnet(list []Subnet, addrs []netip.Addr) bool {
	return slices.ContainsFunc(list, func(n Subnet) bool {
		return slices.ContainsFunc(addrs, func(a netip.Addr) bool { return n.Contains(a.Unmap().WithZone("")) })
	})
}

// addrText are the addresses that are in a network of the list, else all.
func addrText(nets []Subnet, list []netip.Addr) string {
	in := slices.DeleteFunc(slices.Clone(list), func(a netip.Addr) bool { return !inSubnet(nets, []netip.Addr{a}) })
	if len(in) == 0 {
		in = list
	}
	return strings.Join(textsOf(in), " ")
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
