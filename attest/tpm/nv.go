package tpm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ingot-os/ingot/attest/policy"
)

// FloorIndex is the NV index of the version floor's counter.
const FloorIndex = policy.FloorIndex

// ErrNoCounter means that there is no such counter: never made, deleted, or
// something else in its place.
var ErrNoCounter = errors.New("the TPM has no such counter")

// ErrOtherIndex is the ErrNoCounter of an index that has other attributes. One
// that was made as a counter and never incremented is not it.
var ErrOtherIndex = fmt.Errorf("%w: the index has other attributes", ErrNoCounter)

// counterAttributes: everyone reads it, the owner increments it. It cannot be
// written otherwise, and it may be deleted: a new one starts above any that
// there has ever been (part 1, section 37.2.4), so what was sealed to a limit
// stays sealed.
var counterAttributes = tpm2.TPMANV{OwnerWrite: true, OwnerRead: true, AuthRead: true, NoDA: true, NT: tpm2.TPMNTCounter}

// Counter is an NV counter.
type Counter struct {
	Index uint32
	Name  []byte // its attributes and index, hashed: the same for each one made here
	Value uint64
}

// Policy is the counter with a limit in a policy.
func (c Counter) Policy(limit uint64) policy.Counter {
	return policy.Counter{Name: c.Name, Limit: limit}
}

// Counter reads a counter; its error wraps ErrNoCounter when there is none.
func (t *TPM) Counter(index uint32) (Counter, error) {
	c := Counter{Index: index}
	r, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(index)}.Execute(t.t)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return c, fmt.Errorf("read counter %#x: %w", index, ErrNoCounter)
	}
	if err != nil {
		return c, fmt.Errorf("read counter %#x: %w", index, err)
	}
	area, err := r.NVPublic.Contents()
	if err != nil {
		return c, fmt.Errorf("read counter %#x: %w", index, err)
	}
	written := area.Attributes.Written
	area.Attributes.Written = false
	switch {
	case area.Attributes != counterAttributes || area.NameAlg != tpm2.TPMAlgSHA256 || area.DataSize != 8 || len(area.AuthPolicy.Buffer) != 0:
		return c, fmt.Errorf("read counter %#x: %w", index, ErrOtherIndex)
	case !written:
		return c, fmt.Errorf("read counter %#x: %w: it was never incremented", index, ErrNoCounter)
	}
	b, err := t.readNV(tpm2.TPMHandle(index))
	if err != nil {
		return c, err
	}
	if len(b) != 8 {
		return c, fmt.Errorf("read counter %#x: %d bytes", index, len(b))
	}
	c.Name, c.Value = r.NVName.Buffer, binary.BigEndian.Uint64(b)
	return c, nil
}

// DefineCounter makes a counter. Its first value is one above the highest that
// any counter of this TPM has had.
func (t *TPM) DefineCounter(index uint32) (Counter, error) {
	_, err := tpm2.NVDefineSpace{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{NVIndex: tpm2.TPMHandle(index), NameAlg: tpm2.TPMAlgSHA256, Attributes: counterAttributes, DataSize: 8}),
	}.Execute(t.t)
	if err != nil && !errors.Is(err, tpm2.TPMRCNVDefined) {
		return Counter{}, fmt.Errorf("make counter %#x: %w", index, err)
	}
	return t.Increment(index) // it has no value until then; a cut may have come between
}

// Increment adds one to a counter.
func (t *TPM) Increment(index uint32) (Counter, error) {
	r, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(index)}.Execute(t.t)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return Counter{}, fmt.Errorf("increment counter %#x: %w", index, ErrNoCounter)
	}
	if err != nil {
		return Counter{}, fmt.Errorf("increment counter %#x: %w", index, err)
	}
	_, err = tpm2.NVIncrement{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		NVIndex:    tpm2.NamedHandle{Handle: tpm2.TPMHandle(index), Name: r.NVName},
	}.Execute(t.t)
	if err != nil {
		return Counter{}, fmt.Errorf("increment counter %#x: %w", index, err)
	}
	return t.Counter(index)
}

// DeleteCounter removes a counter: what was sealed to it is sealed for ever.
func (t *TPM) DeleteCounter(index uint32) error {
	r, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(index)}.Execute(t.t)
	if err == nil {
		_, err = tpm2.NVUndefineSpace{
			AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
			NVIndex:    tpm2.NamedHandle{Handle: tpm2.TPMHandle(index), Name: r.NVName},
		}.Execute(t.t)
	}
	if err != nil {
		return fmt.Errorf("delete counter %#x: %w", index, err)
	}
	return nil
}

// self is the authorization of an index by its own, empty, password.
func (c Counter) self() tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: tpm2.TPMHandle(c.Index), Name: tpm2.TPM2BName{Buffer: c.Name}, Auth: tpm2.PasswordAuth(nil)}
}

func (c Counter) named() tpm2.NamedHandle {
	return tpm2.NamedHandle{Handle: tpm2.TPMHandle(c.Index), Name: tpm2.TPM2BName{Buffer: c.Name}}
}

// atMost is the policy command of policy.Digest.NV.
func (c Counter) atMost(t transport.TPM, session tpm2.TPMISHPolicy, limit uint64) error {
	_, err := tpm2.PolicyNV{
		AuthHandle: c.self(), NVIndex: c.named(), PolicySession: session,
		OperandB: tpm2.TPM2BOperand{Buffer: binary.BigEndian.AppendUint64(nil, limit)}, Operation: tpm2.TPMEO(policy.AtMost),
	}.Execute(t)
	switch {
	case errors.Is(err, tpm2.TPMRCPolicy):
		return fmt.Errorf("%w (%d): %w", ErrAbove, limit, err)
	case errors.Is(err, tpm2.TPMRCHandle):
		return fmt.Errorf("%w: %w", ErrNoCounter, err)
	}
	return err
}

// Certified is what a TPM says about an NV index, signed.
type Certified struct {
	Attest    []byte // TPMS_ATTEST with TPMS_NV_CERTIFY_INFO
	Signature []byte // TPMT_SIGNATURE
}

// CertifyCounter lets the attestation key sign the counter's name and value
// with extra data of at most 64 bytes.
func (t *TPM) CertifyCounter(ak *Key, c Counter, extra []byte) (Certified, error) {
	r, err := tpm2.NVCertify{
		SignHandle: tpm2.AuthHandle{Handle: ak.handle, Name: ak.name, Auth: tpm2.PasswordAuth(nil)},
		AuthHandle: c.self(), NVIndex: c.named(), QualifyingData: tpm2.TPM2BData{Buffer: extra},
		InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull}, Size: 8,
	}.Execute(t.t)
	if err != nil {
		return Certified{}, fmt.Errorf("certify counter %#x: %w", c.Index, err)
	}
	return Certified{Attest: r.CertifyInfo.Bytes(), Signature: tpm2.Marshal(r.Signature)}, nil
}
