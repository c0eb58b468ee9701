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

// Offer is an enrolment that waits for proof: the secret, encrypted to EK for
// the key AKName (MakeCredential), must come back from the machine.
type Offer struct {
	EK     []byte
	AKName []byte
	// Certified tells an operator who vouches for the TPM.
	Certified Certified
	Expires   time.Time

	record Record
	secret [sha256.Size]byte
}

// Host is an enrolled host with what was last seen of it.
type Host struct {
	Record   Record    `json:"record"`
	LastSeen *LastSeen `json:"lastSeen,omitempty"`
	// Trusted is the newest verdict, At its time.
	Trusted bool      `json:"trusted"`
	At      time.Time `json:"at,omitzero"`
	// Reenrol is set by an operator and lets the name be enrolled once more.
	Reenrol bool `json:"reenrol,omitempty"`
}

// Hosts is the state of enrolment. Its methods say what changed; keeping it
// over a restart is for the caller. It is for one goroutine.
type Hosts struct {
	Roots Roots
	// RequireChain refuses what no root vouches for; else it waits for an
	// operator.
	RequireChain bool

	hosts map[string]*Host
	names map[string]string // by the name of the EK
	open  map[string]Offer  // by host
}

// Load brings back a host that was kept.
func (h *Hosts) Load(host Host) {
	if h.hosts == nil {
		h.hosts, h.names = map[string]*Host{}, map[string]string{}
	}
	h.hosts[host.Record.Name] = &host
	h.names[string(host.Record.EKName)] = host.Record.Name
}

// Get gives a host by name.
func (h *Hosts) Get(name string) (Host, bool) {
	host, ok := h.hosts[name]
	if !ok {
		return Host{}, false
	}
	return *host, true
}

// ekNeeds are the attributes of an endorsement key that proves anything.
const ekNeeds = quote.FixedTPM | quote.FixedParent | quote.SensitiveDataOrigin | quote.Restricted | quote.Decrypt

// Begin looks at a request and offers to enrol the host when it gives the
// secret back, which must be 16 to 32 bytes that nobody can guess. An earlier
// offer to the name is void. Errors are *EnrolError.
func (h *Hosts) Begin(r Request, secret []byte, now time.Time) (Offer, error) {
	if !validName(r.Name) {
		return Offer{}, enrolf(EnrolName, "%.70q is no host name", r.Name)
	}
	if len(secret) < 16 || len(secret) > sha256.Size {
		return Offer{}, enrolf(EnrolSecret, "a secret of %d bytes", len(secret))
	}
	ak, ek, err := readKeys(r)
	if err != nil {
		return Offer{}, err
	}
	if err := h.allowed(r.Name, ak.Name(), ek.Name()); err != nil {
		return Offer{}, err
	}
	o := Offer{EK: r.EK, AKName: ak.Name(), Expires: now.Add(Lifetime), secret: sha256.Sum256(secret),
		record: Record{Name: r.Name, State: Pending, AKName: ak.Name(), EKName: ek.Name()}}
	if len(r.EKCertificate) > 0 {
		if o.Certified, err = h.Roots.Chain(r.EKCertificate, ek, now); err != nil {
			return Offer{}, err
		}
	} else {
		o.Certified.Why = "the TPM has no certificate"
	}
	if o.record.Chained = o.Certified.Chained; o.record.Chained {
		o.record.State = Active
	} else if h.RequireChain {
		return Offer{}, enrolf(EKUnknown, "%s", o.Certified.Why)
	}
	return o, h.offer(o, now)
}

func readKeys(r Request) (ak, ek *quote.Public, err error) {
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

// allowed keeps one name to one key. A host that waits may ask again.
func (h *Hosts) allowed(name string, akName, ekName []byte) error {
	if other, known := h.names[string(ekName)]; known && other != name {
		return enrolf(EnrolEK, "the TPM is enrolled as %s", other)
	}
	host := h.hosts[name]
	switch {
	case host == nil && h.pending() >= maxPending:
		return enrolf(EnrolBusy, "%d hosts wait for an operator", maxPending)
	case host == nil || host.Reenrol:
		return nil
	case host.Record.State == Pending && bytes.Equal(host.Record.EKName, ekName) && bytes.Equal(host.Record.AKName, akName):
		return nil
	}
	return enrolf(EnrolKnown, "%s is enrolled; an operator must allow it again", name)
}

// maxPending bounds the hosts that wait for an operator: anyone can make a TPM in
// software, and a name for it.
const maxPending = 10_000

func (h *Hosts) pending() (n int) {
	for _, host := range h.hosts {
		if host.Record.State == Pending {
			n++
		}
	}
	return n
}

func (h *Hosts) offer(o Offer, now time.Time) error {
	if h.open == nil {
		h.open = map[string]Offer{}
	}
	if _, known := h.open[o.record.Name]; !known && len(h.open) >= maxOpen {
		for name, x := range h.open {
			if now.After(x.Expires) {
				delete(h.open, name)
			}
		}
		if len(h.open) >= maxOpen {
			return enrolf(EnrolBusy, "%d enrolments are open", len(h.open))
		}
	}
	h.open[o.record.Name] = o
	return nil
}

// Finish takes the secret that the machine has decrypted, by which it proves
// that both keys are in one TPM, and gives the host that is now enrolled: active,
// or waiting for an operator. An offer is answered once, rightly or not.
func (h *Hosts) Finish(name string, secret []byte, now time.Time) (Host, error) {
	o, ok := h.open[name]
	delete(h.open, name)
	got := sha256.Sum256(secret)
	switch {
	case !ok:
		return Host{}, enrolf(EnrolSecret, "no enrolment of %.70q is open", name)
	case now.After(o.Expires):
		return Host{}, enrolf(EnrolSecret, "answered after %s", Lifetime)
	case subtle.ConstantTimeCompare(got[:], o.secret[:]) != 1:
		return Host{}, enrolf(EnrolSecret, "not the secret that was sent")
	}
	if err := h.allowed(name, o.record.AKName, o.record.EKName); err != nil { // another may have come before
		return Host{}, err
	}
	if old := h.hosts[name]; old != nil {
		if !bytes.Equal(old.Record.EKName, o.record.EKName) {
			o.record.State = Pending // whoever came first; an operator looks
		}
		delete(h.names, string(old.Record.EKName))
	}
	o.record.Enrolled = now
	h.Load(Host{Record: o.record})
	return *h.hosts[name], nil
}

// Approve lets a host in that was waiting: an operator vouches for its TPM.
func (h *Hosts) Approve(name string) (Host, error) {
	host := h.hosts[name]
	if host == nil || host.Record.State != Pending {
		return Host{}, enrolf(EnrolName, "%.70q is not waiting", name)
	}
	host.Record.State = Active
	return *host, nil
}

// Revoke puts a host out. Its name and its TPM stay taken until Allow.
func (h *Hosts) Revoke(name string) (Host, error) {
	host := h.hosts[name]
	if host == nil {
		return Host{}, enrolf(EnrolName, "%.70q is not enrolled", name)
	}
	host.Record.State = Revoked
	delete(h.open, name)
	return *host, nil
}

// Allow lets a known name be enrolled once more, by any TPM that no other name
// has: after a TPM was cleared, or a mainboard replaced. A TPM that is new to
// the name then waits for approval, whoever has certified it.
func (h *Hosts) Allow(name string) (Host, error) {
	host := h.hosts[name]
	if host == nil {
		return Host{}, enrolf(EnrolName, "%.70q is not enrolled", name)
	}
	host.Reenrol = true
	return *host, nil
}

// Baseline takes the firmware of a host as it is in a verdict's evidence: an
// operator has accepted it.
func (h *Hosts) Baseline(name string, values map[pcr.Bank]map[int]pcr.Digest, version uint64) (Host, error) {
	host := h.hosts[name]
	if host == nil {
		return Host{}, enrolf(EnrolName, "%.70q is not enrolled", name)
	}
	host.Record.Firmware = map[pcr.Bank]map[int]pcr.Digest{}
	for bank, registers := range values {
		host.Record.Firmware[bank] = map[int]pcr.Digest{0: registers[0], 2: registers[2]}
	}
	host.Record.FirmwareVersion = version
	return *host, nil
}

// Judged keeps the verdict on a host's evidence.
func (h *Hosts) Judged(v Verdict) (Host, bool) {
	host := h.hosts[v.Host]
	if host == nil {
		return Host{}, false
	}
	host.Trusted, host.At = v.Trusted, v.At
	if v.Trusted {
		host.LastSeen = &LastSeen{Clock: v.Clock, At: v.At}
	}
	return *host, true
}

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

// validName reports whether a name is a host name in lower case (RFC 1123).
func validName(s string) bool {
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
