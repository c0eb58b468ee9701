package attestd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/attestapi"
	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/ui"
	"github.com/ingot-os/ingot/internal/verifier"
)

// CheckIdentity says whether an operator has named who vouches for the server.
func (o *Options) CheckIdentity() error {
	switch both := o.Cert != "" && o.Key != ""; {
	case both:
	case o.Cert != "" || o.Key != "":
		return &ui.Error{Code: ui.CodeUsage, Err: errors.New("--cert and --key go together")}
	case o.Keys == "":
		return &ui.Error{Code: ui.CodeUsage, Err: errors.New("--keys is missing: who issues the server's certificate?"), Hint: "ingot keys init DIR makes a key set, then: --keys DIR"}
	}
	return nil
}

// identity is the certificate of the server, and the authorities that there are.
func (s *Server) identity(ctx context.Context, o *verifier.Options) (err error) {
	if err := s.CheckIdentity(); err != nil {
		return err
	}
	if s.Cert != "" {
		if o.Certificate, err = tls.LoadX509KeyPair(s.Cert, s.Key); err != nil {
			return fmt.Errorf("read %s and %s: %w", s.setting("cert"), s.setting("key"), err)
		}
	}
	if s.Set == nil {
		s.Warn("without %s there is no operators' API, and attested hosts get no certificate", s.setting("keys"))
		return s.identify(o)
	}
	if s.Set.Test {
		s.Warn("%s are TEST keys: for dev and test only", s.Keys)
	}
	if o.Operators = s.Set.Certificate(keys.Operator); o.Operators == nil {
		s.Warn("the key set has no operator authority: there is no operators' API")
	}
	if o.Hosts, err = Authority(ctx, s.Set, keys.Hosts); err != nil {
		s.Warn("attested hosts get no certificate: %v", err)
		if hint := LackHint(err, s.Set, s.Keys, keys.Hosts); hint != "" {
			s.Hint("%s", hint)
		}
	}
	if s.Cert == "" {
		if s.by, err = Authority(ctx, s.Set, keys.Server); err != nil {
			return &ui.Error{Err: err, Hint: LackHint(err, s.Set, s.Keys, keys.Server)}
		}
		if len(s.Names) == 0 {
			s.Names = OwnNames()
		}
		if o.Certificate, err = verifier.ServerCertificate(s.State, *s.by, s.Names, time.Now()); err != nil {
			return err
		}
	}
	return s.identify(o)
}

// identify computes the id of the server, which machines put into their quotes.
func (s *Server) identify(o *verifier.Options) error {
	leaf := o.Certificate.Leaf
	if leaf == nil {
		var err error
		if leaf, err = x509.ParseCertificate(o.Certificate.Certificate[0]); err != nil {
			return err
		}
	}
	s.ID = attestapi.KeyID(leaf.RawSubjectPublicKeyInfo)
	if s.by == nil { // the certificate's names are the operator's choice
		s.Names = slices.Clone(leaf.DNSNames)
		for _, ip := range leaf.IPAddresses {
			s.Names = append(s.Names, ip.String())
		}
	}
	return nil
}

// Authority reaches an authority of a key set. TEST keys may serve, and are
// said to be such.
func Authority(ctx context.Context, set *keys.Set, p keys.Purpose) (*verifier.Authority, error) {
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

// LackHint says how a server gets an authority of its key set, in the directory dir, that
// it could not reach.
func LackHint(err error, set *keys.Set, dir string, p keys.Purpose) string {
	var with interface{ Hint() string }
	switch {
	case set.Certificate(p) == nil && p == keys.Boot:
		return "ingot keys add " + dir + " boot; then enrol its certificate in the firmware (docs/netboot-http.md)"
	case set.Certificate(p) == nil:
		return "ingot keys add " + dir + " " + string(p)
	case errors.Is(err, fs.ErrNotExist) && p == keys.Boot:
		return "for HTTPS a server needs boot.key of the whole key set, too"
	case errors.Is(err, fs.ErrNotExist):
		return "copy it from the whole key set; of private keys a server needs server.key and hosts.key"
	case errors.As(err, &with):
		return with.Hint()
	}
	return ""
}

// OwnNames are those by which this host can be reached, as far as it knows.
func OwnNames() []string {
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

// Reachable is the name to put into a hint, which is read on this machine.
func (s *Server) Reachable() string {
	for _, n := range s.Names {
		if ip := net.ParseIP(n); n == "localhost" || ip != nil && ip.IsLoopback() {
			return n
		}
	}
	if len(s.Names) > 0 {
		return s.Names[0]
	}
	return "localhost"
}
