package main

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ingot-os/ingot/internal/ui"
	"github.com/ingot-os/ingot/internal/verifier"
)

// hostBoot are the flags of ingot hosts about boots over the network.
type hostBoot struct {
	Explain      bool          `group:"Boot over the network:" xor:"do" help:"What the machine would boot over the network, and why."`
	Timeline     bool          `group:"Boot over the network:" xor:"do" help:"Its last boots over the network, step by step, and where one died."`
	BootOnce     string        `group:"Boot over the network:" xor:"do" placeholder:"WHAT" help:"One boot over the network: install, install:RELEASE, rescue, memtest, or a release as rules name it."`
	TTL          time.Duration `group:"Boot over the network:" name:"ttl" placeholder:"D" help:"With --boot-once: how long the order stands (default 24h)."`
	Force        bool          `group:"Boot over the network:" help:"With --boot-once install: although the disk has a system that has run."`
	NoBootOnce   bool          `group:"Boot over the network:" xor:"do" help:"Take that back."`
	Unquarantine bool          `group:"Boot over the network:" xor:"do" help:"You have looked: the machine is the host that it attested as."`
}

// asked reports whether one of them is given.
func (c *hostBoot) asked() bool {
	return c.Explain || c.Timeline || c.BootOnce != "" || c.NoBootOnce || c.Unquarantine
}

func (c *hostBoot) validate(host string) error {
	usage := func(hint, format string, args ...any) error {
		return &ui.Error{Code: ui.CodeUsage, Err: fmt.Errorf(format, args...), Hint: hint}
	}
	switch {
	case (c.TTL != 0 || c.Force) && c.BootOnce == "":
		return usage("ingot hosts HOST --boot-once install --ttl 2h", "--ttl and --force are for --boot-once")
	case c.TTL < 0:
		return usage("", "--ttl %s: want a time to come", c.TTL)
	case c.asked() && host == "":
		return usage("ingot hosts HOST --explain; a machine that never attested is named by its MAC address", "no host is named to do this about")
	}
	return nil
}

// order is what is to be done; an empty action only asks.
func (c *hostBoot) order() (o verifier.BootOrder) {
	switch {
	case c.BootOnce != "":
		o = verifier.BootOrder{Action: verifier.OrderOnce, Boot: c.BootOnce, TTL: c.TTL.Seconds(), Force: c.Force}
	case c.NoBootOnce:
		o.Action = verifier.OrderNoOnce
	case c.Unquarantine:
		o.Action = verifier.OrderUnquarantine
	}
	return o
}

// boots asks a boot server about a machine, or orders something.
func (c *hostsCmd) boots(v *verb, client *verifier.Client) error {
	o := c.order()
	if o.Action == "" {
		d, err := client.Boot(v.ctx, c.Host)
		if err != nil {
			return c.explainBoot(err)
		}
		if c.Timeline {
			return v.ui.Timeline(d)
		}
		return v.ui.Explain(d)
	}
	if o.Action == verifier.OrderUnquarantine {
		d, err := client.Boot(v.ctx, c.Host)
		if err != nil {
			return c.explainBoot(err)
		}
		if o.Host, err = attestedAs(d); err != nil {
			return err
		}
	}
	d, err := client.Order(v.ctx, c.Host, o)
	if err != nil {
		return c.explainBoot(err)
	}
	return c.ordered(v, d, o)
}

// attestedAs is the host that machines in quarantine attested as, which --explain
// shows: the server takes an order for that one alone. Empty: none is in quarantine.
func attestedAs(d *verifier.BootDetail) (host string, err error) {
	for _, m := range d.Machines {
		if m.ClaimedHost != "" && host != "" && m.ClaimedHost != host {
			return "", &ui.Error{Code: ui.CodeUsage, Err: fmt.Errorf("machines of %s have attested as %s and as %s", d.Name, host, m.ClaimedHost), Hint: "name one: ingot hosts " + m.MAC + " --unquarantine"}
		}
		host = cmp.Or(host, m.ClaimedHost)
	}
	return host, nil
}

// ordered says what comes of an order.
func (c *hostsCmd) ordered(v *verb, d *verifier.BootDetail, o verifier.BootOrder) error {
	if v.ui.JSON {
		return v.ui.PrintJSON(d)
	}
	switch {
	case o.Action == verifier.OrderNoOnce:
		return v.ui.Print("%s: boots as the rules say", d.Name)
	case o.Action == verifier.OrderUnquarantine:
		return v.ui.Print("%s: is %s from now on", d.Name, o.Host)
	case d.Ticket == nil: // spent, or taken back, meanwhile
		return v.ui.Print("%s: boots as the rules say", d.Name)
	}
	err := v.ui.Print("%s: boots %s once, until %s", d.Name, o.Boot, d.Ticket.Expires.Local().Format("2006-01-02 15:04"))
	if len(d.Machines) == 0 {
		v.ui.Warn("no MAC address of %s is known: it has not been started over the network yet", d.Name)
		v.ui.Hint("order it by the MAC address: ingot hosts 52:54:00:12:34:56 --boot-once %s", o.Boot)
		return err
	}
	next(v, "start the machine again, from the network; ingot hosts %s --timeline   shows how far it comes", d.Name)
	return err
}

// explainBoot adds what to do about an answer.
func (c *hostsCmd) explainBoot(err error) error {
	var api *verifier.APIError
	if errors.As(err, &api) && api.Code == verifier.RequestUnknown {
		return &ui.Error{Err: errors.New("this server serves no boots over the network"), Hint: "ingot serve does; ingot attest serve only judges"}
	}
	out := c.explain(err)
	var e *ui.Error
	if errors.As(out, &e) && api != nil && api.Hint != "" && !strings.Contains(e.Hint, "--keys") {
		e.Hint = api.Hint
	}
	return out
}
