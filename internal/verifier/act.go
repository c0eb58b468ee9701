package verifier

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/internal/audit"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/release"
)

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
