package attest

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"time"

	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/quote"
)

// Reasons for which an enrolment is refused.
const (
	EnrolName     Code = "enrol.name"
	EnrolKnown    Code = "enrol.known"
	EnrolEK       Code = "enrol.ek"
	EnrolSecret   Code = "enrol.secret"
	EnrolBusy     Code = "enrol.busy"
	EKMalformed   Code = "ek.malformed"
	EKAttributes  Code = "ek.attributes"
	EKCertificate Code = "ek.certificate"
	EKRevoked     Code = "ek.revoked"
	EKUnknown     Code = "ek.unknown"
	TPMDenied     Code = "tpm.denied"
)

// EnrolError is the refusal of an enrolment.
type EnrolError struct {
	Code   Code
	Detail string
}

// Error implements error.
func (e *EnrolError) Error() string { return fmt.Sprintf("enrol: %s: %s", e.Code, e.Detail) }

func enrolf(code Code, format string, args ...any) error {
	return &EnrolError{code, fmt.Sprintf(format, args...)}
}

// Request is what a host sends to be enrolled. It names no name of a key: names
// are computed.
type Request struct {
	Name          string `json:"name"`
	AK            []byte `json:"ak"`                      // TPMT_PUBLIC
	EK            []byte `json:"ek"`                      // TPMT_PUBLIC
	EKCertificate []byte `json:"ekCertificate,omitempty"` // DER
}

// Names computes the names of both keys, by which a store looks for what is
// Known. Errors are *EnrolError.
func (r *Request) Names() (ak, ek []byte, err error) {
	a, e, err := readKeys(r)
	if err != nil {
		return nil, nil, err
	}
	return a.Name(), e.Name(), nil
}

// Offer is an enrolment that waits for proof: the secret, encrypted to EK for
// the key AKName (MakeCredential), must come back from the machine, on the same
// channel.
type Offer struct {
	EK     []byte `json:"ek"` // TPMT_PUBLIC
	AKName []byte `json:"akName"`
	// Certified tells an operator who vouches for the TPM.
	Certified  Certified         `json:"certified"`
	Expires    time.Time         `json:"expires"`
	ChannelKey []byte            `json:"channelKey"` // as in Challenge
	Record     Record            `json:"record"`     // of the host that is to be
	SecretSum  [sha256.Size]byte `json:"secretSum"`
}

// Host is an enrolled host with what was last seen of it.
type Host struct {
	Record Record `json:"record"`
	// EK is the endorsement key, a TPMT_PUBLIC, and Certified who vouches for it.
	EK        []byte    `json:"ek,omitempty"`
	Certified Certified `json:"certified,omitzero"`
	LastSeen  *LastSeen `json:"lastSeen,omitempty"`
	// Trusted is the newest verdict, At its time.
	Trusted bool      `json:"trusted"`
	At      time.Time `json:"at,omitzero"`
	// Reenrol is set by an operator and lets the name be enrolled once more.
	Reenrol bool `json:"reenrol,omitempty"`
}

// Known is what a store has when somebody wants to be enrolled.
type Known struct {
	Host    *Host  // of the name; nil: the name is free
	EKOwner string // name of the host that has the endorsement key; empty: none
	Pending int    // hosts that wait for an operator
}

// Rules are those of enrolment. Its decisions depend on their arguments alone,
// so that any number of servers can share one store.
type Rules struct {
	Roots Roots
	// RequireChain refuses what no root vouches for; else it waits for an
	// operator.
	RequireChain bool
}

// ekNeeds are the attributes of an endorsement key that proves anything.
const ekNeeds = quote.FixedTPM | quote.FixedParent | quote.SensitiveDataOrigin | quote.Restricted | quote.Decrypt

// Begin looks at a request and offers to enrol the host when it gives the
// secret back, which must be 16 to 32 bytes that nobody can guess, on the
// channel of the key. Errors are *EnrolError.
func (r *Rules) Begin(q Request, k Known, channelKey, secret []byte, now time.Time) (Offer, error) {
	if !ValidName(q.Name) {
		return Offer{}, enrolf(EnrolName, "%.70q is no host name", q.Name)
	}
	if len(secret) < 16 || len(secret) > sha256.Size {
		return Offer{}, enrolf(EnrolSecret, "a secret of %d bytes", len(secret))
	}
	ak, ek, err := readKeys(&q)
	if err != nil {
		return Offer{}, err
	}
	o := Offer{EK: q.EK, AKName: ak.Name(), Expires: now.Add(Lifetime), ChannelKey: channelKey, SecretSum: sha256.Sum256(secret),
		Record: Record{Name: q.Name, State: Pending, AKName: ak.Name(), EKName: ek.Name()}}
	if err := k.allow(&o.Record); err != nil {
		return Offer{}, err
	}
	if len(q.EKCertificate) > 0 {
		if o.Certified, err = r.Roots.Chain(q.EKCertificate, ek, now); err != nil {
			return Offer{}, err
		}
	} else {
		o.Certified.Why = "the TPM has no certificate"
	}
	if o.Record.Chained = o.Certified.Chained; o.Record.Chained {
		o.Record.State = Active
	} else if r.RequireChain {
		return Offer{}, enrolf(EKUnknown, "%s", o.Certified.Why)
	}
	if err := k.room(&o.Record); err != nil {
		return Offer{}, err
	}
	return o, nil
}

func readKeys(r *Request) (ak, ek *quote.Public, err error) {
	if ak, err = quote.ParsePublic(r.AK); err != nil {
		return nil, nil, enrolf(AKMalformed, "%v", err)
	}
	if !signsQuotesOnly(ak.Attributes) {
		return nil, nil, enrolf(AKAttributes, "attributes %#x", uint32(ak.Attributes))
	}
	if ek, err = quote.ParsePublic(r.EK); err != nil {
		return nil, nil, enrolf(EKMalformed, "%v", err)
	}
	if !ek.Attributes.Has(ekNeeds) || ek.Attributes.Has(quote.Sign) {
		return nil, nil, enrolf(EKAttributes, "attributes %#x", uint32(ek.Attributes))
	}
	return ak, ek, nil
}

// maxPending bounds the hosts that wait for an operator: anyone can make a TPM in
// software, and a name for it.
const maxPending = 10_000

// allow keeps one name to one key. A host that waits may ask again.
func (k *Known) allow(r *Record) error {
	if k.EKOwner != "" && k.EKOwner != r.Name {
		return enrolf(EnrolEK, "the TPM is enrolled as %s", k.EKOwner)
	}
	if h := k.Host; h == nil || h.Reenrol || h.waits(r) {
		return nil
	}
	return enrolf(EnrolKnown, "%s is enrolled; an operator must allow it again", r.Name)
}

// room refuses one more that waits. A TPM that a root vouches for does not wait.
func (k *Known) room(r *Record) error {
	if k.Host == nil && !r.Chained && k.Pending >= maxPending {
		return enrolf(EnrolBusy, "%d hosts wait for an operator", maxPending)
	}
	return nil
}

// waits reports whether the host is the one of a record, and waits already.
func (h *Host) waits(r *Record) bool {
	return h.Record.State == Pending && bytes.Equal(h.Record.EKName, r.EKName) && bytes.Equal(h.Record.AKName, r.AKName)
}

// Finish takes the secret that the machine has decrypted, by which it proves
// that both keys are in one TPM, and gives the host that is now enrolled: active,
// or waiting for an operator. One that waits already is given as it was. Whoever calls must have taken the offer out of its
// store, so that it is answered once, rightly or not. Errors are *EnrolError.
func (o *Offer) Finish(k Known, channelKey, secret []byte, now time.Time) (Host, error) {
	got := sha256.Sum256(secret)
	switch {
	case !bytes.Equal(channelKey, o.ChannelKey):
		return Host{}, enrolf(EnrolSecret, "the offer was made on another channel")
	case now.After(o.Expires):
		return Host{}, enrolf(EnrolSecret, "answered after %s", Lifetime)
	case subtle.ConstantTimeCompare(got[:], o.SecretSum[:]) != 1:
		return Host{}, enrolf(EnrolSecret, "not the secret that was sent")
	}
	if err := k.allow(&o.Record); err != nil { // another may have come before
		return Host{}, err
	}
	if err := k.room(&o.Record); err != nil {
		return Host{}, err
	}
	if old := k.Host; old != nil && !old.Reenrol && old.waits(&o.Record) {
		return *old, nil // asking again is no approval, whoever vouches for the TPM by now
	}
	h := Host{Record: o.Record, EK: o.EK, Certified: o.Certified}
	h.Record.Enrolled = now
	if old := k.Host; old != nil {
		if !bytes.Equal(old.Record.EKName, o.Record.EKName) {
			h.Record.State = Pending // whoever came first; an operator looks
		}
		h.Record.Environment, h.Record.Machine, h.Record.Floor = old.Record.Environment, old.Record.Machine, old.Record.Floor // the name's, not the TPM's
	}
	return h, nil
}

// Approve lets a host in that was waiting: an operator vouches for its TPM.
func (h *Host) Approve() error {
	if h.Record.State != Pending {
		return enrolf(EnrolName, "%s is %s, not waiting", h.Record.Name, h.Record.State)
	}
	h.Record.State = Active
	return nil
}

// Revoke puts a host out. Its name and its TPM stay taken until Allow.
func (h *Host) Revoke() { h.Record.State, h.Reenrol = Revoked, false }

// Allow lets a known name be enrolled once more, by any TPM that no other name
// has: after a TPM was cleared, or a mainboard replaced. A TPM that is new to
// the name then waits for approval, whoever has certified it.
func (h *Host) Allow() { h.Reenrol = true }

// Baseline takes the firmware of a host as it is in a verdict's evidence: an
// operator has accepted it, or it is the host's first verdict. Registers that
// were not quoted are not judged.
func (h *Host) Baseline(values map[pcr.Bank]map[int]pcr.Digest, version uint64) {
	h.Record.Firmware = map[pcr.Bank]map[int]pcr.Digest{}
	for bank, registers := range values {
		accepted := map[int]pcr.Digest{}
		for _, i := range []int{0, 2} {
			if v := registers[i]; v != nil {
				accepted[i] = v
			}
		}
		h.Record.Firmware[bank] = accepted
	}
	h.Record.FirmwareVersion = version
}

// Count takes the version floor's counter as it is in a trusted verdict: its base
// is bound by the first, and the floor follows it upwards. It says what is new,
// for the record; nothing is "".
func (h *Host) Count(v *Verdict) string {
	c, old := v.Counter, h.Record.Counter
	if !v.Trusted || c == nil || old != nil && old.Base == c.Base && old.Value == c.Value {
		return ""
	}
	h.Record.Counter = c
	said := fmt.Sprintf("the TPM's counter stands at %d", c.Value)
	if old == nil || old.Base != c.Base {
		said += fmt.Sprintf(", its base is %d", c.Base)
	}
	if floor := c.Floor(); floor > h.Record.Floor {
		said += fmt.Sprintf(": from %d to %d", h.Record.Floor, floor)
		h.Record.Floor = floor
	}
	return said
}

// Judged keeps the verdict on a host's evidence. One that is not Proven says
// nothing about the host.
func (h *Host) Judged(v *Verdict) {
	h.Trusted, h.At = v.Trusted, v.At
	if v.Trusted {
		h.LastSeen = &LastSeen{Clock: v.Clock, At: v.At}
	}
}

// unproven are the reasons with which anybody's evidence can be refused.
var unproven = map[Code]bool{EvidenceMalformed: true, HostUnknown: true, HostPending: true, HostRevoked: true, AKMalformed: true, AKAttributes: true, AKKey: true,
	EKKey: true, QuoteMalformed: true, QuoteTrailing: true, QuoteMagic: true, QuoteType: true, QuoteSignature: true, QuoteHash: true, QuoteNonce: true, NonceExpired: true}

// Proven reports whether the evidence was the host's own and answered the
// challenge in time. Whoever knows a host's name can send other evidence under
// it, which must not change what is known about the host.
func (v *Verdict) Proven() bool { return v.Host != "" && !unproven[v.Reason()] }

// Standing is what is known about a host now.
type Standing string

// The standings of a host.
const (
	StandingTrusted Standing = "trusted"
	StandingRefused Standing = "refused"
	StandingUnknown Standing = "unknown" // silent, or never heard
)

// silence is how many intervals a host may be silent.
const silence = 3

// Standing of a host that should send evidence at each interval: a verdict is
// of worth for three, then nothing is known.
func (h *Host) Standing(interval time.Duration, now time.Time) Standing {
	switch {
	case h.At.IsZero() || now.Sub(h.At) > silence*interval:
		return StandingUnknown
	case h.Trusted && h.Record.State == Active:
		return StandingTrusted
	}
	return StandingRefused
}

// ValidName reports whether a name is a host name in lower case (RFC 1123).
func ValidName(s string) bool {
	if len(s) == 0 || len(s) > 63 || s[0] == '-' || s[0] == '.' || s[len(s)-1] == '-' || s[len(s)-1] == '.' {
		return false
	}
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.') {
			return false
		}
	}
	return true
}
