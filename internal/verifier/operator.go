package verifier

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/assign"
	"github.com/ingot-os/ingot/internal/audit"
	"github.com/ingot-os/ingot/internal/fleet"
)

// HostsPath is where operators ask; one host is below it.
const HostsPath = "/v1/hosts"

// Summary is a host in a list.
type Summary struct {
	Name     string          `json:"name"`
	State    attest.State    `json:"state"`
	Standing attest.Standing `json:"standing"`
	Heard    time.Time       `json:"heard,omitzero"` // of the newest verdict
	Last     *fleet.Last     `json:"last,omitempty"`
	Reenrol  bool            `json:"reenrol,omitempty"`
	Floor    int64           `json:"floor,omitempty"`
	Update   *fleet.Update   `json:"update,omitempty"` // slots and assignment in short; nil: neither is known
}

// List is the answer to GET /v1/hosts.
type List struct {
	Now      time.Time     `json:"now"`
	Interval float64       `json:"interval"` // seconds
	Hosts    []Summary     `json:"hosts"`
	Releases []Release     `json:"releases"`
	Refused  []Refused     `json:"refused,omitempty"`
	Status   *ServerStatus `json:"server"`
}

// ServerStatus says how the server is set up.
type ServerStatus struct {
	Roots        int  `json:"ekRoots"` // certificates of makers; 0: every host waits for an operator
	RequireChain bool `json:"requireChain"`
	Certificates bool `json:"certificates"` // attested hosts get one
	Secrets      bool `json:"secrets"`
}

// Detail is the answer to GET and POST /v1/hosts/NAME.
type Detail struct {
	Summary
	Record    attest.Record    `json:"record"`
	Certified attest.Certified `json:"certified"`
	// EKName is the name of the endorsement key as its TPM computes it, EK the
	// SHA-256 of its SubjectPublicKeyInfo, which a certificate has too.
	EKName   string          `json:"ekName"`
	EK       string          `json:"ekFingerprint,omitempty"`
	Verdict  *attest.Verdict `json:"verdict,omitempty"` // the newest, judged again from the record
	Rejected *fleet.Rejected `json:"rejected,omitempty"`
	Seen     *fleet.Firmware `json:"seen,omitempty"`
	SeenSum  audit.Digest    `json:"seenSum,omitzero"` // names Seen: what an operator accepts
	// Slots is what the host has said last about its slots. Offer is what it is
	// offered now; of an assignment that is not offered, Withheld says why.
	Slots    *fleet.Report   `json:"slots,omitempty"`
	Offer    *assign.Release `json:"offer,omitempty"`
	Withheld *assign.Refusal `json:"withheld,omitempty"`
	Head     audit.Digest    `json:"head,omitzero"` // of the host's newest record
	Records  int64           `json:"records"`
}

// operated lets operators through, and nobody else (a host's certificate is by
// another authority).
func (s *Server) operated(fn func(*call, []byte) (any, error)) func(*call, []byte) (any, error) {
	return func(c *call, body []byte) (any, error) {
		if err := s.isOperator(c); err != nil {
			s.log.Warn("operator refused", "address", c.address, "path", c.r.URL.Path, "detail", err.Error())
			return nil, refuse(http.StatusForbidden, RequestOperator, "this needs a certificate by the fleet's operator authority")
		}
		c.operator = c.cert.Subject.CommonName
		return fn(c, body)
	}
}

func (s *Server) isOperator(c *call) error {
	if s.o.Operators == nil {
		return errors.New("the server has no operator authority")
	}
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: s.now(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	o.Roots.AddCert(s.o.Operators)
	_, err := c.cert.Verify(o)
	return err
}

// list answers GET /v1/hosts.
func (s *Server) list(c *call, _ []byte) (any, error) {
	hosts, err := s.o.Store.Hosts(c.ctx)
	if err != nil {
		return nil, err
	}
	updates, err := s.o.Store.Updates(c.ctx)
	if err != nil {
		return nil, err
	}
	catalog := s.catalog.Load()
	out := List{Now: s.now(), Interval: s.o.Interval.Seconds(), Hosts: []Summary{}, Releases: append([]Release{}, catalog.Releases...), Refused: catalog.Refused,
		Status: &ServerStatus{Roots: len(s.o.Rules.Roots.Roots), RequireChain: s.o.Rules.RequireChain, Certificates: s.o.Hosts != nil, Secrets: s.o.Secrets != ""}}
	for _, h := range hosts {
		x := s.summary(h)
		if u, ok := updates[x.Name]; ok {
			x.Update = &u
		}
		out.Hosts = append(out.Hosts, x)
	}
	return out, nil
}

func (s *Server) summary(h *fleet.Host) Summary {
	return Summary{Name: h.Record.Name, State: h.Record.State, Standing: h.Standing(s.o.Interval, s.now()), Heard: h.At, Last: h.Last, Reenrol: h.Reenrol, Floor: h.Record.Floor}
}

// detail answers GET /v1/hosts/NAME.
func (s *Server) detail(c *call, _ []byte) (any, error) {
	return s.host(c.ctx, c.r.PathValue("name"))
}

func (s *Server) host(ctx context.Context, name string) (*Detail, error) {
	h, err := s.o.Store.Host(ctx, name)
	if errors.Is(err, fleet.ErrNotFound) {
		return nil, refuse(http.StatusNotFound, attest.HostUnknown, "%.70q is not enrolled", name)
	}
	if err != nil {
		return nil, err
	}
	d := &Detail{Summary: s.summary(h), Record: h.Record, Certified: h.Certified, EKName: hex.EncodeToString(h.Record.EKName), EK: spki(h.EK),
		Rejected: h.Rejected, Seen: h.Seen, Head: h.Head().Sum, Records: h.Head().Seq}
	if h.Seen != nil {
		d.SeenSum = seenSum(h.Seen)
	}
	if h.Last != nil {
		if d.Verdict, err = s.lastVerdict(ctx, name); err != nil {
			return nil, err
		}
	}
	return d, s.addUpdates(ctx, d, h)
}

// seenSum names what was seen of firmware.
func seenSum(f *fleet.Firmware) audit.Digest {
	b, err := json.Marshal(f) // sorts
	if err != nil {
		return audit.Digest{}
	}
	return audit.Sum(b)
}

// lastVerdict judges the newest verdict again: what was kept of it is enough.
func (s *Server) lastVerdict(ctx context.Context, name string) (*attest.Verdict, error) {
	var v *attest.Verdict
	err := s.o.Store.Records(ctx, fleet.Query{Host: name, Kind: audit.KindVerdict, Last: 1}, func(line []byte) error {
		r, err := audit.Parse(line)
		if err != nil {
			return err
		}
		again, err := audit.Replay(r, func(d audit.Digest) ([]byte, error) { return s.o.Store.Blob(ctx, d) })
		if errors.Is(err, audit.ErrDiffers) {
			s.log.Error("a verdict differs from its record", "host", name, "error", err)
			err = nil
		}
		v = &again
		return err
	})
	return v, err
}

// EKFingerprint is the SHA-256 of an endorsement key's SubjectPublicKeyInfo, in
// hex; empty when it cannot be told.
func EKFingerprint(public []byte) string { return spki(public) }

// spki is the fingerprint of an endorsement key; empty when it cannot be told.
func spki(public []byte) string {
	p, err := tpm2.Unmarshal[tpm2.TPMTPublic](public)
	if err != nil {
		return ""
	}
	key, err := tpm2.Pub(*p)
	if err != nil {
		return ""
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}
