// Package verifier is the server that machines attest to, and that operators
// ask about them: HTTP/1.1 over TLS 1.3 on one listener.
//
//	POST /v1/enrol, /v1/activate, /v1/challenge, /v1/evidence   machines (package attestapi)
//	GET  /v1/hosts    GET, POST /v1/hosts/NAME                  operators (List, Detail, Action)
//	GET  /v1/assignment, POST /v1/slots                         attested machines (package updateapi)
//	GET  /v1/releases/DIGEST/...                                attested machines, operators
//	GET  /v1/boots    GET, POST /v1/boots/NAME                  operators, of a boot server
//
// A machine shows a certificate that it has signed by itself; its key is the
// channel that everything is bound to. With its verdict it gets one by the
// authority of hosts, which opens what is about updates. An operator shows one by
// the operator authority of the fleet. Whoever shows none of these gets nothing.
//
// What is true is in the store (package fleet): a server can end at any time,
// and on a store that allows it several can serve the same hosts. All sizes,
// times and counts of what a client can cause are bounded.
//
// Shape of use:
//
//	s, err := verifier.New(ctx, verifier.Options{Store: store, Certificate: cert, Operators: ca, ...})
//	err = s.Serve(ctx, listener)
package verifier

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/internal/attestapi"
	"github.com/ingot-os/ingot/internal/audit"
	"github.com/ingot-os/ingot/internal/depot"
	"github.com/ingot-os/ingot/internal/fleet"
)

// Options are what a server is made of. Store, Certificate and Interval are
// required.
type Options struct {
	Store       fleet.Store
	Certificate tls.Certificate   // of the server, with its chain
	Operators   *x509.Certificate // authority of operators; nil: there is no operators' API
	Hosts       *Authority        // issues certificates to attested hosts; nil: none are issued
	Rules       attest.Rules
	Policy      attest.Policy
	Interval    time.Duration // between evidence of a host
	Secrets     string        // directory; empty: there are none
	Depot       *depot.Depot  // what releases are served from; nil: they are not
	Boots       Boots         // the boot server; nil: there is none
	Logger      *slog.Logger  // nil: events are dropped
	Now         func() time.Time
	Limits      Limits
	Netboot     Netboot // of machines that boot over the network; nil: nothing is known of them
}

// Server answers machines and operators.
type Server struct {
	o         Options
	log       *slog.Logger
	now       func() time.Time
	cert      atomic.Pointer[tls.Certificate]
	serverID  []byte
	catalog   atomic.Pointer[Catalog]
	grants    grants
	enrolRate *rates[netip.Prefix]
	askRate   *rates[netip.Prefix]
	appetite  *appetite
	bodies    *budget
	reports   *rates[string]
	transfers *places
	encoders  chan struct{}
}

// silence is how many intervals a host may be silent (attest.Host.Standing).
const silence = 3

// New makes a server without releases: give it some by SetCatalog.
func New(o Options) (*Server, error) {
	leaf, err := leafOf(o.Certificate)
	if err != nil {
		return nil, fmt.Errorf("make server: %w", err)
	}
	if o.Store == nil || o.Interval <= 0 {
		return nil, errors.New("make server: no store or no interval")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Limits.defaults(o.Interval)
	s := &Server{o: o, log: o.Logger, now: func() time.Time { return o.Now().UTC().Round(0) }, serverID: attestapi.KeyID(leaf.RawSubjectPublicKeyInfo),
		enrolRate: newRates[netip.Prefix](o.Limits.EnrolRate), askRate: newRates[netip.Prefix](o.Limits.AskRate), appetite: newAppetite(&o.Limits), bodies: newBudget(o.Limits.Bodies),
		reports: newRates[string](o.Limits.ReportRate), transfers: newPlaces(o.Limits.Transfers), encoders: make(chan struct{}, o.Limits.Encoders)}
	s.cert.Store(&o.Certificate)
	s.catalog.Store(&Catalog{})
	s.grants = grants{authority: o.Hosts, secrets: o.Secrets, log: s.log, lifetime: max(silence*o.Interval, minLifetime)}
	return s, nil
}

func leafOf(c tls.Certificate) (*x509.Certificate, error) {
	switch {
	case c.Leaf != nil:
		return c.Leaf, nil
	case len(c.Certificate) == 0:
		return nil, errors.New("no certificate")
	}
	return x509.ParseCertificate(c.Certificate[0])
}

// ErrKey is the error of SetCertificate for another key.
var ErrKey = errors.New("the certificate is for another key: open challenges would be void")

// SetCertificate renews the server's certificate. Its key must stay: machines
// bind their evidence to it.
func (s *Server) SetCertificate(c tls.Certificate) error {
	leaf, err := leafOf(c)
	if err == nil && string(attestapi.KeyID(leaf.RawSubjectPublicKeyInfo)) != string(s.serverID) {
		err = ErrKey
	}
	if err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	s.cert.Store(&c)
	return nil
}

// SetCatalog exchanges the releases that hosts may run, and keeps their
// documents for the record.
func (s *Server) SetCatalog(ctx context.Context, c *Catalog) error {
	var blobs []audit.Blob
	for _, r := range c.Releases {
		blobs = append(blobs, audit.Blob{Sum: r.Sum, Data: r.document})
	}
	if err := s.o.Store.Keep(ctx, blobs...); err != nil {
		return fmt.Errorf("keep references: %w", err)
	}
	s.catalog.Store(c)
	if s.o.Depot != nil {
		s.o.Depot.Retain(c.images())
	}
	return nil
}

// bank is what machines are asked for, and the only one that is judged then: the
// policy's best, else SHA-256, which all have.
func (s *Server) bank() pcr.Bank {
	if len(s.o.Policy.Banks) > 0 {
		return s.o.Policy.Banks[0]
	}
	return pcr.SHA256
}

// policy is what a case is judged by: the operator's, and the bank that was
// asked for.
func (s *Server) policy() attest.Policy {
	p := s.o.Policy
	p.Banks = []pcr.Bank{s.bank()}
	return p
}

func (s *Server) pcrs() []int {
	if s.o.Policy.PCRs != nil {
		return s.o.Policy.PCRs
	}
	return attest.DefaultPCRs
}

// nonceSize is the length of nonces and secrets in bytes.
const nonceSize = 32

func random() []byte {
	b := make([]byte, nonceSize)
	rand.Read(b) // never fails
	return b
}
