package audit

import (
	"errors"
	"fmt"

	"github.com/ingot-os/ingot/internal/jsondoc"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/quote"
)

// Judged is a case, its verdict, and the documents that the case's references
// were read from.
type Judged struct {
	Case       attest.Case
	References []Digest // of the documents, in the order of Case.References
	Verdict    attest.Verdict
}

// Blob is a content with its name.
type Blob struct {
	Sum  Digest
	Data []byte
}

func blob(data []byte) Blob { return Blob{Sum(data), data} }

// evidence is a blob: what evidence says beside the quote. It is the same until
// a register changes.
type evidence struct {
	AK            []byte                          `json:"ak"`
	EK            []byte                          `json:"ek,omitempty"`
	EKCertificate []byte                          `json:"ekCertificate,omitempty"`
	PCRs          map[pcr.Bank]map[int]pcr.Digest `json:"pcrs"`
	EventLog      Digest                          `json:"eventLog"` // a blob
	InitLog       Digest                          `json:"initLog,omitzero"`
	Firmware      string                          `json:"firmware,omitempty"`
}

// setting is a blob: what the server knew and demanded.
type setting struct {
	Record     *attest.Record `json:"record"`
	Policy     attest.Policy  `json:"policy"`
	References []Digest       `json:"references"` // blobs
}

// New makes the record of a verdict, not yet sealed, and the blobs that it
// names. Those of the references are not among them: whoever loads a release
// keeps its document.
func New(j Judged) (*Record, []Blob, error) {
	c, v := &j.Case, &j.Verdict
	if c.Evidence == nil || c.Record == nil || len(c.References) != len(j.References) {
		return nil, nil, errors.New("record verdict: no evidence, no host or not the documents of the references")
	}
	e := c.Evidence
	log := blob(e.EventLog)
	blobs := []Blob{log}
	body := evidence{AK: e.AK, EK: e.EK, EKCertificate: e.EKCertificate, PCRs: e.PCRs, EventLog: log.Sum, Firmware: e.Firmware}
	if len(e.InitLog) > 0 {
		init := blob(e.InitLog)
		blobs, body.InitLog = append(blobs, init), init.Sum
	}
	r := &Record{Host: c.Record.Name, Time: c.Now, Kind: KindVerdict, Trusted: v.Trusted, Code: v.Reason(),
		Quote: e.Quote, Signature: e.Signature, Floor: e.Floor, Challenge: &c.Challenge, LastSeen: c.LastSeen}
	if len(v.Findings) > 0 {
		r.Detail = v.Findings[0].Detail
	}
	for to, from := range map[*Digest]any{&r.Evidence: body, &r.Context: setting{c.Record, c.Policy, j.References}} {
		data, err := encode(from)
		if err != nil {
			return nil, nil, fmt.Errorf("record verdict: %w", err)
		}
		b := blob(data)
		blobs, *to = append(blobs, b), b.Sum
	}
	return r, blobs, nil
}

// Get gives the blob of a digest.
type Get func(Digest) ([]byte, error)

// Case is the case of a verdict as it was judged. Blobs are compared with their
// names.
func Case(r *Record, get Get) (c attest.Case, err error) {
	if r.Kind != KindVerdict || r.Challenge == nil {
		return c, fmt.Errorf("read case: record %d of host %s is of kind %s", r.Seq, r.Host, r.Kind)
	}
	f := fetcher{get: get}
	var body evidence
	var around setting
	f.document("evidence", r.Evidence, &body)
	f.document("context", r.Context, &around)
	e := &attest.Evidence{Format: attest.Format, Nonce: r.Challenge.Nonce, AK: body.AK, EK: body.EK, EKCertificate: body.EKCertificate,
		Quote: r.Quote, Signature: r.Signature, PCRs: body.PCRs, Floor: r.Floor, Firmware: body.Firmware}
	e.EventLog = f.blob("event log", body.EventLog)
	if !body.InitLog.IsZero() {
		e.InitLog = f.blob("log of init", body.InitLog)
	}
	if q, err := quote.Parse(r.Quote); err == nil {
		e.Clock = q.Clock // what a machine says beside it is for people
	}
	c = attest.Case{Evidence: e, Record: around.Record, Policy: around.Policy, LastSeen: r.LastSeen, Challenge: *r.Challenge, Now: r.Time}
	for _, d := range around.References {
		var ref attest.Reference
		f.document("reference", d, &ref)
		c.References = append(c.References, ref)
	}
	if f.err == nil && (c.Record == nil || c.Record.Name != r.Host) {
		f.err = fmt.Errorf("context: it is about another host: %w", ErrBroken)
	}
	if f.err != nil {
		return attest.Case{}, fmt.Errorf("read case: record %d of host %s: %w", r.Seq, r.Host, f.err)
	}
	return c, nil
}

// fetcher keeps the first error.
type fetcher struct {
	get Get
	err error
}

func (f *fetcher) blob(what string, d Digest) []byte {
	if f.err != nil {
		return nil
	}
	data, err := f.get(d)
	switch {
	case err != nil:
		f.err = fmt.Errorf("%s: %w", what, err)
	case Sum(data) != d:
		f.err = fmt.Errorf("%s: its content is not that of the name %s: %w", what, d, ErrBroken)
	}
	return data
}

func (f *fetcher) document(what string, d Digest, v any) {
	data := f.blob(what, d)
	if f.err != nil {
		return
	}
	if err := jsondoc.Unmarshal(data, v); err != nil {
		f.err = fmt.Errorf("%s: %w", what, err)
	}
}

// ErrDiffers is in the chain of errors that say: judged again, the case has
// another outcome than the record.
var ErrDiffers = errors.New("the verdict differs from the record")

// Replay judges the case of a record again. The error wraps ErrDiffers when the
// outcome is another one; the verdict is given then, too.
func Replay(r *Record, get Get) (attest.Verdict, error) {
	c, err := Case(r, get)
	if err != nil {
		return attest.Verdict{}, err
	}
	return Again(r, c)
}

// Again is Replay of a case that was read already.
func Again(r *Record, c attest.Case) (attest.Verdict, error) {
	v := attest.Verify(c)
	if v.Trusted != r.Trusted || v.Reason() != r.Code {
		return v, fmt.Errorf("record %d of host %s: trusted %v %s, now %v %s: %w", r.Seq, r.Host, r.Trusted, r.Code, v.Trusted, v.Reason(), ErrDiffers)
	}
	return v, nil
}
