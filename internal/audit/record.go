// Package audit is the record of what a server has judged and who decided what:
// about 1 KB for a verdict, enough to judge the case again years later with the
// same result.
//
// A record is one line of compact JSON. What stays the same over many verdicts
// (the event log of a boot, keys, the host's record, policy, references) is in
// blobs that the record names by SHA-256, so each is kept once. Each record
// carries the SHA-256 of the record before it of the same host: whoever removes
// or edits one breaks the chain (Chain). The chain does not tell that its newest
// records are missing, or that somebody with the whole database has written all
// of it anew: keep the head that a server prints elsewhere for that.
//
// The package knows no database; package fleet keeps records and blobs.
//
// Shape of use:
//
//	r, blobs, err := audit.New(audit.Judged{Case: c, References: sums, Verdict: v})
//	line, sum := r.Seal(7, previous)
//	...
//	r, err := chain.Next(line)
//	v, err := audit.Replay(r, get)
package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/jsondoc"
)

// Digest is a SHA-256; in JSON 64 hexadecimal digits.
type Digest [sha256.Size]byte

// Sum is the digest of data.
func Sum(data []byte) Digest { return sha256.Sum256(data) }

func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// IsZero reports whether there is no digest.
func (d Digest) IsZero() bool { return d == Digest{} }

// MarshalText gives the digits.
func (d Digest) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, d[:]), nil }

// UnmarshalText reads them.
func (d *Digest) UnmarshalText(text []byte) error {
	if len(text) != 2*len(d) {
		return fmt.Errorf("digest of %d digits, want %d", len(text), 2*len(d))
	}
	_, err := hex.Decode(d[:], text)
	return err
}

// Kind is what a record is about.
type Kind string

// The kinds of records.
const (
	KindVerdict  Kind = "verdict"  // on evidence that was proven to be the host's
	KindRejected Kind = "rejected" // evidence under the host's name that was not
	KindSilent   Kind = "silent"   // nothing came for three intervals: unknown from here on
	KindEnrolled Kind = "enrolled"
	KindApproved Kind = "approved" // by an operator, as all that follow
	KindAllowed  Kind = "allowed"  // to be enrolled again
	KindRevoked  Kind = "revoked"
	KindFirmware Kind = "firmware" // accepted as it is; without an operator at the first verdict
	KindMachine  Kind = "machine"  // a machine configuration was registered
	KindFloor    Kind = "floor"    // raised; without an operator by the TPM's counter
	KindAssigned Kind = "assigned" // a release, or none any more; without an operator the end of an override
	KindOrder    Kind = "order"    // by an operator, of what it boots over the network
	KindSlots    Kind = "slots"    // what the host says about them has changed
	KindDrift    Kind = "drift"    // the host says that a slot's bytes are not those that were written, or are again
)

// Record is one entry. Quote to Context are those of a verdict.
type Record struct {
	Seq  int64     `json:"seq"` // of the host, from 1
	Host string    `json:"host"`
	Time time.Time `json:"time"`
	Prev Digest    `json:"prev,omitzero"` // the host's record before
	Kind Kind      `json:"kind"`

	Trusted bool        `json:"trusted,omitempty"`
	Code    attest.Code `json:"code,omitempty"`   // why not
	Detail  string      `json:"detail,omitempty"` // for people
	By      string      `json:"by,omitempty"`     // the operator

	AKName []byte `json:"akName,omitempty"` // of an enrolment: whose evidence counts from here on

	Quote     []byte             `json:"quote,omitempty"`     // TPMS_ATTEST
	Signature []byte             `json:"signature,omitempty"` // TPMT_SIGNATURE
	Floor     *attest.FloorProof `json:"floor,omitempty"`
	Challenge *attest.Challenge  `json:"challenge,omitempty"`
	LastSeen  *attest.LastSeen   `json:"lastSeen,omitempty"`
	Evidence  Digest             `json:"evidence,omitzero"` // a blob: the rest of the evidence
	Context   Digest             `json:"context,omitzero"`  // a blob: host record, policy, references
}

// maxDetail bounds Detail in bytes.
const maxDetail = 300

// MaxRecord bounds a line in bytes. Verdicts have about 1,000, with a counter of
// the version floor 1,400; keys of RSA sign 256 bytes.
const MaxRecord = 16 << 10

// Seal gives the record its place in the host's chain, and the line and digest
// of it: the line is what is kept, the digest is Prev of the next one.
func (r *Record) Seal(seq int64, prev Digest) (line []byte, sum Digest, err error) {
	r.Seq, r.Prev, r.Time = seq, prev, r.Time.UTC().Round(0)
	if len(r.Detail) > maxDetail {
		r.Detail = string(bytes.ToValidUTF8([]byte(r.Detail[:maxDetail]), nil))
	}
	if line, err = encode(r); err != nil {
		return nil, sum, fmt.Errorf("seal record: %w", err)
	}
	if len(line) > MaxRecord {
		return nil, sum, fmt.Errorf("seal record: %d bytes, at most %d are kept", len(line), MaxRecord)
	}
	return line, Sum(line), nil
}

// encode gives JSON without a newline, and with < and > as they are.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// Parse reads a line. Unknown fields are an error: a later format is not half
// understood.
func Parse(line []byte) (*Record, error) {
	r := new(Record)
	if len(line) > MaxRecord {
		return nil, fmt.Errorf("read record: %d bytes are more than %d", len(line), MaxRecord)
	}
	if err := jsondoc.Unmarshal(line, r); err != nil {
		return nil, fmt.Errorf("read record: %w", err)
	}
	return r, nil
}

// ErrBroken is in the chain of errors that say: records were removed, added or
// edited.
var ErrBroken = errors.New("the chain of records is broken")

// Chain follows the records of hosts, from the first of each. The zero value is
// ready.
type Chain struct {
	heads map[string]Head
}

// Head is the newest record of a host.
type Head struct {
	Seq int64
	Sum Digest
}

// Next reads the next line of any host. The error wraps ErrBroken when it is
// not what follows.
func (c *Chain) Next(line []byte) (*Record, error) {
	r, err := Parse(line)
	if err != nil {
		return nil, err
	}
	head := c.heads[r.Host]
	switch {
	case r.Seq != head.Seq+1:
		return nil, fmt.Errorf("record %d of host %s follows on %d: %w", r.Seq, r.Host, head.Seq, ErrBroken)
	case r.Prev != head.Sum:
		return nil, fmt.Errorf("record %d of host %s names %s before it, which is %s: %w", r.Seq, r.Host, r.Prev, head.Sum, ErrBroken)
	}
	if c.heads == nil {
		c.heads = map[string]Head{}
	}
	c.heads[r.Host] = Head{r.Seq, Sum(line)}
	return r, nil
}

// Head is the newest record of a host that Next has read; zero for none.
func (c *Chain) Head(host string) Head { return c.heads[host] }
