package serve

import (
	"context"

	"github.com/ingot-os/ingot/internal/bootrule"
	"github.com/ingot-os/ingot/internal/chain"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// Decide implements netboot.Decider.
func (t *site) Decide(ctx context.Context, c netboot.Client) netboot.Answer {
	t.boots.Asked(c)
	a := t.answer(c, t.decide(ctx, c))
	a.Host = t.known(c.MAC).Host
	return a
}

// answer is what a client is told of a decision: by which file, and how, it begins.
func (t *site) answer(c netboot.Client, d bootrule.Decision) netboot.Answer {
	a := netboot.Answer{Verb: d.Verb, Reason: d.Reason}
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
