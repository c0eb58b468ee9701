package verifier

import (
	"bytes"
	"crypto/rand"
	"errors"
	"net/http"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/tpm"
	"github.com/ingot-os/ingot/internal/attestapi"
	"github.com/ingot-os/ingot/internal/audit"
	"github.com/ingot-os/ingot/internal/fleet"
)

// known asks the store about a name and an endorsement key. The host itself is
// asked for again in the transaction that changes it.
func (s *Server) known(c *call, name string, ekName []byte) (k attest.Known, err error) {
	if k.EKOwner, err = s.o.Store.Owner(c.ctx, ekName); err != nil {
		return k, err
	}
	if k.Pending, err = s.o.Store.Pending(c.ctx); err != nil {
		return k, err
	}
	h, err := s.o.Store.Host(c.ctx, name)
	if err == nil {
		k.Host = &h.Host
	} else if errors.Is(err, fleet.ErrNotFound) {
		err = nil
	}
	return k, err
}

// enrol offers to enrol a host: EnrolRequest to EnrolOffer.
func (s *Server) enrol(c *call, body []byte) (any, error) {
	now := s.now()
	if !s.enrolRate.allow(site(c.address), 1, now) {
		return nil, refuse(http.StatusTooManyRequests, attest.EnrolBusy, "too many enrolments from your address: wait a while")
	}
	var q attestapi.EnrolRequest
	if err := decode(body, &q); err != nil {
		return nil, err
	}
	_, ekName, err := q.Names()
	if err != nil {
		return nil, s.refusedEnrolment(c, q.Name, err)
	}
	k, err := s.known(c, q.Name, ekName)
	if err != nil {
		return nil, err
	}
	secret := random()
	offer, err := s.o.Rules.Begin(q, k, c.key, secret, now)
	if err != nil {
		return nil, s.refusedEnrolment(c, q.Name, err)
	}
	credential, err := tpm.MakeCredential(rand.Reader, offer.EK, offer.AKName, secret)
	if err != nil {
		return nil, s.refusedEnrolment(c, q.Name, &attest.EnrolError{Code: attest.EKMalformed, Detail: err.Error()})
	}
	if err := s.o.Store.PutOffer(c.ctx, offer, now); errors.Is(err, fleet.ErrBusy) {
		return nil, refuse(http.StatusTooManyRequests, attest.EnrolBusy, "too many enrolments are open")
	} else if err != nil {
		return nil, err
	}
	return attestapi.EnrolOffer{Credential: attestapi.Credential(credential), Expires: offer.Expires}, nil
}

// activate ends an enrolment: ActivateRequest to Enrolled.
func (s *Server) activate(c *call, body []byte) (any, error) {
	var q attestapi.ActivateRequest
	if err := decode(body, &q); err != nil {
		return nil, err
	}
	offer, err := s.o.Store.TakeOffer(c.ctx, q.Name, c.key)
	if errors.Is(err, fleet.ErrNotFound) {
		return nil, s.refusedEnrolment(c, q.Name, &attest.EnrolError{Code: attest.EnrolSecret, Detail: "no enrolment of this name is open on this channel"})
	}
	if err != nil {
		return nil, err
	}
	now := s.now()
	k, err := s.known(c, q.Name, offer.Record.EKName)
	if err != nil {
		return nil, err
	}
	var host attest.Host
	err = s.o.Store.Update(c.ctx, q.Name, func(x *fleet.Change) error {
		k.Host = nil
		if x.Host != nil {
			k.Host = &x.Host.Host
		}
		if host, err = offer.Finish(k, c.key, q.Secret, now); err != nil {
			return err
		}
		if waits(k.Host, &host) {
			return errWaits
		}
		if x.Host != nil && !bytes.Equal(x.Host.Record.EKName, host.Record.EKName) {
			x.Reported(nil) // another machine's slots
		}
		x.Host = &fleet.Host{Host: host}
		x.Record(&audit.Record{Kind: audit.KindEnrolled, Time: now, AKName: host.Record.AKName, Detail: string(host.Record.State) + ", from " + c.address})
		return nil
	})
	if errors.Is(err, errWaits) {
		return attestapi.Enrolled{Name: q.Name, State: attest.Pending}, nil
	}
	if errors.Is(err, fleet.ErrTaken) { // another was quicker
		err = &attest.EnrolError{Code: attest.EnrolEK, Detail: "the TPM is enrolled under another name"}
	}
	if err != nil {
		return nil, s.refusedEnrolment(c, q.Name, err)
	}
	s.log.Info("enrolled", "host", q.Name, "state", host.Record.State, "address", c.address, "vouched", host.Record.Chained, "why", host.Certified.Why)
	return attestapi.Enrolled{Name: q.Name, State: host.Record.State}, nil
}

// errWaits: the host waits for an operator already.
var errWaits = errors.New("the host waits already")

// waits reports whether an enrolment leads to nothing new: such are not kept,
// or a host that waits could fill the disk with them.
func waits(old, now *attest.Host) bool {
	return old != nil && !old.Reenrol && old.Record.State == attest.Pending && now.Record.State == attest.Pending &&
		bytes.Equal(old.Record.EKName, now.Record.EKName) && bytes.Equal(old.Record.AKName, now.Record.AKName)
}

// refusedEnrolment tells a refusal from a failure of the server.
func (s *Server) refusedEnrolment(c *call, name string, err error) error {
	var e *attest.EnrolError
	if !errors.As(err, &e) {
		return err
	}
	s.log.Warn("enrolment refused", "host", name, "code", e.Code, "detail", e.Detail, "address", c.address)
	status := http.StatusForbidden
	switch e.Code {
	case attest.EnrolBusy:
		status = http.StatusTooManyRequests
	case attest.EnrolName, attest.AKMalformed, attest.EKMalformed:
		status = http.StatusBadRequest
	}
	return refuse(status, e.Code, "%s", e.Detail)
}
