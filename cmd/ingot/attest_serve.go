package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/attestapi"
	"github.com/ingot-os/ingot/internal/evidence"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/ui"
	"github.com/ingot-os/ingot/internal/verifier"
	"github.com/ingot-os/ingot/internal/verify"
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

// Run serves until it is interrupted.
func (c *attestServeCmd) Run(v *verb) error {
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
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return &ui.Error{Err: fmt.Errorf("listen: %w", err), Hint: "--listen ADDRESS:PORT names another address"}
	}
	if err := s.announce(l.Addr()); err != nil {
		l.Close()
		return err
	}
	ctx, stop := context.WithCancel(v.ctx)
	defer stop()
	go s.keepUp(ctx)
	if err := s.server.Serve(ctx, l); err != nil {
		return err
	}
	s.log.Info("stopped")
	return nil
}

// serving is a server that is set up.
type serving struct {
	v       *verb
	c       *attestServeCmd
	store   *fleet.SQLite
	log     *slog.Logger
	server  *verifier.Server
	by      *verifier.Authority // of the server's certificate; nil with --cert
	names   []string
	id      []byte
	trust   verify.Trust
	catalog *verifier.Catalog
	seen    string // fingerprint of the releases
}

func (s *serving) setUp() (err error) {
	o := verifier.Options{Store: s.store, Interval: s.c.Interval, Secrets: s.c.Secrets, Logger: s.log}
	if s.c.Interval < time.Second {
		return &ui.Error{Code: ui.CodeUsage, Err: fmt.Errorf("--interval %s: at least one second", s.c.Interval)}
	}
	for _, step := range []func(*verifier.Options) error{s.identity, s.rules, s.policy, s.secrets} {
		if err := step(&o); err != nil {
			return err
		}
	}
	trust := s.c.Trust
	if len(trust) == 0 && s.c.Keys != "" {
		trust = []string{s.c.Keys}
	}
	if s.trust, err = verify.LoadTrust(trust...); err != nil {
		return &ui.Error{Err: err, Hint: "--trust takes a directory from ingot keys init or ingot keys export, or a PEM file with public keys"}
	}
	if s.c.Insecure {
		s.v.ui.Warn("--insecure-releases: whoever can write into a release directory decides what is trusted")
	}
	if s.server, err = verifier.New(o); err != nil {
		return err
	}
	return s.load(s.v.ctx)
}

// identity is the certificate of the server, and the authorities that there are.
func (s *serving) identity(o *verifier.Options) (err error) {
	switch {
	case s.c.Cert != "" && s.c.Key != "":
		if o.Certificate, err = tls.LoadX509KeyPair(s.c.Cert, s.c.Key); err != nil {
			return fmt.Errorf("read --cert and --key: %w", err)
		}
	case s.c.Cert != "" || s.c.Key != "":
		return &ui.Error{Code: ui.CodeUsage, Err: errors.New("--cert and --key go together")}
	case s.c.Keys == "":
		return &ui.Error{Code: ui.CodeUsage, Err: errors.New("--keys is missing: who issues the server's certificate?"), Hint: "ingot keys init DIR makes a key set, then: --keys DIR"}
	}
	if s.c.Keys == "" {
		s.v.ui.Warn("without --keys there is no operators' API, and attested hosts get no certificate")
		return s.identify(o)
	}
	set, err := keys.Open(s.c.Keys)
	if err != nil {
		return keysError(err)
	}
	if set.Test {
		s.v.ui.Warn("%s are TEST keys: for dev and test only", s.c.Keys)
	}
	if o.Operators = set.Certificate(keys.Operator); o.Operators == nil {
		s.v.ui.Warn("the key set has no operator authority: there is no operators' API")
	}
	if o.Hosts, err = authorityOf(s.v.ctx, set, keys.Hosts); err != nil {
		s.v.ui.Warn("attested hosts get no certificate: %v", err)
		s.v.ui.Hint("ingot keys add %s hosts", s.c.Keys)
	}
	if s.c.Cert == "" {
		if s.by, err = authorityOf(s.v.ctx, set, keys.Server); err != nil {
			return keysError(err)
		}
		if s.names = s.c.Name; len(s.names) == 0 {
			s.names = ownNames()
		}
		if o.Certificate, err = verifier.ServerCertificate(s.c.State, *s.by, s.names, time.Now()); err != nil {
			return err
		}
	}
	return s.identify(o)
}

// identify computes the id of the server, which machines put into their quotes.
func (s *serving) identify(o *verifier.Options) error {
	leaf := o.Certificate.Leaf
	if leaf == nil {
		var err error
		if leaf, err = x509.ParseCertificate(o.Certificate.Certificate[0]); err != nil {
			return err
		}
	}
	s.id = attestapi.KeyID(leaf.RawSubjectPublicKeyInfo)
	if s.names == nil {
		s.names = leaf.DNSNames
		for _, ip := range leaf.IPAddresses {
			s.names = append(s.names, ip.String())
		}
	}
	return nil
}

// authorityOf reaches an authority of a key set. TEST keys may serve, and are
// said to be such.
func authorityOf(ctx context.Context, set *keys.Set, p keys.Purpose) (*verifier.Authority, error) {
	environment := "prod"
	if set.Test {
		environment = "test"
	}
	cert := set.Certificate(p)
	if cert == nil {
		return nil, fmt.Errorf("the key set has no %s key", p)
	}
	key, err := set.Signer(ctx, p, environment)
	if err != nil {
		return nil, err
	}
	return &verifier.Authority{Certificate: cert, Key: key}, nil
}

// ownNames are those by which this host can be reached, as far as it knows.
func ownNames() []string {
	names := []string{"localhost", "127.0.0.1", "::1"}
	if name, err := os.Hostname(); err == nil && name != "localhost" && attest.ValidName(strings.ToLower(name)) {
		names = append(names, strings.ToLower(name))
	}
	addresses, _ := net.InterfaceAddrs()
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() && !slices.Contains(names, n.IP.String()) {
			names = append(names, n.IP.String())
		}
	}
	return names
}

func (s *serving) rules(o *verifier.Options) (err error) {
	o.Rules.RequireChain = s.c.RequireCert
	if o.Rules.Roots, err = verifier.LoadRoots(s.c.EKRoot); err != nil {
		return &ui.Error{Err: err, Hint: "--ek-root takes certificates of TPM makers in PEM or DER, or a directory of such; docs/attest-serve.md says where makers publish them"}
	}
	for _, text := range s.c.DenyTPM {
		p := append(strings.SplitN(text, "/", 3), "", "")
		o.Rules.Roots.Denied = append(o.Rules.Roots.Denied, attest.Model{Manufacturer: p[0], Name: p[1], Version: p[2]})
	}
	for _, text := range s.c.RevokedEK {
		b, err := hex.DecodeString(text)
		if err != nil || len(b) != 32 {
			return &ui.Error{Code: ui.CodeUsage, Err: fmt.Errorf("--revoked-ek %q: want a SHA-256 of 64 hexadecimal digits", text)}
		}
		o.Rules.Roots.Revoked = append(o.Rules.Roots.Revoked, [32]byte(b))
	}
	if s.c.RequireCert && len(o.Rules.Roots.Roots) == 0 {
		return &ui.Error{Code: ui.CodeUsage, Err: errors.New("--require-chain without a root of a maker lets nobody in"), Hint: "--ek-root FILE|DIR names certificates of TPM makers"}
	}
	return nil
}

// policy is the operator's; the Secure Boot keys of the key set are in it
// unless it names some.
func (s *serving) policy(o *verifier.Options) (err error) {
	if s.c.Policy != "" {
		if o.Policy, err = evidence.ReadPolicy(s.c.Policy); err != nil {
			return err
		}
	}
	if s.c.Keys == "" {
		return nil
	}
	return (&judgeFlags{Keys: []string{s.c.Keys}}).firmwareKeys(&o.Policy)
}

func (s *serving) secrets(o *verifier.Options) error {
	if o.Secrets == "" {
		return nil
	}
	if _, err := os.ReadDir(o.Secrets); err != nil {
		return &ui.Error{Err: fmt.Errorf("read --secrets: %w", err), Hint: "a file DIR/NAME is a secret for all attested hosts, DIR/HOST/NAME for one"}
	}
	return nil
}

// load reads the releases.
func (s *serving) load(ctx context.Context) error {
	seen := verifier.Fingerprint(s.c.Release)
	catalog, err := verifier.LoadCatalog(s.c.Release, s.trust, s.c.Insecure)
	if err != nil {
		return &ui.Error{Err: err, Hint: "--release names an image set (OUT/NAME-VERSION as ingot build prints it), or a directory of such"}
	}
	if err := s.server.SetCatalog(ctx, catalog); err != nil {
		return err
	}
	s.catalog, s.seen = catalog, seen
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

// reachable is the name to put into a hint: one of the network, if there is one.
func (s *serving) reachable() string {
	for _, n := range s.names {
		if ip := net.ParseIP(n); n != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return n
		}
	}
	if len(s.names) > 0 {
		return s.names[0]
	}
	return "localhost"
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
			if verifier.Fingerprint(s.c.Release) != s.seen {
				s.reload(ctx)
			}
		}
	}
}

// reload goes on with what there was when a directory cannot be read.
func (s *serving) reload(ctx context.Context) {
	if err := s.load(ctx); err != nil {
		s.log.Error("releases stay as they were", "error", err.Error())
		s.seen = verifier.Fingerprint(s.c.Release)
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
