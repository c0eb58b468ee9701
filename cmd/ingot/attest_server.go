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
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/attestapi"
	"github.com/ingot-os/ingot/internal/depot"
	"github.com/ingot-os/ingot/internal/evidence"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/ui"
	"github.com/ingot-os/ingot/internal/verifier"
	"github.com/ingot-os/ingot/internal/verify"
)

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
	catalog *verifier.Catalog
	seen    string // fingerprint of the releases and their signers
}

func (s *serving) setUp() (err error) {
	o := verifier.Options{Store: s.store, Interval: s.c.Interval, Secrets: s.c.Secrets, Logger: s.log}
	for _, step := range []func(*verifier.Options) error{s.identity, s.rules, s.policy, s.secrets} {
		if err := step(&o); err != nil {
			return err
		}
	}
	if o.Depot, err = depot.New(depot.Options{Dir: filepath.Join(s.c.State, "deltas")}); err != nil {
		return err
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

// makerID is a maker of TPMs (TCG EK Credential Profile, section 3.1.2).
var makerID = regexp.MustCompile(`^id:[0-9A-Fa-f]{8}$`)

func (s *serving) rules(o *verifier.Options) (err error) {
	o.Rules.RequireChain = s.c.RequireCert
	if o.Rules.Roots, err = verifier.LoadRoots(s.c.EKRoot); err != nil {
		return &ui.Error{Err: err, Hint: "--ek-root takes certificates of TPM makers in PEM or DER, or a directory of such; docs/attest-serve.md says where makers publish them"}
	}
	for _, text := range s.c.DenyTPM {
		p := append(strings.SplitN(text, "/", 3), "", "")
		if !makerID.MatchString(p[0]) {
			return &ui.Error{Code: ui.CodeUsage, Err: fmt.Errorf("--deny-tpm %q: makers are named as in certificates, id: and eight hexadecimal digits", text), Hint: "--deny-tpm id:49465800 denies all TPMs of Infineon; ingot hosts HOST shows what a TPM's certificate says"}
		}
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

// signers are where the keys are that may sign releases.
func (c *attestServeCmd) signers() []string {
	if len(c.Trust) == 0 && c.Keys != "" {
		return []string{c.Keys}
	}
	return c.Trust
}

// load reads who may sign releases, and the releases.
func (s *serving) load(ctx context.Context) error {
	seen := verifier.Fingerprint(s.c.Release, s.c.signers()...)
	trust, err := verify.LoadTrust(s.c.signers()...)
	if err != nil {
		return &ui.Error{Err: err, Hint: "--trust takes a directory from ingot keys init or ingot keys export, or a PEM file with public keys"}
	}
	catalog, err := verifier.LoadCatalog(s.c.Release, trust, s.c.Insecure)
	if err != nil {
		return &ui.Error{Err: err, Hint: "--release names an image set (OUT/NAME-VERSION as ingot build prints it), or a directory of such"}
	}
	if err := s.server.SetCatalog(ctx, catalog); err != nil {
		return err
	}
	s.catalog, s.seen = catalog, seen
	return nil
}
