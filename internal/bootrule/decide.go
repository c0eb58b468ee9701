package bootrule

import (
	"fmt"
	"slices"
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

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
