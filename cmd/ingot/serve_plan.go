package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/internal/serve"
	"github.com/ingot-os/ingot/internal/ui"
)

// showPlan is the result of ingot serve --check: what would be served, where, and
// what a machine would get. The exit code says whether all of it would be.
func showPlan(u *ui.UI, p *serve.Plan) error {
	show := tellPlan
	if u.JSON {
		show = func(u *ui.UI, p *serve.Plan) error { return u.PrintJSON(p) }
	}
	if err := show(u, p); err != nil {
		return err
	}
	switch {
	case len(p.Refused) > 0:
		return ui.Exit(ui.CodeRefused)
	case len(p.Troubles) > 0 || len(p.Releases) == 0 || slices.ContainsFunc(p.Ports, func(x serve.Port) bool { return x.Trouble != "" }):
		return ui.Exit(ui.CodeError)
	}
	return nil
}

// tellPlan is a plan in words.
func tellPlan(u *ui.UI, p *serve.Plan) error {
	if err := u.Table([]string{"PART", "PORT", "INTERFACE", ""}, portRows(p)); err != nil {
		return err
	}
	portHints(u, p)
	if p.Running {
		u.Warn("a server runs with the state %s: what is checked is what it would take over", p.State)
	}
	if err := u.Print("\ndhcp is %s%s", p.DHCP, subnetWords(p)); err != nil {
		return err
	}
	if p.DHCP6 != serve.ModeOff {
		if err := u.Print("dhcp6 is %s", p.DHCP6); err != nil {
			return err
		}
	}
	rows := [][]string{}
	for _, r := range p.Releases {
		by := "nobody"
		if len(r.Signers) > 0 {
			by = "key " + ui.Short(r.Signers[0])
		}
		rows = append(rows, []string{r.Name + " " + r.Version, r.Arch, by, r.Dir})
	}
	if err := u.Print(""); err != nil {
		return err
	}
	if err := u.Table([]string{"RELEASE", "ARCH", "SIGNED BY", "FROM"}, rows); err != nil {
		return err
	}
	warnReleases(u, p)
	warnTroubles(u, p)
	rows = nil
	for _, w := range p.Boots {
		rows = append(rows, []string{w.Machine, wouldWords(w), w.Reason})
	}
	if err := u.Print(""); err != nil {
		return err
	}
	if p.More > 0 {
		rows = append(rows, []string{moreWords(p), "", ""})
	}
	return u.Table([]string{"MACHINE", "GETS", "BECAUSE"}, rows)
}

// portHints says once each what to do about ports that cannot be had.
func portHints(u *ui.UI, p *serve.Plan) {
	said := map[string]bool{"": true}
	for _, x := range p.Ports {
		if !said[x.Hint] {
			u.Hint("%s: %s", x.Part, x.Hint)
			said[x.Hint] = true
		}
	}
}

// warnReleases says which releases are not served, and that there are none.
func warnReleases(u *ui.UI, p *serve.Plan) {
	u.Refused(p.Refused)
	if len(p.Releases) > 0 {
		return
	}
	u.Warn("no release: every machine is told to go on with its next boot option")
	if len(p.Refused) == 0 {
		u.Hint("ingot build --keys KEYS -o DIR puts one below a directory of releases; it is served within 5 seconds")
	} else if !p.Trusts {
		u.Hint("--keys KEYS, or trust: in serve.yaml, names who may sign releases; --insecure-releases takes them from anybody, for trying things out")
	}
}

// warnTroubles says what else is wrong, and once each what to do.
func warnTroubles(u *ui.UI, p *serve.Plan) {
	for i, t := range p.Troubles {
		u.Warn("%s", t.What)
		if last := i+1 == len(p.Troubles); t.Hint != "" && (last || p.Troubles[i+1].Hint != t.Hint) {
			u.Hint("%s", t.Hint)
		}
	}
}

// moreWords counts the machines that are not listed.
func moreWords(p *serve.Plan) string {
	return fmt.Sprintf("and %d more that have a reservation", p.More)
}

func portRows(p *serve.Plan) (rows [][]string) {
	for _, x := range p.Ports {
		trouble := "free"
		switch {
		case x.Trouble != "":
			trouble = x.Trouble
		case x.Running:
			trouble = "the running server has it"
		}
		rows = append(rows, []string{x.Part, x.Network + " " + x.Address, x.Link, trouble})
	}
	return rows
}

func wouldWords(w serve.Would) string {
	switch {
	case w.Verdict == "boot" && w.Release == "":
		return w.Path + " by " + strings.ToUpper(w.Method)
	case w.Verdict == "boot":
		return w.Release + " by " + strings.ToUpper(w.Method)
	case w.Verdict == "refuse":
		return "told no: its next boot option at once"
	}
	return "no answer"
}

func subnetWords(p *serve.Plan) string {
	var list []string
	for _, s := range p.Subnets {
		pools := "reservations only"
		if len(s.Pools) > 0 {
			pools = s.Pools[0].String()
			for _, x := range s.Pools[1:] {
				pools += ", " + x.String()
			}
		}
		list = append(list, fmt.Sprintf("%s (%s)", s.Subnet, pools))
	}
	if len(list) == 0 {
		return map[string]string{
			serve.ModeProxy: ": another DHCP server gives the addresses, this one says what to boot",
			serve.ModeOff:   ": another DHCP server must name the boot files",
		}[p.DHCP]
	}
	return ": addresses of " + strings.Join(list, ", ")
}
