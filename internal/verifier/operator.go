package verifier

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/internal/assign"
	"github.com/ingot-os/ingot/internal/audit"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/release"
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

// The actions of operators.
const (
	ActionApprove  = "approve"
	ActionReenrol  = "reenrol"
	ActionRevoke   = "revoke"
	ActionFirmware = "accept-firmware"
	ActionMachine  = "machine"
	ActionFloor    = "floor"
	ActionAssign   = "assign"
	ActionUnassign = "unassign"
)

// Action is what an operator wants of a host: the body of POST /v1/hosts/NAME.
type Action struct {
	Action string `json:"action"`
	// Machine is the SHA-256 of the registered machine.yaml; empty takes it
	// back.
	Machine pcr.Digest `json:"machine,omitempty"`
	Floor   *int64     `json:"floor,omitempty"` // lowest security epoch that the host may run
	// EKName is the endorsement key, and Seen the firmware, that the operator
	// has looked at (Detail): what has changed since is neither approved nor
	// accepted. They are required for these actions.
	EKName string       `json:"ekName,omitempty"`
	Seen   audit.Digest `json:"seen,omitzero"`
	// Release is a version, or the digest of a manifest or its first digits.
	// Approved lets the host try it as soon as it is written; Override offers it
	// once more, although the host has rejected it.
	Release  string `json:"release,omitempty"`
	Approved bool   `json:"approved,omitempty"`
	Override bool   `json:"override,omitempty"`
}

// About fills in what an action is about, from what the operator was shown.
func (a *Action) About(d *Detail) {
	switch a.Action {
	case ActionApprove:
		a.EKName = d.EKName
	case ActionFirmware:
		a.Seen = d.SeenSum
	}
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

// act answers POST /v1/hosts/NAME.
func (s *Server) act(c *call, body []byte) (any, error) {
	var a Action
	if err := decode(body, &a); err != nil {
		return nil, err
	}
	name := c.r.PathValue("name")
	if a.Action == ActionAssign {
		if err := s.prepare(c, name, &a); err != nil {
			return nil, err
		}
	}
	err := s.o.Store.Update(c.ctx, name, func(x *fleet.Change) error {
		if x.Host == nil {
			return refuse(http.StatusNotFound, attest.HostUnknown, "%.70q is not enrolled", name)
		}
		kind, detail, err := s.apply(x, &a, c.operator)
		if err != nil {
			return err
		}
		x.Record(&audit.Record{Kind: kind, Time: s.now(), Detail: detail, By: c.operator})
		return nil
	})
	var e *attest.EnrolError
	if errors.As(err, &e) {
		return nil, refuse(http.StatusConflict, e.Code, "%s", e.Detail)
	}
	if err != nil {
		return nil, err
	}
	s.log.Info("operator", "host", name, "action", a.Action, "release", a.Release, "by", c.operator, "address", c.address)
	return s.host(c.ctx, name)
}

// apply does what is wanted, and says it for the record.
func (s *Server) apply(x *fleet.Change, a *Action, by string) (audit.Kind, string, error) {
	switch a.Action {
	case ActionAssign:
		return s.assign(x, a, by)
	case ActionUnassign:
		return unassign(x)
	}
	return a.apply(x.Host)
}

// apply does what is about the host alone.
func (a *Action) apply(h *fleet.Host) (audit.Kind, string, error) {
	switch a.Action {
	case ActionApprove:
		return a.approve(h)
	case ActionReenrol:
		if h.Record.State == attest.Pending {
			return "", "", refuse(http.StatusConflict, attest.HostPending, "%s waits for an operator: approve it, or revoke it first", h.Record.Name)
		}
		h.Allow()
		return audit.KindAllowed, "", nil
	case ActionRevoke:
		h.Revoke()
		return audit.KindRevoked, "", nil
	case ActionFirmware:
		if h.Seen == nil {
			return "", "", refuse(http.StatusConflict, attest.FirmwareChanged, "%s has sent no evidence yet", h.Record.Name)
		}
		if a.Seen != seenSum(h.Seen) {
			return "", "", refuse(http.StatusConflict, attest.FirmwareChanged, "the firmware of %s is not the one that you name (seen): look again", h.Record.Name)
		}
		h.Baseline(h.Seen.PCRs, h.Seen.Version)
		return audit.KindFirmware, "as in the newest evidence", nil
	case ActionMachine:
		if n := len(a.Machine); n != 0 && n != sha256.Size {
			return "", "", refuse(http.StatusBadRequest, RequestMalformed, "machine: a digest of %d bytes, want %d", n, sha256.Size)
		}
		h.Record.Machine = a.Machine
		return audit.KindMachine, "sha256 " + hex.EncodeToString(a.Machine), nil
	case ActionFloor:
		return a.raise(h)
	}
	return "", "", refuse(http.StatusBadRequest, RequestMalformed, "there is no action %.40q", a.Action)
}

// approve lets in the TPM that the operator has looked at, and no other that
// has come in its place. The name is taken then.
func (a *Action) approve(h *fleet.Host) (audit.Kind, string, error) {
	name := hex.EncodeToString(h.Record.EKName)
	if a.EKName != name {
		return "", "", refuse(http.StatusConflict, attest.EKKey, "the TPM of %s is not the one that you name (ekName): look again", h.Record.Name)
	}
	if err := h.Approve(); err != nil {
		return "", "", err
	}
	h.Reenrol = false
	return audit.KindApproved, "endorsement key " + name, nil
}

// raise sets the lowest security epoch of a host (S10). A floor is not lowered:
// what an attacker gains by that is what it is there to keep from him.
func (a *Action) raise(h *fleet.Host) (audit.Kind, string, error) {
	switch {
	case a.Floor == nil || *a.Floor < 0 || *a.Floor > release.MaxSecurityEpoch:
		return "", "", refuse(http.StatusBadRequest, RequestMalformed, "floor: want 0 to %d", release.MaxSecurityEpoch)
	case *a.Floor < h.Record.Floor:
		return "", "", refuse(http.StatusConflict, attest.VersionFloor, "the floor of %s is %d, and is not lowered", h.Record.Name, h.Record.Floor)
	}
	detail := fmt.Sprintf("from %d to %d", h.Record.Floor, *a.Floor)
	h.Record.Floor = *a.Floor
	return audit.KindFloor, detail, nil
}
