package fleet

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ingot-os/ingot/internal/assign"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// Report is what a host has said about its slots.
type Report struct {
	At    time.Time       `json:"at"`
	Slots updateapi.Slots `json:"slots"`
}

// Brief is a report in short: what a list shows, and whose change is recorded.
type Brief struct {
	Running string `json:"running,omitempty"` // a or b
	Good    string `json:"good"`
	Version string `json:"version,omitempty"` // in the good slot
	Next    string `json:"next,omitempty"`    // in the candidate's
	Phase   string `json:"phase"`
	Cause   string `json:"cause,omitempty"` // of the last failure
}

// Brief abridges a report.
func (r *Report) Brief() Brief {
	s := &r.Slots
	b := Brief{Running: s.Running, Good: s.Good, Phase: s.Phase, Cause: s.Cause}
	for _, x := range s.Slots {
		switch x.Name {
		case "":
		case s.Good:
			b.Version = x.Version
		case s.Candidate:
			b.Next = x.Version
		}
	}
	return b
}

// Update is a host's updates in a list.
type Update struct {
	Brief
	At         time.Time          `json:"at,omitzero"` // of the report; zero: there is none
	Assignment *assign.Assignment `json:"assignment,omitempty"`
}

// changed is what a change does about updates.
type changed struct {
	store *SQLite
	name  string

	assigned, reported bool // what follows is to be written
	assignment         *assign.Assignment
	report             *Report
}

// Assignment is what is assigned to the host; nil for nothing.
func (c *Change) Assignment() (*assign.Assignment, error) {
	if c.updates.assigned {
		return c.updates.assignment, nil
	}
	return readAssignment(context.Background(), c.updates.store.conn, c.updates.name)
}

// Assign assigns a release to the host; nil takes it back.
func (c *Change) Assign(a *assign.Assignment) { c.updates.assigned, c.updates.assignment = true, a }

// Report is what the host has said last about its slots; nil for nothing.
func (c *Change) Report() (*Report, error) {
	if c.updates.reported {
		return c.updates.report, nil
	}
	return readReport(context.Background(), c.updates.store.conn, c.updates.name)
}

// Reported keeps what the host says, in the place of what it said before; nil
// forgets that.
func (c *Change) Reported(r *Report) { c.updates.reported, c.updates.report = true, r }

func (c *changed) write() error {
	if c.assigned {
		if err := c.writeAssignment(); err != nil {
			return err
		}
	}
	if c.reported {
		return c.writeReport()
	}
	return nil
}

func (c *changed) writeAssignment() error {
	a := c.assignment
	if a == nil {
		return c.store.exec("DELETE FROM assignments WHERE host = ?", c.name)
	}
	release, err := hex.DecodeString(a.Release)
	if err != nil || len(release) == 0 {
		return fmt.Errorf("release %.80q is no digest", a.Release)
	}
	return c.store.exec(`INSERT INTO assignments (host, release, version, approved, override, operator, time) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (host) DO UPDATE SET release = excluded.release, version = excluded.version, approved = excluded.approved,
		override = excluded.override, operator = excluded.operator, time = excluded.time`,
		c.name, release, a.Version, a.Approved, a.Override, a.By, a.At.UnixMilli())
}

func (c *changed) writeReport() error {
	r := c.report
	if r == nil {
		return c.store.exec("DELETE FROM reports WHERE host = ?", c.name)
	}
	brief, err := json.Marshal(r.Brief())
	if err != nil {
		return err
	}
	body, err := json.Marshal(r.Slots)
	if err != nil {
		return err
	}
	return c.store.exec(`INSERT INTO reports (host, time, brief, body) VALUES (?, ?, ?, ?)
		ON CONFLICT (host) DO UPDATE SET time = excluded.time, brief = excluded.brief, body = excluded.body`,
		c.name, r.At.UnixMilli(), string(brief), string(body))
}

// querier is a connection.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

const assignmentColumns = "release, version, approved, override, operator, time"

// scanAssignment reads the columns of an assignment, after others.
func scanAssignment(row scanner, before ...any) (*assign.Assignment, error) {
	var a assign.Assignment
	var release []byte
	var at int64
	err := row.Scan(append(before, &release, &a.Version, &a.Approved, &a.Override, &a.By, &at)...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	a.Release, a.At = hex.EncodeToString(release), time.UnixMilli(at).UTC()
	return &a, err
}

func readAssignment(ctx context.Context, q querier, name string) (*assign.Assignment, error) {
	a, err := scanAssignment(q.QueryRowContext(ctx, "SELECT "+assignmentColumns+" FROM assignments WHERE host = ?", name))
	if err != nil {
		return nil, fmt.Errorf("read assignment of %.70q: %w", name, err)
	}
	return a, nil
}

func readReport(ctx context.Context, q querier, name string) (*Report, error) {
	var body string
	var at int64
	err := q.QueryRowContext(ctx, "SELECT body, time FROM reports WHERE host = ?", name).Scan(&body, &at)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	r := &Report{At: time.UnixMilli(at).UTC()}
	if err == nil {
		err = json.Unmarshal([]byte(body), &r.Slots)
	}
	if err != nil {
		return nil, fmt.Errorf("read report of %.70q: %w", name, err)
	}
	return r, nil
}

// Assignment implements Store.
func (s *SQLite) Assignment(ctx context.Context, name string) (*assign.Assignment, error) {
	return readAssignment(ctx, s.readers, name)
}

// Report implements Store.
func (s *SQLite) Report(ctx context.Context, name string) (*Report, error) {
	return readReport(ctx, s.readers, name)
}

// Updates implements Store.
func (s *SQLite) Updates(ctx context.Context) (map[string]Update, error) {
	out := map[string]Update{}
	err := s.each(ctx, func(rows *sql.Rows) error {
		var name, brief string
		var at int64
		if err := rows.Scan(&name, &at, &brief); err != nil {
			return err
		}
		u := Update{At: time.UnixMilli(at).UTC()}
		err := json.Unmarshal([]byte(brief), &u.Brief)
		out[name] = u
		return err
	}, "SELECT host, time, brief FROM reports")
	if err != nil {
		return nil, fmt.Errorf("list reports: %w", err)
	}
	err = s.each(ctx, func(rows *sql.Rows) error {
		var name string
		a, err := scanAssignment(rows, &name)
		u := out[name]
		u.Assignment = a
		out[name] = u
		return err
	}, "SELECT host, "+assignmentColumns+" FROM assignments")
	if err != nil {
		return nil, fmt.Errorf("list assignments: %w", err)
	}
	return out, nil
}
