package fleet

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ingot-os/ingot/internal/bootrule"
	"github.com/ingot-os/ingot/internal/netslot"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// Machine is a machine that was started over the network, attested, and said
// which hardware it is. Its MAC address stands for its host from then on: in
// choosing what it boots, and nowhere else.
type Machine struct {
	MAC    netboot.MAC  `json:"mac"`
	Host   string       `json:"host"`
	UUID   string       `json:"uuid,omitempty"`
	Serial string       `json:"serial,omitempty"`
	Asset  string       `json:"asset,omitempty"`
	Arch   netboot.Arch `json:"arch"` // of its firmware, as it last asked
	At     time.Time    `json:"at"`   // of the report
	// Quarantine says why it boots nothing until an operator has looked at it;
	// Claimed is the host that attested with its address then. It stays while the
	// quarantine does: an operator decides about what he has seen.
	Quarantine string `json:"quarantine,omitempty"`
	Claimed    string `json:"claimed,omitempty"`
}

// AttestedAs is the host that a machine in quarantine attested as: another, or its own
// with other hardware.
func (m *Machine) AttestedAs() string { return cmp.Or(m.Claimed, m.Host) }

// Attempt is a boot that the server began to serve: a window that the first byte
// opens, and attestation or time closes (DESIGN S18).
type Attempt struct {
	Digest string      `json:"digest"`  // of the release's manifest
	Stem   string      `json:"release"` // NAME-VERSION
	MAC    netboot.MAC `json:"mac"`
	Trial  bool        `json:"trial,omitempty"`  // it has used up a try of the slots
	Ticket string      `json:"ticket,omitempty"` // kind of the ticket that it followed
	Opened time.Time   `json:"opened"`
	Until  time.Time   `json:"until"`
	// Resets is the TPM's reset count when the host last attested before; nil: it
	// never did. A host that attests with the same count was not reset since.
	Resets *uint32 `json:"resets,omitempty"`
}

// Spent is a ticket that the verdict on a boot has ended, before the first report of
// that boot could say what it was made by.
type Spent struct {
	Kind   string `json:"kind"`
	Resets uint32 `json:"resets"` // the TPM's reset count in that boot
}

// Boot is what is kept of the boots of a host, or of a machine that is known by
// its MAC address alone.
type Boot struct {
	netslot.Entry `json:"-"`
	Ticket        *bootrule.Ticket `json:"ticket,omitempty"`
	Attempt       *Attempt         `json:"attempt,omitempty"`
	// Lost is a try whose window ended without a word, and over which another attempt
	// was opened since. The next verdict tells whether it was the host's own.
	Lost     *Attempt  `json:"lost,omitempty"`
	Spent    *Spent    `json:"spent,omitempty"`
	Seen     string    `json:"seen,omitempty"`   // boot id of the newest report
	Handed   string    `json:"handed,omitempty"` // kind of the ticket that this boot was made by
	Fit      bool      `json:"fit,omitempty"`    // the newest report said that all is well
	Recent   string    `json:"recent,omitempty"` // NAME-VERSION that it last got
	RecentAt time.Time `json:"recentAt,omitzero"`
}

func (b *Boot) empty() bool {
	return len(b.Journal) == 0 && len(b.Rejected) == 0 && b.Ticket == nil && b.Attempt == nil && b.Lost == nil && b.Spent == nil && b.Recent == "" && b.Seen == ""
}

// Boot gives what is kept of a host, or of a machine by its MAC address with
// colons; an empty one for nothing.
func (s *SQLite) Boot(ctx context.Context, name string) (Boot, error) {
	b, err := readBoot(ctx, s.readers, name)
	if err != nil {
		return b, fmt.Errorf("read boots of %.70q: %w", name, err)
	}
	return b, nil
}

func readBoot(ctx context.Context, q querier, name string) (b Boot, err error) {
	var body string
	err = q.QueryRowContext(ctx, "SELECT journal, rejected, body FROM boots WHERE machine = ?", name).Scan(&b.Journal, &b.Rejected, &body)
	if errors.Is(err, sql.ErrNoRows) {
		return Boot{}, nil
	}
	if err == nil {
		err = json.Unmarshal([]byte(body), &b)
	}
	return b, err
}

// Boots gives all of them by name.
func (s *SQLite) Boots(ctx context.Context) (map[string]Boot, error) {
	out := map[string]Boot{}
	err := s.each(ctx, func(rows *sql.Rows) error {
		var name, body string
		var b Boot
		if err := rows.Scan(&name, &b.Journal, &b.Rejected, &body); err != nil {
			return err
		}
		err := json.Unmarshal([]byte(body), &b)
		out[name] = b
		return err
	}, "SELECT machine, journal, rejected, body FROM boots")
	if err != nil {
		return nil, fmt.Errorf("list boots: %w", err)
	}
	return out, nil
}

// ChangeBoot gives fn what is kept, and keeps what fn has made of it, in one
// transaction; nothing is changed when fn gives an error, which is returned. It is
// durable when ChangeBoot returns. fn may run more than once.
func (s *SQLite) ChangeBoot(ctx context.Context, name string, fn func(*Boot) error) error {
	o := new(op)
	o.do = func() error {
		b, err := readBoot(context.Background(), s.conn, name)
		if err != nil {
			return fmt.Errorf("read boots of %.70q: %w", name, err)
		}
		if err := fn(&b); err != nil {
			return err
		}
		o.dirty = true
		if b.empty() {
			return s.exec("DELETE FROM boots WHERE machine = ?", name)
		}
		body, err := json.Marshal(b)
		if err != nil {
			return err
		}
		return s.exec(`INSERT INTO boots (machine, journal, rejected, body) VALUES (?, ?, ?, ?)
			ON CONFLICT (machine) DO UPDATE SET journal = excluded.journal, rejected = excluded.rejected, body = excluded.body`,
			name, b.Journal, b.Rejected, string(body))
	}
	return s.run(ctx, o)
}

// Machines gives all machines that have attested, by MAC address.
func (s *SQLite) Machines(ctx context.Context) (list []Machine, err error) {
	err = s.each(ctx, func(rows *sql.Rows) error {
		var body string
		if err := rows.Scan(&body); err != nil {
			return err
		}
		var m Machine
		err := json.Unmarshal([]byte(body), &m)
		list = append(list, m)
		return err
	}, "SELECT body FROM machines ORDER BY mac")
	if err != nil {
		return nil, fmt.Errorf("list machines: %w", err)
	}
	return list, nil
}

// PutMachines keeps machines in the place of those with the same address.
func (s *SQLite) PutMachines(ctx context.Context, list ...Machine) error {
	o := new(op)
	o.do = func() error {
		o.dirty = true
		for _, m := range list {
			body, err := json.Marshal(m)
			if err == nil {
				err = s.exec("INSERT INTO machines (mac, host, body) VALUES (?, ?, ?) ON CONFLICT (mac) DO UPDATE SET host = excluded.host, body = excluded.body", m.MAC.Plain(), m.Host, string(body))
			}
			if err != nil {
				return fmt.Errorf("write machine %s: %w", m.MAC, err)
			}
		}
		return nil
	}
	return s.run(ctx, o)
}

// RemoveMachines forgets machines by their addresses.
func (s *SQLite) RemoveMachines(ctx context.Context, list ...netboot.MAC) error {
	o := new(op)
	o.do = func() error {
		o.dirty = true
		for _, mac := range list {
			if err := s.exec("DELETE FROM machines WHERE mac = ?", mac.Plain()); err != nil {
				return fmt.Errorf("remove machine %s: %w", mac, err)
			}
		}
		return nil
	}
	return s.run(ctx, o)
}

// Timelines gives what was kept of boots, newest last, as PutTimelines got it.
func (s *SQLite) Timelines(ctx context.Context) (list [][]byte, err error) {
	err = s.each(ctx, func(rows *sql.Rows) error {
		var body []byte
		err := rows.Scan(&body)
		list = append(list, body)
		return err
	}, "SELECT body FROM timelines ORDER BY time")
	if err != nil {
		return nil, fmt.Errorf("list timelines: %w", err)
	}
	return list, nil
}

// Timeline is one machine's boots, encoded; nil removes them.
type Timeline struct {
	MAC  netboot.MAC
	At   time.Time
	Body []byte
}

// PutTimelines keeps timelines in the place of those before.
func (s *SQLite) PutTimelines(ctx context.Context, list []Timeline) error {
	o := new(op)
	o.do = func() error {
		o.dirty = true
		for _, t := range list {
			query, args := "INSERT INTO timelines (mac, time, body) VALUES (?, ?, ?) ON CONFLICT (mac) DO UPDATE SET time = excluded.time, body = excluded.body", []any{t.MAC.Plain(), t.At.UnixMilli(), string(t.Body)}
			if t.Body == nil {
				query, args = "DELETE FROM timelines WHERE mac = ?", args[:1]
			}
			if err := s.exec(query, args...); err != nil {
				return fmt.Errorf("write timeline of %s: %w", t.MAC, err)
			}
		}
		return nil
	}
	return s.run(ctx, o)
}
