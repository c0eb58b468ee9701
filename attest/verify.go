// Package attest judges evidence of a machine's boot: a quote by its TPM and
// the event log that explains the quoted registers, against the measurements
// that a release is known to make (Verify). It also holds the rules by which a
// host becomes known in the first place (Rules, Chain) and by which a
// challenge is used once (Open).
//
// It follows the TCG PC Client Platform Firmware Profile and the TPM 2.0
// Library specification; docs/verdicts.md lists the reason codes. The package is
// pure: time, nonces and secrets are arguments.
//
// "Trusted" means, above firmware: this TPM, this boot, exactly this release,
// nothing else loaded before it. It does not mean more: a wire tap between TPM
// and processor, a reset of a discrete TPM or a stolen key give valid quotes
// over chosen registers. What was not checked is in each verdict, and a verdict
// for which nothing was compared is a refusal.
//
// Shape of use:
//
//	e, err := attest.ParseEvidence(b)
//	v := attest.Verify(attest.Case{Evidence: e, References: refs, Record: record, Challenge: c, Now: now})
//	if !v.Trusted {
//		return v.Findings
//	}
package attest

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"github.com/ingot-os/ingot/attest/eventlog"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/quote"
)

// Case is all that a verdict depends on: the same case always gets the same
// verdict, years later too.
type Case struct {
	Evidence   *Evidence   `json:"evidence"`
	References []Reference `json:"references"` // of all releases that the host may run
	Record     *Record     `json:"record"`     // nil: unknown host
	Policy     Policy      `json:"policy"`
	LastSeen   *LastSeen   `json:"lastSeen,omitempty"` // nil: never
	Challenge  Challenge   `json:"challenge"`
	Now        time.Time   `json:"now"`
}

// Finding is one thing that was found.
type Finding struct {
	Code    Code   `json:"code"`
	PCR     int    `json:"pcr"`               // -1: about none
	Offset  int64  `json:"offset,omitempty"`  // of the event in its log
	Section string `json:"section,omitempty"` // of the image: ".initrd"
	Detail  string `json:"detail"`
}

func (f Finding) String() string {
	s := string(f.Code)
	if f.PCR >= 0 {
		s += fmt.Sprintf(": PCR %d", f.PCR)
	}
	if f.Section != "" {
		s += ": section " + f.Section
	}
	return s + ": " + f.Detail
}

// Register is what came of one register.
type Register struct {
	PCR     int         `json:"pcr"`
	Log     pcr.Verdict `json:"log"`     // whether the log explains its value
	Against string      `json:"against"` // what its events were compared with; empty: with nothing
}

// Verdict is the judgement of a case.
type Verdict struct {
	Trusted  bool      `json:"trusted"`
	Findings []Finding `json:"findings,omitempty"` // why not, the most telling first
	Notes    []Finding `json:"notes,omitempty"`    // reported, not refused
	Host     string    `json:"host,omitempty"`
	At       time.Time `json:"at"`

	// Release, Version, Epoch and Boot are those of the reference that
	// explains the log best; on a refusal they are only a guess.
	Release string `json:"release,omitempty"`
	Version string `json:"version,omitempty"`
	Epoch   int64  `json:"epoch,omitempty"`
	Boot    string `json:"boot,omitempty"`

	Bank              string      `json:"bank,omitempty"`
	SecureBoot        bool        `json:"secureBoot"`
	FailedBootOptions int         `json:"failedBootOptions"`
	Slot              string      `json:"slot,omitempty"`
	SlotBy            string      `json:"slotBy,omitempty"` // "init": stated by measured init; "log": by the log alone
	Statement         *Statement  `json:"statement,omitempty"`
	MachineRegistered bool        `json:"machineRegistered"` // the machine configuration is the registered one
	Debug             bool        `json:"debug,omitempty"`
	Clock             quote.Clock `json:"clock"`
	Firmware          uint64      `json:"firmware,omitempty"` // version of the TPM's firmware
	Counter           *Counter    `json:"counter,omitempty"`  // of the version floor, as it stands now

	Registers  []Register `json:"registers,omitempty"`
	Compared   int        `json:"compared"` // registers compared with a release
	NotChecked []string   `json:"notChecked,omitempty"`
}

// Reason is the most telling code of a refusal, empty when trusted.
func (v *Verdict) Reason() Code {
	if len(v.Findings) == 0 {
		return ""
	}
	return v.Findings[0].Code
}

// Verify judges a case. It never fails: what cannot be read is a refusal.
func Verify(c Case) Verdict {
	k := &check{c: c, v: Verdict{At: c.Now}}
	for _, stage := range []func(){k.identity, k.authentic, k.fresh, k.registers, k.replay, k.grammar, k.releases, k.counter} {
		if stage(); len(k.v.Findings) > 0 && !k.walking {
			break
		}
	}
	k.v.NotChecked = k.notChecked()
	if len(k.v.Findings) == 0 && k.v.Compared == 0 {
		k.refuse(PCRNone, -1, "0 registers compared")
	}
	k.v.Trusted = len(k.v.Findings) == 0
	return k.v
}

// check is a case while it is judged.
type check struct {
	c Case
	v Verdict

	key     *quote.Public
	quote   *quote.Quote
	sigHash pcr.Bank
	bank    pcr.Bank
	quoted  quote.Selection
	state   *pcr.State
	events  [pcr.Count][]*eventlog.Event // by register, the firmware's and then init's
	walking bool                         // from here on findings are collected
	skipped []string

	policyKeys *[]Finding // nil: not compared yet
}

// maxVerdict bounds the findings of a verdict.
const maxVerdict = 100

func (k *check) refuse(code Code, register int, format string, args ...any) {
	if len(k.v.Findings) >= maxVerdict {
		return
	}
	k.v.Findings = append(k.v.Findings, Finding{Code: code, PCR: register, Detail: fmt.Sprintf(format, args...)})
}

func (k *check) note(code Code, register int, format string, args ...any) {
	if len(k.v.Notes) >= maxVerdict {
		return
	}
	k.v.Notes = append(k.v.Notes, Finding{Code: code, PCR: register, Detail: fmt.Sprintf(format, args...)})
}

// akNeeds are the attributes without which a key could sign a made-up quote, or
// sign it elsewhere.
const akNeeds = quote.FixedTPM | quote.FixedParent | quote.SensitiveDataOrigin | quote.Restricted | quote.Sign

func signsQuotesOnly(a quote.Attributes) bool { return a.Has(akNeeds) && !a.Has(quote.Decrypt) }

// identity asks who speaks: an enrolled host with its enrolled key.
func (k *check) identity() {
	e, r := k.c.Evidence, k.c.Record
	if e == nil {
		k.refuse(EvidenceMalformed, -1, "no evidence")
		return
	}
	var err error
	if k.key, err = quote.ParsePublic(e.AK); err != nil {
		k.refuse(AKMalformed, -1, "%v", err)
		return
	}
	if a := k.key.Attributes; !signsQuotesOnly(a) {
		k.refuse(AKAttributes, -1, "attributes %#x of the attestation key", uint32(a))
		return
	}
	if r == nil {
		k.refuse(HostUnknown, -1, "the key %x is not enrolled", k.key.Name())
		return
	}
	k.v.Host = r.Name
	switch {
	case !bytes.Equal(r.AKName, k.key.Name()):
		k.refuse(AKKey, -1, "key %x, enrolled is %x", k.key.Name(), r.AKName)
	case r.State == Pending:
		k.refuse(HostPending, -1, "host %s waits for approval", r.Name)
	case r.State != Active:
		k.refuse(HostRevoked, -1, "host %s is %s", r.Name, r.State)
	case len(e.EK) > 0 && len(r.EKName) > 0 && !k.enrolledEK(e.EK):
		k.refuse(EKKey, -1, "another endorsement key than the enrolled one")
	}
}

func (k *check) enrolledEK(b []byte) bool {
	ek, err := quote.ParsePublic(b)
	return err == nil && bytes.Equal(ek.Name(), k.c.Record.EKName)
}

// authentic asks whether the TPM made this quote, and for this challenge.
func (k *check) authentic() {
	e := k.c.Evidence
	sig, err := quote.ParseSignature(e.Signature)
	if err != nil {
		k.refuse(QuoteMalformed, -1, "%v", err)
		return
	}
	switch err := k.key.Verify(e.Quote, sig); {
	case errors.Is(err, quote.ErrWeakHash):
		k.refuse(QuoteHash, -1, "signed over %s", sig.Hash)
		return
	case err != nil:
		k.refuse(QuoteSignature, -1, "%v", err)
		return
	}
	k.sigHash = sig.Hash
	k.quote, err = quote.Parse(e.Quote)
	switch {
	case errors.Is(err, quote.ErrMagic):
		k.refuse(QuoteMagic, -1, "%v", err)
	case errors.Is(err, quote.ErrType):
		k.refuse(QuoteType, -1, "%v", err)
	case errors.Is(err, quote.ErrTrailing):
		k.refuse(QuoteTrailing, -1, "%v", err)
	case err != nil:
		k.refuse(QuoteMalformed, -1, "%v", err)
	case len(k.c.Challenge.Nonce) == 0 || subtle.ConstantTimeCompare(k.quote.ExtraData, k.c.Challenge.ExtraData()) != 1:
		k.refuse(QuoteNonce, -1, "the quote carries %x", k.quote.ExtraData)
	case !k.c.Challenge.Expires.IsZero() && k.c.Now.After(k.c.Challenge.Expires):
		k.refuse(NonceExpired, -1, "answered at %s, valid until %s", k.c.Now.UTC().Format(time.RFC3339), k.c.Challenge.Expires.UTC().Format(time.RFC3339))
	}
}

// fresh asks whether the evidence is later than what was seen before.
func (k *check) fresh() {
	q := k.quote
	k.v.Clock, k.v.Firmware = q.Clock, q.FirmwareVersion
	if last := k.c.LastSeen; last != nil {
		if code, what := after(last.Clock, q.Clock); code != "" {
			k.refuse(code, -1, "%s: %+v after %+v", what, q.Clock, last.Clock)
			return
		}
	} else {
		k.skip("clock: nothing was seen before")
	}
	if q.Clock.RestartCount > 0 && !k.c.Policy.AllowResumed {
		k.refuse(ClockResumed, -1, "restart counter %d", q.Clock.RestartCount)
	}
	if !q.Clock.Safe {
		k.note(ClockUnsafe, -1, "the clock may have gone back by up to %d s", clockLoss/1000)
	}
	if r := k.c.Record; r.FirmwareVersion != 0 && r.FirmwareVersion != q.FirmwareVersion {
		k.refuse(FirmwareChanged, -1, "TPM firmware %#x, enrolled is %#x", q.FirmwareVersion, r.FirmwareVersion)
	}
}

func (k *check) skip(format string, args ...any) {
	k.skipped = append(k.skipped, fmt.Sprintf(format, args...))
}

// What notChecked says about each register, made once.
var comparedWithNothing, notQuoted = func() (a, b [pcr.Count]string) {
	for i := range pcr.Count {
		a[i] = fmt.Sprintf("PCR %d: its events were compared with nothing", i)
		b[i] = fmt.Sprintf("PCR %d: not quoted", i)
	}
	return a, b
}()

// notChecked lists what a reader of the verdict could take for checked.
func (k *check) notChecked() []string {
	out := append(make([]string, 0, len(k.skipped)+17), k.skipped...)
	for _, r := range k.v.Registers {
		if r.Against == "" {
			out = append(out, comparedWithNothing[r.PCR])
		}
	}
	for i := range pcr.Count {
		if k.quote != nil && !k.quoted.Has(i) && i < 16 {
			out = append(out, notQuoted[i])
		}
	}
	return append(out, "firmware below PCR 0, the wires between TPM and processor")
}
