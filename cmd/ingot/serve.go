package main

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/serve"
	"github.com/ingot-os/ingot/internal/ui"
)

type serveCmd struct {
	Config    string   `short:"c" placeholder:"FILE" help:"Configuration (docs/serve-keys.md); without it and without --release, serve.yaml here." type:"path"`
	Release   []string `placeholder:"DIR" help:"Image set, or directory of image sets, that machines may boot. Can be given several times." type:"path" sep:"none"`
	Interface []string `placeholder:"NAME" help:"Link on which machines are (default: those of Ethernet that have an address)."`
	DHCP      string   `name:"dhcp" enum:",proxy,full,off" default:"" placeholder:"proxy|full|off" help:"proxy (default): beside the DHCP server that there is; full: give addresses, too."`
	Keys      string   `placeholder:"DIR" help:"Key set: its image key signs releases, its authorities issue certificates; with it machines can attest." env:"INGOT_KEYS" type:"path"`
	State     string   `placeholder:"DIR" help:"What the server knows: leases, boots, hosts (default /var/lib/ingot for root)." type:"path"`
	Insecure  bool     `name:"insecure-releases" help:"Take releases that nobody has signed: for trying things out."`
	Check     bool     `help:"Read everything, say what would be served, and serve nothing."`
	Verbose   bool     `short:"v" help:"Say every question and verdict, not only what is new."`
}

// Run serves until it is interrupted.
func (c *serveCmd) Run(v *verb) error {
	config, err := c.config()
	if err != nil {
		return err
	}
	o := serve.Options{
		Config: config, Reread: c.config, Log: slog.New(v.ui.Events(c.Verbose)), Warn: v.ui.Warn, Hint: v.ui.Hint, Version: ingotVersion,
		Policy: func() (attest.Policy, error) { return demands(config.Attest.Policy, config.Keys) },
	}
	if config.Keys != "" {
		if o.Set, err = keys.Open(config.Keys); err != nil {
			return keysError(err)
		}
	}
	if c.Check {
		p, err := serve.Check(v.ctx, o)
		if err != nil {
			return keysError(err)
		}
		return showPlan(v.ui, p)
	}
	s, err := serve.Open(v.ctx, o)
	if err != nil {
		return keysError(err)
	}
	announcePlan(v, s.Plan(v.ctx), config)
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	go s.KeepUp(v.ctx, hup)
	return s.Serve(v.ctx)
}

// announcePlan says what is served, and what an operator does next.
func announcePlan(v *verb, p *serve.Plan, c *serve.Config) {
	if v.ui.JSON {
		return
	}
	for _, x := range p.Ports {
		on := ""
		if x.Link != "" {
			on = " on " + x.Link
		}
		v.ui.Say("%s: %s %s%s", x.Part, x.Network, x.Address, on)
	}
	v.ui.Say("dhcp is %s%s", p.DHCP, subnetWords(p))
	for _, r := range p.Releases {
		v.ui.Say("release %s %s for %s", r.Name, r.Version, r.Arch)
	}
	warnReleases(v.ui, p)
	warnTroubles(v.ui, p)
	for _, w := range p.Boots {
		v.ui.Say("%s: %s (%s)", w.Machine, wouldWords(w), w.Reason)
	}
	if p.More > 0 {
		v.ui.Say("%s", moreWords(p))
	}
	if p.Certified {
		v.ui.Hint("ingot hosts --server https://localhost:%s --keys %s", portOf(p, "attest"), c.Keys)
	} else {
		v.ui.Warn("without keys no machine can attest, and ingot hosts has nobody to ask")
	}
}

// portOf is the port of a part.
func portOf(p *serve.Plan, part string) string {
	for _, x := range p.Ports {
		if x.Part == part {
			_, port, _ := net.SplitHostPort(x.Address)
			return port
		}
	}
	return ""
}

// serveFile is the configuration that is read when nothing is said.
const serveFile = "serve.yaml"

// config is the file with the flags over it.
func (c *serveCmd) config() (*serve.Config, error) {
	path := c.Config
	if path == "" && len(c.Release) == 0 {
		if _, err := os.Stat(serveFile); err != nil {
			return nil, &ui.Error{Code: ui.CodeUsage, Err: errors.New("no release to serve, and no configuration"),
				Hint: "ingot serve --release out --keys keys --interface eth1; or ingot serve -c serve.yaml (docs/serve.md)"}
		}
		path = serveFile
	}
	out := &serve.Config{}
	if path != "" {
		var err error
		if out, err = serve.Load(path); err != nil {
			return nil, err
		}
	}
	return out, c.over(out)
}

// over puts the flags over a configuration.
func (c *serveCmd) over(out *serve.Config) error {
	if len(c.Release) > 0 {
		out.Releases = c.Release
	}
	if len(c.Interface) > 0 {
		out.Interfaces = c.Interface
	}
	for _, f := range []struct {
		flag string
		to   *string
	}{{c.DHCP, &out.DHCP.Mode}, {c.Keys, &out.Keys}, {c.State, &out.State}} {
		if f.flag != "" {
			*f.to = f.flag
		}
	}
	out.Insecure = out.Insecure || c.Insecure
	out.Complete()
	return out.Derive()
}
