// Package fleet keeps what servers know about hosts, and the record of all
// verdicts. Servers hold no truth in memory: every change of a host is one
// transaction that reads, decides and writes (Store.Update), so a later store on
// PostgreSQL can serve any number of them.
//
// The store that there is, SQLite, is one file state.db in a directory of mode
// 0700, for one process at a time (others may read). Changes that come while
// another is written to the disk share the next write. Offers and challenges are
// in memory there: a restart makes them void, and machines ask again.
//
// Shape of use:
//
//	s, err := fleet.Open(dir, fleet.Options{})
//	defer s.Close()
//	err = s.Update(ctx, "edge-1", func(c *fleet.Change) error {
//		if c.Host == nil {
//			return fleet.ErrNotFound
//		}
//		c.Host.Revoke()
//		c.Record(&audit.Record{Kind: audit.KindRevoked, Time: now, By: "alice"})
//		return nil
//	})
package fleet

import (
	"context"
	"errors"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/internal/assign"
	"github.com/ingot-os/ingot/internal/audit"
)

// Errors that callers tell apart.
var (
	// ErrNotFound: no such host, blob, offer or challenge.
	ErrNotFound = errors.New("not found")
	// ErrTaken: another host has this endorsement or attestation key.
	ErrTaken = errors.New("the key is another host's")
	// ErrBusy: too many offers or challenges wait.
	ErrBusy = errors.New("too many wait for an answer")
	// ErrInUse: another process has the state open.
	ErrInUse = errors.New("is in use by another process")
)

// Host is what is kept about a host.
type Host struct {
	attest.Host
	Revision int64 `json:"-"` // goes up with each change

	Last     *Last     `json:"last,omitempty"`     // the newest verdict
	Rejected *Rejected `json:"rejected,omitempty"` // the newest evidence that was not proven to be the host's
	Seen     *Firmware `json:"seen,omitempty"`     // in the newest evidence
	Silent   bool      `json:"silent,omitempty"`   // the silence is in the record already

	seq  int64        // of its newest record
	head audit.Digest // of its newest record
}

// Last is a verdict in short; the record has all of it.
type Last struct {
	Seq        int64       `json:"seq"` // of the record
	Code       attest.Code `json:"code,omitempty"`
	Detail     string      `json:"detail,omitempty"`
	Release    string      `json:"release,omitempty"`
	Version    string      `json:"version,omitempty"`
	Epoch      int64       `json:"securityEpoch"`
	Boot       string      `json:"boot,omitempty"`
	Slot       string      `json:"slot,omitempty"`
	Arch       string      `json:"arch,omitempty"`   // of the release; empty: several have the version
	Layout     string      `json:"layout,omitempty"` // id of its disk layout, likewise
	SecureBoot bool        `json:"secureBoot"`
	Address    string      `json:"address,omitempty"` // that the evidence came from

	// Manifests are the digests of the releases whose reference the boot matched: one,
	// unless several have the same reference. Empty: it was not trusted.
	Manifests []string `json:"manifests,omitempty"`
}

// Rejected is evidence under the host's name that anybody may have sent.
type Rejected struct {
	At      time.Time   `json:"at"`
	Code    attest.Code `json:"code"`
	Detail  string      `json:"detail"`
	Address string      `json:"address"`
}

// Firmware is what an operator accepts: the values of PCR 0 and 2, and the
// version of the TPM's firmware.
type Firmware struct {
	PCRs    map[pcr.Bank]map[int]pcr.Digest `json:"pcrs"`
	Version uint64                          `json:"version"`
}

// Head is the place of the newest record of the host in its chain.
func (h *Host) Head() audit.Head { return audit.Head{Seq: h.seq, Sum: h.head} }

// Change is the host in a transaction.
type Change struct {
	// Host is the host as it is, nil when there is none of the name. What is
	// here in the end is kept.
	Host *Host

	records []*audit.Record
	blobs   []audit.Blob
	updates changed
}

// Record adds a record about the host, with the blobs that it names. Host,
// place in the chain and Prev are filled in.
func (c *Change) Record(r *audit.Record, blobs ...audit.Blob) {
	c.records, c.blobs = append(c.records, r), append(c.blobs, blobs...)
}

// Query selects records.
type Query struct {
	Host  string     // empty: of all hosts
	Kind  audit.Kind // empty: of all kinds
	Since time.Time  // zero: from the first
	Until time.Time  // zero: to the newest
	Last  int        // of these only so many of the newest; 0: all
}

// Gap is a row of records that were removed: their numbers, both included.
type Gap struct{ First, Last int64 }

// Store keeps hosts and records. Its methods may be called concurrently.
type Store interface {
	// Host gives a host by name, or ErrNotFound.
	Host(ctx context.Context, name string) (*Host, error)
	// Owner gives the name of the host with an endorsement key, empty for none.
	Owner(ctx context.Context, ekName []byte) (string, error)
	// Pending counts the hosts that wait for an operator.
	Pending(ctx context.Context) (int, error)
	// Hosts gives all hosts by name.
	Hosts(ctx context.Context) ([]*Host, error)
	// Overdue gives the names of hosts that were heard, were last heard before
	// a time, and are not Silent yet.
	Overdue(ctx context.Context, before time.Time) ([]string, error)
	// Assignment gives what is assigned to a host, and Report what it has said
	// last about its slots; nil for nothing. Updates gives both of all hosts in
	// short, by name.
	Assignment(ctx context.Context, name string) (*assign.Assignment, error)
	Report(ctx context.Context, name string) (*Report, error)
	Updates(ctx context.Context) (map[string]Update, error)
	// Update changes a host in one transaction. Nothing is changed when fn
	// gives an error, which is returned; fn may run more than once.
	Update(ctx context.Context, name string, fn func(*Change) error) error

	// Keep keeps blobs that no record names yet.
	Keep(ctx context.Context, blobs ...audit.Blob) error
	// Blob gives a blob, or ErrNotFound.
	Blob(ctx context.Context, sum audit.Digest) ([]byte, error)
	// Records reads records in the order they were made.
	Records(ctx context.Context, q Query, fn func(line []byte) error) error
	// Gaps finds numbers of records, of all hosts together, that were given but
	// are not there any more; at most some hundred.
	Gaps(ctx context.Context) ([]Gap, error)

	// PutOffer and PutChallenge keep what waits for an answer on a channel, in
	// the place of an earlier one there. Take gives it once, or ErrNotFound.
	PutOffer(ctx context.Context, o attest.Offer, now time.Time) error
	TakeOffer(ctx context.Context, name string, channelKey []byte) (attest.Offer, error)
	PutChallenge(ctx context.Context, name string, c attest.Challenge, now time.Time) error
	TakeChallenge(ctx context.Context, name string, channelKey []byte) (attest.Challenge, error)

	// Close ends the store after the changes that are under way.
	Close() error
}
