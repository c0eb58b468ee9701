// Package replay judges again what a server has judged: it reads the
// append-only record of a state directory from its beginning, follows the chain
// of each host, and gives every case to package attest once more. The verdict
// must be the one that was recorded, years later too.
//
//	report, err := replay.Run(ctx, store, replay.Options{Since: t})
//	if report.Broken() { ... }
//
// What it finds is a Problem with its place; an error means that the state
// could not be read. Records are numbered over all hosts, so one that was
// removed leaves a gap, and every host with records has an entry that names its
// newest. Limits: nothing in a state shows that all of this was written anew,
// numbers and entries, too: compare Heads with what was kept elsewhere.
package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/audit"
	"github.com/ingot-os/ingot/internal/fleet"
)

// Options select what is judged again. The chain is followed from the first
// record in any case.
type Options struct {
	Host  string    // empty: all hosts
	Since time.Time // zero: from the first record
}

// Problem is one thing that is not as it was recorded.
type Problem struct {
	Kind   Kind        `json:"kind"`
	Host   string      `json:"host"`
	Seq    int64       `json:"seq,omitempty"` // of the record
	Time   time.Time   `json:"time,omitzero"`
	Was    attest.Code `json:"was,omitempty"` // reason then; empty: trusted
	Now    attest.Code `json:"now,omitempty"` // reason now
	Detail string      `json:"detail"`
}

// Kind is a kind of problem.
type Kind string

// The kinds.
const (
	Differs Kind = "differs" // the case has another verdict
	Broken  Kind = "broken"  // a record or a blob was edited, removed or added
	Missing Kind = "missing" // a blob is not there
)

// Head is where the records of a host end.
type Head struct {
	Host    string       `json:"host"`
	Records int64        `json:"records"`
	Sum     audit.Digest `json:"sum"` // SHA-256 of the newest
}

// Report is what was read and found.
type Report struct {
	Records  int       `json:"records"`  // read
	Verdicts int       `json:"verdicts"` // judged again
	Same     int       `json:"same"`     // of them
	First    time.Time `json:"first,omitzero"`
	Last     time.Time `json:"last,omitzero"`
	Heads    []Head    `json:"heads"`
	Problems []Problem `json:"problems"` // in the order of the record
	// More counts problems beyond those that are kept.
	More int `json:"more,omitempty"`

	broken, differs bool
}

// maxProblems bounds what is kept of a state that is broken throughout.
const maxProblems = 1000

// Broken reports whether the record is not whole.
func (r *Report) Broken() bool { return r.broken }

// Differs reports whether a case has another verdict than it had.
func (r *Report) Differs() bool { return r.differs }

func (r *Report) add(p Problem) {
	r.broken = r.broken || p.Kind != Differs
	r.differs = r.differs || p.Kind == Differs
	if len(r.Problems) < maxProblems {
		r.Problems = append(r.Problems, p)
	} else {
		r.More++
	}
}

// ErrNoHost is in the chain of the error of a host that has no record.
var ErrNoHost = errors.New("no record of this host")

// run is one replay.
type run struct {
	ctx    context.Context
	store  fleet.Store
	o      Options
	report *Report
	chains map[string]*chain
	order  []string // hosts, as they appear
	blobs  cache
}

// chain is how far the records of a host were followed.
type chain struct {
	audit.Chain
	ak           []byte // name of the key of the newest enrolment
	head         audit.Head
	want         audit.Head   // what the host's entry names
	known, begun bool         // there was an entry; a record was read
	at           audit.Digest // of the record that it names
	cut          bool         // it was broken: what follows is not linked to anything
}

// Run replays a store.
func Run(ctx context.Context, store fleet.Store, o Options) (*Report, error) {
	r := &run{ctx: ctx, store: store, o: o, report: &Report{Heads: []Head{}, Problems: []Problem{}}, chains: map[string]*chain{}}
	r.blobs = cache{get: func(sum audit.Digest) ([]byte, error) { return store.Blob(ctx, sum) }}
	hosts, err := r.hosts() // first: a server that runs beside only adds records
	if err != nil {
		return nil, fmt.Errorf("replay: %w", err)
	}
	for _, h := range hosts {
		r.chains[h.Record.Name] = &chain{want: h.Head(), known: true}
	}
	if err := store.Records(ctx, fleet.Query{Host: o.Host}, r.line); err != nil {
		return nil, fmt.Errorf("replay: %w", err)
	}
	if o.Host != "" && r.report.Records == 0 && len(hosts) == 0 {
		return nil, fmt.Errorf("replay: host %.70q: %w", o.Host, ErrNoHost)
	}
	if err := r.ends(hosts); err != nil {
		return nil, fmt.Errorf("replay: %w", err)
	}
	for _, name := range r.order {
		h := r.chains[name].head
		r.report.Heads = append(r.report.Heads, Head{name, h.Seq, h.Sum})
	}
	return r.report, nil
}

func (r *run) hosts() ([]*fleet.Host, error) {
	if r.o.Host == "" {
		return r.store.Hosts(r.ctx)
	}
	h, err := r.store.Host(r.ctx, r.o.Host)
	if errors.Is(err, fleet.ErrNotFound) {
		return nil, nil // records of it may still be there
	}
	return []*fleet.Host{h}, err
}

// line takes the next record.
func (r *run) line(line []byte) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	r.report.Records++
	rec, err := audit.Parse(line)
	if err != nil {
		r.report.add(Problem{Kind: Broken, Detail: err.Error()})
		return nil
	}
	if r.report.First.IsZero() {
		r.report.First = rec.Time
	}
	r.report.Last = rec.Time
	r.follow(rec, line)
	if rec.Kind == audit.KindVerdict && !rec.Time.Before(r.o.Since) {
		r.judge(rec)
	}
	return nil
}

// follow checks the record's place. After a break the host's chain is left.
func (r *run) follow(rec *audit.Record, line []byte) {
	c := r.chains[rec.Host]
	if c == nil {
		c = &chain{}
		r.chains[rec.Host] = c
	}
	if !c.begun {
		c.begun = true
		r.order = append(r.order, rec.Host)
	}
	c.head = audit.Head{Seq: rec.Seq, Sum: audit.Sum(line)}
	if rec.Kind == audit.KindEnrolled {
		c.ak = rec.AKName // records of earlier servers have none
	}
	if rec.Seq == c.want.Seq {
		c.at = c.head.Sum
	}
	if c.cut {
		return
	}
	if _, err := c.Next(line); err != nil {
		c.cut = true
		r.report.add(Problem{Kind: Broken, Host: rec.Host, Seq: rec.Seq, Time: rec.Time, Detail: err.Error()})
	}
}

// judge gives the case once more.
func (r *run) judge(rec *audit.Record) {
	r.report.Verdicts++
	v, err := r.again(rec)
	p := Problem{Host: rec.Host, Seq: rec.Seq, Time: rec.Time, Was: rec.Code}
	switch {
	case err == nil:
		r.report.Same++
		return
	case errors.Is(err, audit.ErrDiffers):
		p.Kind, p.Now, p.Detail = Differs, v.Reason(), "trusted now"
		if len(v.Findings) > 0 {
			p.Detail = v.Findings[0].String()
		}
	case errors.Is(err, fleet.ErrNotFound):
		p.Kind, p.Detail = Missing, err.Error()
	default:
		p.Kind, p.Detail = Broken, err.Error()
	}
	r.report.add(p)
}

// again judges, by the key that the name was enrolled with.
func (r *run) again(rec *audit.Record) (v attest.Verdict, err error) {
	c, err := audit.Case(rec, r.blobs.blob)
	if err != nil {
		return v, err
	}
	if ak := r.chains[rec.Host].ak; ak != nil && !bytes.Equal(c.Record.AKName, ak) {
		return v, fmt.Errorf("record %d of host %s: judged by the attestation key %x, enrolled is %x: %w", rec.Seq, rec.Host, c.Record.AKName, ak, audit.ErrBroken)
	}
	return audit.Again(rec, c)
}

// ends compares the ends of the chains with what the hosts' entries say, and
// the numbers of all records with each other.
func (r *run) ends(hosts []*fleet.Host) error {
	for _, h := range hosts {
		r.end(h.Record.Name, r.chains[h.Record.Name])
	}
	for _, name := range r.order {
		if r.chains[name].known {
			continue
		}
		_, err := r.store.Host(r.ctx, name) // it may have enrolled meanwhile
		if errors.Is(err, fleet.ErrNotFound) {
			r.report.add(Problem{Kind: Broken, Host: name, Seq: r.chains[name].head.Seq, Detail: "the host has records, but its entry was removed"})
		} else if err != nil {
			return err
		}
	}
	gaps, err := r.store.Gaps(r.ctx)
	for _, g := range gaps {
		r.report.add(Problem{Kind: Broken, Detail: fmt.Sprintf("records with the numbers %d to %d of all hosts were removed", g.First, g.Last)})
	}
	return err
}

// end compares one. A server that runs beside may have added records.
func (r *run) end(name string, c *chain) {
	want := c.want
	switch {
	case c.head.Seq < want.Seq:
		r.report.add(Problem{Kind: Broken, Host: name, Seq: want.Seq, Detail: fmt.Sprintf("the record ends at %d, the host's entry names %d", c.head.Seq, want.Seq)})
	case c.at != want.Sum || want.Seq == 0 && c.begun:
		r.report.add(Problem{Kind: Broken, Host: name, Seq: want.Seq, Detail: fmt.Sprintf("this record has the digest %s, the host's entry names %s", c.at, want.Sum)})
	}
}

// cache keeps the blobs that many records share: references and policies.
type cache struct {
	get  audit.Get
	data map[audit.Digest][]byte
}

// maxCached bounds the cache in blobs.
const maxCached = 256

func (c *cache) blob(sum audit.Digest) ([]byte, error) {
	if b, ok := c.data[sum]; ok {
		return b, nil
	}
	b, err := c.get(sum)
	if err != nil {
		return nil, err
	}
	if len(c.data) >= maxCached || c.data == nil {
		c.data = map[audit.Digest][]byte{}
	}
	c.data[sum] = b
	return b, nil
}
