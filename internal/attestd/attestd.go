// Package attestd assembles an attestation server (package verifier) of what
// an operator names: a state directory, a key set, directories of releases,
// a policy, secrets. The verbs attest serve and serve share it.
//
//	s := &attestd.Server{Options: o, Store: store}
//	err := s.SetUp(ctx)
//	go s.KeepUp(ctx, hup) // releases are read again, the certificate is renewed
//	err = s.Serve(ctx, listener)
package attestd

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/depot"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/ui"
	"github.com/ingot-os/ingot/internal/verifier"
)

// Options are what an operator has said. State, Interval and Policy are
// required, and Set or Cert with Key.
type Options struct {
	Releases
	State string
	Set   *keys.Set // of Keys; nil: there are no authorities
	Names []string  // of the server; none: those of this host

	Interval     time.Duration
	Policy       func() (attest.Policy, error) // what else is demanded
	Secrets      string
	EKRoot       []string
	RequireChain bool
	DenyTPM      []string
	RevokedEK    []string

	Netboot verifier.Netboot // nil: no machine boots over the network
	Boots   verifier.Boots   // what operators ask about that; nil: nothing

	Cert, Key string

	Log *slog.Logger
	// Warn and Hint speak to who starts the server.
	Warn, Hint func(format string, args ...any)
}

// Server is an attestation server that is set up.
type Server struct {
	Options
	Store fleet.Store

	// Catalog is the releases that hosts may run, and ID the server's, which
	// machines put into their quotes.
	Catalog *verifier.Catalog
	ID      []byte

	server *verifier.Server
	by     *verifier.Authority // of the server's certificate; nil with Cert
}

// SetUp makes the server, and loads the releases.
func (s *Server) SetUp(ctx context.Context) error {
	if err := s.Assemble(ctx); err != nil {
		return err
	}
	return s.load(ctx)
}

// Assemble makes the server without releases: give it some by Use.
func (s *Server) Assemble(ctx context.Context) (err error) {
	o := verifier.Options{Store: s.Store, Interval: s.Interval, Secrets: s.Secrets, Netboot: s.Netboot, Boots: s.Boots, Logger: s.Log}
	if err := s.identity(ctx, &o); err != nil {
		return err
	}
	if err := s.rules(&o); err != nil {
		return err
	}
	if o.Policy, err = s.Policy(); err != nil {
		return err
	}
	if err := s.secrets(); err != nil {
		return err
	}
	if o.Depot, err = depot.New(depot.Options{Dir: filepath.Join(s.State, "deltas")}); err != nil {
		return err
	}
	if s.Insecure {
		s.Warn("%s: whoever can write into a release directory decides what is trusted", s.setting("insecure-releases"))
	}
	s.server, err = verifier.New(o)
	return err
}

// makerID is a maker of TPMs (TCG EK Credential Profile, section 3.1.2).
var makerID = regexp.MustCompile(`^id:[0-9A-Fa-f]{8}$`)

func (s *Server) rules(o *verifier.Options) (err error) {
	o.Rules.RequireChain = s.RequireChain
	if o.Rules.Roots, err = verifier.LoadRoots(s.EKRoot); err != nil {
		return &ui.Error{Err: err, Hint: s.setting("ek-root") + " takes certificates of TPM makers in PEM or DER, or a directory of such; docs/attest-serve.md says where makers publish them"}
	}
	for _, text := range s.DenyTPM {
		p := append(strings.SplitN(text, "/", 3), "", "")
		if !makerID.MatchString(p[0]) {
			return &ui.Error{Code: ui.CodeUsage, Err: fmt.Errorf("%s %q: makers are named as in certificates, id: and eight hexadecimal digits", s.setting("deny-tpm"), text), Hint: s.setting("deny-tpm") + " id:49465800 denies all TPMs of Infineon; ingot hosts HOST shows what a TPM's certificate says"}
		}
		o.Rules.Roots.Denied = append(o.Rules.Roots.Denied, attest.Model{Manufacturer: p[0], Name: p[1], Version: p[2]})
	}
	for _, text := range s.RevokedEK {
		b, err := hex.DecodeString(text)
		if err != nil || len(b) != 32 {
			return &ui.Error{Code: ui.CodeUsage, Err: fmt.Errorf("%s %q: want a SHA-256 of 64 hexadecimal digits", s.setting("revoked-ek"), text)}
		}
		o.Rules.Roots.Revoked = append(o.Rules.Roots.Revoked, [32]byte(b))
	}
	if s.RequireChain && len(o.Rules.Roots.Roots) == 0 {
		return &ui.Error{Code: ui.CodeUsage, Err: fmt.Errorf("%s without a root of a maker lets nobody in", s.setting("require-chain")), Hint: s.setting("ek-root") + " FILE|DIR names certificates of TPM makers"}
	}
	return nil
}

func (s *Server) secrets() error {
	if s.Secrets == "" {
		return nil
	}
	if _, err := os.ReadDir(s.Secrets); err != nil {
		return &ui.Error{Err: fmt.Errorf("read %s: %w", s.setting("secrets"), err), Hint: "a file DIR/NAME is a secret for all attested hosts, DIR/HOST/NAME for one"}
	}
	return nil
}

// load reads the releases.
func (s *Server) load(ctx context.Context) error {
	catalog, err := s.Releases.Load()
	if err != nil {
		return err
	}
	return s.Use(ctx, catalog)
}

// Use exchanges the releases that hosts may run.
func (s *Server) Use(ctx context.Context, c *verifier.Catalog) error {
	if err := s.server.SetCatalog(ctx, c); err != nil {
		return err
	}
	s.Catalog = c
	return nil
}

// Serve answers until the context ends.
func (s *Server) Serve(ctx context.Context, l net.Listener) error { return s.server.Serve(ctx, l) }

// Verifier is the server itself.
func (s *Server) Verifier() *verifier.Server { return s.server }

// OpenStore opens a state directory.
func OpenStore(dir string) (*fleet.SQLite, error) {
	store, err := fleet.Open(dir, fleet.Options{})
	switch {
	case errors.Is(err, fleet.ErrInUse):
		return nil, &ui.Error{Err: err, Hint: "another ingot serve, or ingot attest serve, is running on it: stop that one, or name another directory by --state"}
	case errors.Is(err, fs.ErrPermission):
		return nil, &ui.Error{Err: err, Hint: "name a directory that this user may write by --state (state: in serve.yaml), or start it as root"}
	}
	return store, err
}
