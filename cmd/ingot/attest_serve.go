package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/attestd"
	"github.com/ingot-os/ingot/internal/evidence"
	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/ui"
)

type attestServeCmd struct {
	State    string        `required:"" placeholder:"DIR" help:"What the server knows: hosts, verdicts, its own key. Made when it is not there." type:"path"`
	Keys     string        `placeholder:"DIR" help:"Key set: its authorities issue the certificates of server and hosts; its image key signs releases." env:"INGOT_KEYS" type:"path"`
	Release  []string      `placeholder:"DIR" help:"Image set, or directory of image sets, that hosts may run. Can be given several times." type:"path" sep:"none"`
	Listen   string        `default:":9444" placeholder:"ADDRESS" help:"Address and port (default ${default})."`
	Name     []string      `placeholder:"NAME,IP" help:"Names and addresses by which machines reach the server (default: those of this host)."`
	Interval time.Duration `default:"1m" help:"Time between two proofs of a host (default ${default})."`

	Policy      string   `placeholder:"FILE" help:"What else you demand (docs/attest-policy.md)." type:"path"`
	Secrets     string   `placeholder:"DIR" help:"Secrets: DIR/NAME for all attested hosts, DIR/HOST/NAME for one." type:"path"`
	EKRoot      []string `name:"ek-root" placeholder:"FILE|DIR" help:"Certificates of makers of TPMs; a host that none of them vouches for waits for approval." type:"path" sep:"none"`
	RequireCert bool     `name:"require-chain" help:"Refuse hosts that no maker vouches for, instead of letting them wait."`
	DenyTPM     []string `name:"deny-tpm" placeholder:"MAKER[/MODEL[/VERSION]]" help:"Kind of TPM that is refused, as certificates name it: id:49465800/SLB9670." sep:"none"`
	RevokedEK   []string `name:"revoked-ek" placeholder:"SHA256" help:"Certificate, or key in one, that is refused."`

	Trust    []string `placeholder:"DIR|PEM" help:"Who may sign releases (default: the key set)." type:"path" sep:"none"`
	Insecure bool     `name:"insecure-releases" help:"Take releases that nobody has signed: for trying things out."`
	Cert     string   `placeholder:"PEM" help:"Certificate of the server with its chain, with --key instead of --keys." type:"path"`
	Key      string   `placeholder:"PEM" help:"Private key of --cert." type:"path"`
	Verbose  bool     `short:"v" help:"Say every verdict, not only what is new."`
}

// Run serves until it is interrupted. What it has made in a new state directory
// is gone when it could not begin.
func (c *attestServeCmd) Run(v *verb) (err error) {
	if err := c.validate(); err != nil {
		return err
	}
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return &ui.Error{Err: fmt.Errorf("listen: %w", err), Hint: "--listen ADDRESS:PORT names another address"}
	}
	defer l.Close()
	began := false
	if _, err := os.Lstat(c.State); errors.Is(err, fs.ErrNotExist) {
		defer func() {
			if !began {
				os.RemoveAll(c.State)
			}
		}()
	}
	store, err := attestd.OpenStore(c.State)
	if err != nil {
		return err
	}
	defer store.Close()
	s, err := c.server(v)
	if err != nil {
		return err
	}
	s.Store = store
	if err := s.SetUp(v.ctx); err != nil {
		return keysError(err)
	}
	if err := c.announce(v, s, l.Addr()); err != nil {
		return err
	}
	began = true
	ctx, stop := context.WithCancel(v.ctx)
	defer stop()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	go s.KeepUp(ctx, hup)
	if err := s.Serve(ctx, l); err != nil {
		return err
	}
	s.Log.Info("stopped")
	return nil
}

// server is the attestation server that the flags describe.
func (c *attestServeCmd) server(v *verb) (*attestd.Server, error) {
	s := &attestd.Server{Options: attestd.Options{
		Releases: attestd.Releases{Release: c.Release, Keys: c.Keys, Trust: c.Trust, Insecure: c.Insecure},
		State:    c.State, Names: c.Name, Cert: c.Cert, Key: c.Key,
		Interval: c.Interval, Secrets: c.Secrets, EKRoot: c.EKRoot, RequireChain: c.RequireCert, DenyTPM: c.DenyTPM, RevokedEK: c.RevokedEK,
		Policy: func() (attest.Policy, error) { return demands(c.Policy, c.Keys) },
		Log:    slog.New(v.ui.Events(c.Verbose)), Warn: v.ui.Warn, Hint: v.ui.Hint,
	}}
	if err := s.CheckIdentity(); err != nil || c.Keys == "" {
		return s, err
	}
	set, err := keys.Open(c.Keys)
	s.Set = set
	return s, keysError(err)
}

// demands are the operator's policy; the Secure Boot keys of the key set are in
// it unless it names some.
func demands(policy, set string) (p attest.Policy, err error) {
	if policy != "" {
		if p, err = evidence.ReadPolicy(policy); err != nil {
			return p, err
		}
	}
	if set == "" {
		return p, nil
	}
	return p, (&judgeFlags{Keys: []string{set}}).firmwareKeys(&p)
}

// announce says what is served, and what an operator does next.
func (c *attestServeCmd) announce(v *verb, s *attestd.Server, a net.Addr) error {
	hosts, err := s.Store.Hosts(v.ctx)
	if err != nil {
		return err
	}
	v.ui.Serving(s.Catalog, hosts)
	if len(c.EKRoot) == 0 && !v.ui.JSON {
		v.ui.Say("no certificates of TPM makers (--ek-root; none come with ingot): each new host waits for approval")
	}
	_, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return err
	}
	s.Log.Info("listening", "on", a.String(), "names", strings.Join(s.Names, " "), "id", hex.EncodeToString(s.ID), "releases", len(s.Catalog.Releases), "hosts", len(hosts), "interval", c.Interval.String())
	if c.Keys != "" && !v.ui.JSON {
		v.ui.Hint("ingot hosts --server https://%s --keys %s", net.JoinHostPort(s.Reachable(), port), c.Keys)
	}
	return nil
}

// hostName is a name of DNS, or an address.
var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$`)

// validate refuses flags with which nothing could be served.
func (c *attestServeCmd) validate() error {
	if c.Interval < time.Second {
		return &ui.Error{Code: ui.CodeUsage, Err: fmt.Errorf("--interval %s: at least one second", c.Interval)}
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return &ui.Error{Code: ui.CodeUsage, Err: fmt.Errorf("--listen %q: %w", c.Listen, err), Hint: "--listen :9444, or an address of this machine with a port"}
	}
	for _, n := range c.Name {
		if net.ParseIP(n) == nil && !hostName.MatchString(n) {
			return &ui.Error{Code: ui.CodeUsage, Err: fmt.Errorf("--name %q: neither a name of DNS nor an address", n), Hint: "--name ingot.example.com,192.0.2.7"}
		}
	}
	return nil
}
