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

	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/ui"
	"github.com/ingot-os/ingot/internal/verifier"
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

// reloadEach is how often directories of releases are looked at.
const reloadEach = 5 * time.Second

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
	store, err := fleet.Open(c.State, fleet.Options{})
	if errors.Is(err, fleet.ErrInUse) {
		return &ui.Error{Err: err, Hint: "another ingot attest serve is running on it; stop that one, or name another --state"}
	}
	if err != nil {
		return err
	}
	defer store.Close()
	s := &serving{v: v, c: c, store: store, log: slog.New(v.ui.Events(c.Verbose))}
	if err := s.setUp(); err != nil {
		return err
	}
	if err := s.announce(l.Addr()); err != nil {
		return err
	}
	began = true
	ctx, stop := context.WithCancel(v.ctx)
	defer stop()
	go s.keepUp(ctx)
	if err := s.server.Serve(ctx, l); err != nil {
		return err
	}
	s.log.Info("stopped")
	return nil
}

// announce says what is served, and what an operator does next.
func (s *serving) announce(a net.Addr) error {
	hosts, err := s.store.Hosts(s.v.ctx)
	if err != nil {
		return err
	}
	s.v.ui.Serving(s.catalog, hosts)
	roots := len(s.c.EKRoot)
	if roots == 0 && !s.v.ui.JSON {
		s.v.ui.Say("no certificates of TPM makers (--ek-root; none come with ingot): each new host waits for approval")
	}
	_, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return err
	}
	s.log.Info("listening", "on", a.String(), "names", strings.Join(s.names, " "), "id", hex.EncodeToString(s.id), "releases", len(s.catalog.Releases), "hosts", len(hosts), "interval", s.c.Interval.String())
	if s.c.Keys != "" && !s.v.ui.JSON {
		s.v.ui.Hint("ingot hosts --server https://%s --keys %s", net.JoinHostPort(s.reachable(), port), s.c.Keys)
	}
	return nil
}

// reachable is the name to put into a hint, which is read on this machine.
func (s *serving) reachable() string {
	for _, n := range s.names {
		if ip := net.ParseIP(n); n == "localhost" || ip != nil && ip.IsLoopback() {
			return n
		}
	}
	if len(s.names) > 0 {
		return s.names[0]
	}
	return "localhost"
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

// keepUp reloads releases when they changed or on SIGHUP, and renews the
// certificate.
func (s *serving) keepUp(ctx context.Context) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	look, renew := time.NewTicker(reloadEach), time.NewTicker(12*time.Hour)
	defer look.Stop()
	defer renew.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-renew.C:
			s.renew()
		case <-hup:
			s.reload(ctx)
		case <-look.C:
			if verifier.Fingerprint(s.c.Release, s.c.signers()...) != s.seen {
				s.reload(ctx)
			}
		}
	}
}

// reload goes on with what there was when a directory cannot be read.
func (s *serving) reload(ctx context.Context) {
	if err := s.load(ctx); err != nil {
		s.log.Error("releases stay as they were", "error", err.Error())
		s.seen = verifier.Fingerprint(s.c.Release, s.c.signers()...)
		return
	}
	for _, r := range s.catalog.Refused {
		s.log.Warn("release refused", "dir", r.Dir, "reason", r.Reason)
	}
	var list []string
	for _, r := range s.catalog.Releases {
		list = append(list, r.Name+" "+r.Version)
	}
	s.log.Info("releases", "loaded", len(list), "are", strings.Join(list, "; "))
}

func (s *serving) renew() {
	if s.by == nil {
		return
	}
	cert, err := verifier.ServerCertificate(s.c.State, *s.by, s.names, time.Now())
	if err == nil {
		err = s.server.SetCertificate(cert)
	}
	if err != nil {
		s.log.Error("certificate is not renewed", "error", err.Error())
	}
}
