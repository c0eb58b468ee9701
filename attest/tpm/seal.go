package tpm

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/policy"
)

// Blob is a secret that lies outside of the TPM and that only the TPM that has
// sealed it can read, while its policy is satisfied.
type Blob struct {
	Public  []byte `json:"public"`  // TPMT_PUBLIC
	Private []byte `json:"private"` // what a TPM2B_PRIVATE holds, encrypted to the storage key
	Made    Made   `json:"made"`
}

// Made is what the TPM says of how it made a blob. Sealing takes no secret, so
// whoever reaches the TPM makes blobs for any policy: this tells them apart.
type Made struct {
	Data   []byte `json:"data"`   // TPMS_CREATION_DATA
	Ticket []byte `json:"ticket"` // TPMT_TK_CREATION: the TPM recognises what it said
}

// madeWith are the registers that Made tells.
var madeWith = []int{7, policy.Register}

// Errors of Unseal: which part of the policy does not hold.
var (
	ErrApproval = errors.New("the registers are not those that the policy key has approved")
	ErrAbove    = errors.New("the counter is above the limit of the sealed key")
	ErrPolicy   = errors.New("the policy of the sealed key is not satisfied")
	ErrMade     = errors.New("the sealed key was not made by what should have made it")
	ErrParent   = errors.New("the sealed key belongs to another TPM, or to this one before it was cleared")
)

// StorageKey makes the storage root key by the TCG's template (TPM v2.0
// Provisioning Guidance, section 7.5.1): P-256, or RSA-2048 on a TPM without
// P-256. It is the same at each call until the TPM is cleared.
func (t *TPM) StorageKey() (*Key, error) {
	k, err := t.storage(tpm2.ECCSRKTemplate)
	if unsupported(err) {
		k, err = t.storage(tpm2.RSASRKTemplate)
	}
	if err != nil {
		return nil, fmt.Errorf("make storage key: %w", err)
	}
	return k, nil
}

func (t *TPM) storage(template tpm2.TPMTPublic) (*Key, error) {
	r, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		InPublic:      tpm2.New2B(template),
	}.Execute(t.t)
	if err != nil {
		return nil, err
	}
	return &Key{Public: r.OutPublic.Bytes(), handle: r.ObjectHandle, name: r.Name}, nil
}

// private are the options of a session whose parameters a reader on the bus
// does not see: its key is agreed upon with the storage key.
func (k *Key) private(options ...tpm2.AuthOption) ([]tpm2.AuthOption, error) {
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](k.Public)
	if err != nil {
		return nil, err
	}
	return append(options, tpm2.Salted(k.handle, *public)), nil
}

// Seal encrypts a secret of at most 128 bytes to the storage key, to be given
// away only to who satisfies a policy; no password opens it.
func (t *TPM) Seal(parent *Key, secret []byte, p policy.Digest) (Blob, error) {
	options, err := parent.private(tpm2.AESEncryption(128, tpm2.EncryptIn))
	if err != nil {
		return Blob{}, fmt.Errorf("seal key: %w", err)
	}
	r, err := tpm2.Create{
		ParentHandle: tpm2.AuthHandle{Handle: parent.handle, Name: parent.name, Auth: tpm2.HMAC(tpm2.TPMAlgSHA256, 16, options...)},
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: secret})}},
		InPublic: tpm2.New2B(tpm2.TPMTPublic{
			Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
			ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, NoDA: true},
			AuthPolicy:       tpm2.TPM2BDigest{Buffer: p[:]},
			Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgKeyedHash,
				&tpm2.TPMSKeyedHashParms{Scheme: tpm2.TPMTKeyedHashScheme{Scheme: tpm2.TPMAlgNull}}),
		}),
		CreationPCR: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{selectPCRs(pcr.SHA256, madeWith)}},
	}.Execute(t.t)
	if err != nil {
		return Blob{}, fmt.Errorf("seal key: %w", err)
	}
	return Blob{Public: r.OutPublic.Bytes(), Private: r.OutPrivate.Buffer,
		Made: Made{Data: r.CreationData.Bytes(), Ticket: tpm2.Marshal(r.CreationTicket)}}, nil
}

// madeBy sees that the TPM made an object while PCR 7 and 11 had these values.
func (t *TPM) madeBy(object *Key, m Made, want policy.Values) error {
	ticket, err := tpm2.Unmarshal[tpm2.TPMTTKCreation](m.Ticket)
	if err != nil {
		return fmt.Errorf("%w: ticket: %w", ErrMade, err)
	}
	data, err := tpm2.Unmarshal[tpm2.TPMSCreationData](m.Data)
	if err != nil {
		return fmt.Errorf("%w: creation data: %w", ErrMade, err)
	}
	h, sum := pcr.SHA256.New(), pcr.SHA256.Sum(m.Data)
	for _, n := range madeWith {
		value := want[n]
		h.Write(value[:])
	}
	selected := tpm2.Marshal(tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{selectPCRs(pcr.SHA256, madeWith)}})
	if !bytes.Equal(tpm2.Marshal(data.PCRSelect), selected) || !bytes.Equal(data.PCRDigest.Buffer, h.Sum(nil)) {
		return fmt.Errorf("%w: PCR 7 and 11 were others then", ErrMade)
	}
	_, err = tpm2.CertifyCreation{ // signed by nobody: that the ticket is taken is the answer
		SignHandle:   tpm2.AuthHandle{Handle: tpm2.TPMRHNull, Auth: tpm2.PasswordAuth(nil)},
		ObjectHandle: tpm2.NamedHandle{Handle: object.handle, Name: object.name},
		CreationHash: tpm2.TPM2BDigest{Buffer: sum}, InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull}, CreationTicket: *ticket,
	}.Execute(t.t)
	if errors.Is(err, tpm2.TPMRCTicket) {
		return fmt.Errorf("%w: %w", ErrMade, err)
	}
	return err
}

// SealedHere sees that a blob was sealed by this very TPM to this policy. It says
// nothing of whether the policy can be satisfied. Its error wraps ErrParent or
// ErrMade, or is the TPM's.
func (t *TPM) SealedHere(parent *Key, b Blob, p policy.Digest) error {
	object, err := t.load(parent, b) // the storage key answers for the public part
	if err != nil {
		return fmt.Errorf("look at sealed key: %w", err)
	}
	defer t.Flush(object)
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](b.Public)
	if err != nil {
		return fmt.Errorf("look at sealed key: %w: %w", ErrMade, err)
	}
	if a := public.ObjectAttributes; !a.FixedTPM || !a.FixedParent || !bytes.Equal(public.AuthPolicy.Buffer, p[:]) {
		return fmt.Errorf("look at sealed key: %w: its policy is another one", ErrMade)
	}
	return nil
}

// Proof is how a session satisfies the policy of policy.Sealed.
type Proof struct {
	Key     policy.Key
	Signed  policy.Signed // for what Registers hold now
	Literal []int         // registers that are what they were when the key was sealed
	Counter Counter
	Limit   uint64
	Made    policy.Values // PCR 7 and 11 when the key was sealed
}

// Unseal gives the secret of a blob. Its error wraps one of ErrApproval,
// ErrAbove, ErrPolicy, ErrMade and ErrParent when the TPM refused.
func (t *TPM) Unseal(parent *Key, b Blob, p Proof) ([]byte, error) {
	secret, err := t.unseal(parent, b, p)
	if err != nil {
		return nil, fmt.Errorf("unseal key: %w", err)
	}
	return secret, nil
}

func (t *TPM) unseal(parent *Key, b Blob, p Proof) ([]byte, error) {
	object, err := t.load(parent, b)
	if err != nil {
		return nil, err
	}
	defer t.Flush(object)
	if err := t.madeBy(object, b.Made, p.Made); err != nil {
		return nil, err
	}
	ticket, err := t.approved(p)
	if err != nil {
		return nil, err
	}
	for range attempts {
		secret, err := t.give(parent, object, p, ticket)
		if !errors.Is(err, tpm2.TPMRCPCRChanged) { // extended in between: anew
			return secret, err
		}
	}
	return nil, ErrChanging
}

// give runs the session. It is ended in any case: the library ends one of its
// own only when the TPM has seen the command that uses it.
func (t *TPM) give(parent, object *Key, p Proof, ticket tpm2.TPMTTKVerified) ([]byte, error) {
	options, err := parent.private(tpm2.AESEncryption(128, tpm2.EncryptOut))
	if err != nil {
		return nil, err
	}
	session, end, err := tpm2.PolicySession(t.t, tpm2.TPMAlgSHA256, 16, options...)
	if err != nil {
		return nil, err
	}
	defer end()
	if err := p.satisfy(t.t, session.Handle(), ticket); err != nil {
		return nil, err
	}
	r, err := tpm2.Unseal{ItemHandle: tpm2.AuthHandle{Handle: object.handle, Name: object.name, Auth: session}}.Execute(t.t)
	if errors.Is(err, tpm2.TPMRCPolicyFail) {
		return nil, fmt.Errorf("%w: %w", ErrPolicy, err)
	}
	if err != nil {
		return nil, err
	}
	return r.OutData.Buffer, nil
}

func (t *TPM) load(parent *Key, b Blob) (*Key, error) {
	r, err := tpm2.Load{
		ParentHandle: tpm2.AuthHandle{Handle: parent.handle, Name: parent.name, Auth: tpm2.PasswordAuth(nil)},
		InPrivate:    tpm2.TPM2BPrivate{Buffer: b.Private}, InPublic: tpm2.BytesAs2B[tpm2.TPMTPublic](b.Public),
	}.Execute(t.t)
	if errors.Is(err, tpm2.TPMRCIntegrity) {
		return nil, fmt.Errorf("%w: %w", ErrParent, err)
	}
	if err != nil {
		return nil, err
	}
	return &Key{Public: b.Public, handle: r.ObjectHandle, name: r.Name}, nil
}

// approved lets the TPM check the policy key's signature.
func (t *TPM) approved(p Proof) (tpm2.TPMTTKVerified, error) {
	var ticket tpm2.TPMTTKVerified
	d, err := p.Signed.Policy()
	if err != nil {
		return ticket, err
	}
	key, err := tpm2.LoadExternal{InPublic: tpm2.BytesAs2B[tpm2.TPMTPublic](p.Key.Public), Hierarchy: tpm2.TPMRHOwner}.Execute(t.t)
	if err != nil {
		return ticket, fmt.Errorf("load policy key: %w", err)
	}
	defer t.Flush(&Key{handle: key.ObjectHandle})
	sum := policy.Approval(d, p.Signed.Ref)
	r, err := tpm2.VerifySignature{
		KeyHandle: tpm2.NamedHandle{Handle: key.ObjectHandle, Name: key.Name}, Digest: tpm2.TPM2BDigest{Buffer: sum[:]},
		Signature: tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgRSASSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgRSASSA,
			&tpm2.TPMSSignatureRSA{Hash: tpm2.TPMAlgSHA256, Sig: tpm2.TPM2BPublicKeyRSA{Buffer: p.Signed.Signature}})},
	}.Execute(t.t)
	if err != nil {
		return ticket, fmt.Errorf("%w: %w", policy.ErrSignature, err)
	}
	return r.Validation, nil
}

// satisfy goes through the policy in the order of policy.Sealed.
// PolicyAuthorize replaces what came before it, so what it approves is first.
func (p Proof) satisfy(t transport.TPM, session tpm2.TPMHandle, ticket tpm2.TPMTTKVerified) error {
	if err := policyPCR(t, session, policy.Register); err != nil {
		return err
	}
	d, err := p.Signed.Policy()
	if err != nil {
		return err
	}
	_, err = tpm2.PolicyAuthorize{
		PolicySession: session, ApprovedPolicy: tpm2.TPM2BDigest{Buffer: d[:]},
		PolicyRef: tpm2.TPM2BDigest{Buffer: []byte(p.Signed.Ref)}, KeySign: tpm2.TPM2BName{Buffer: p.Key.Name}, CheckTicket: ticket,
	}.Execute(t)
	if errors.Is(err, tpm2.TPMRCValue) {
		return fmt.Errorf("%w: %w", ErrApproval, err)
	}
	if err != nil {
		return fmt.Errorf("authorize policy: %w", err)
	}
	if err := policyPCR(t, session, p.Literal...); err != nil {
		return err
	}
	return p.Counter.atMost(t, session, p.Limit)
}

func policyPCR(t transport.TPM, session tpm2.TPMISHPolicy, registers ...int) error {
	_, err := tpm2.PolicyPCR{PolicySession: session, Pcrs: tpm2.TPMLPCRSelection{
		PCRSelections: []tpm2.TPMSPCRSelection{selectPCRs(pcr.SHA256, registers)}}}.Execute(t)
	return err
}

// Values reads registers of the SHA-256 bank as package policy takes them.
func (t *TPM) Values(registers ...int) (policy.Values, error) {
	digests, err := t.PCRs(pcr.SHA256, registers...)
	if err != nil {
		return nil, err
	}
	v := policy.Values{}
	for _, n := range slices.Sorted(maps.Keys(digests)) {
		if len(digests[n]) != pcr.SHA256.Size() {
			return nil, fmt.Errorf("read PCR %d: %d bytes", n, len(digests[n]))
		}
		v[n] = [32]byte(digests[n])
	}
	return v, nil
}
