package fleet

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/audit"
)

const hostColumns = "body, revision, seq, head, silent"

// scanner is a row.
type scanner interface{ Scan(...any) error }

func readHost(row scanner) (*Host, error) {
	var body string
	var head []byte
	var silent bool
	h := new(Host)
	switch err := row.Scan(&body, &h.Revision, &h.seq, &head, &silent); {
	case errors.Is(err, sql.ErrNoRows):
		return nil, ErrNotFound
	case err != nil:
		return nil, err
	}
	if err := json.Unmarshal([]byte(body), h); err != nil {
		return nil, err
	}
	copy(h.head[:], head)
	h.Silent = silent
	return h, nil
}

// Host implements Store.
func (s *SQLite) Host(ctx context.Context, name string) (*Host, error) {
	h, err := readHost(s.readers.QueryRowContext(ctx, "SELECT "+hostColumns+" FROM hosts WHERE name = ?", name))
	if err != nil {
		return nil, fmt.Errorf("read host %.70q: %w", name, err)
	}
	return h, nil
}

// Owner implements Store.
func (s *SQLite) Owner(ctx context.Context, ekName []byte) (name string, err error) {
	err = s.readers.QueryRowContext(ctx, "SELECT name FROM hosts WHERE ek = ?", ekName).Scan(&name)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("look for endorsement key: %w", err)
	}
	return name, nil
}

// Pending implements Store.
func (s *SQLite) Pending(ctx context.Context) (n int, err error) {
	if err := s.readers.QueryRowContext(ctx, "SELECT count(*) FROM hosts WHERE state = 'pending'").Scan(&n); err != nil {
		return 0, fmt.Errorf("count hosts that wait: %w", err)
	}
	return n, nil
}

// Hosts implements Store.
func (s *SQLite) Hosts(ctx context.Context) (list []*Host, err error) {
	err = s.each(ctx, func(rows *sql.Rows) error {
		h, err := readHost(rows)
		list = append(list, h)
		return err
	}, "SELECT "+hostColumns+" FROM hosts ORDER BY name")
	if err != nil {
		return nil, fmt.Errorf("list hosts: %w", err)
	}
	return list, nil
}

// Overdue implements Store.
func (s *SQLite) Overdue(ctx context.Context, before time.Time) (names []string, err error) {
	err = s.each(ctx, func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		names = append(names, name)
		return err
	}, "SELECT name FROM hosts WHERE silent = 0 AND heard > 0 AND heard < ? ORDER BY name", before.UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("look for silent hosts: %w", err)
	}
	return names, nil
}

func (s *SQLite) each(ctx context.Context, fn func(*sql.Rows) error, query string, args ...any) error {
	rows, err := s.readers.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := fn(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Blob implements Store.
func (s *SQLite) Blob(ctx context.Context, sum audit.Digest) (data []byte, err error) {
	err = s.readers.QueryRowContext(ctx, "SELECT data FROM blobs WHERE sum = ?", sum[:]).Scan(&data)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read blob %s: %w", sum, err)
	}
	return data, nil
}

// Records implements Store.
func (s *SQLite) Records(ctx context.Context, q Query, fn func(line []byte) error) error {
	where, args := "1", []any{}
	add := func(condition string, arg any) { where, args = where+" AND "+condition, append(args, arg) }
	if q.Host != "" {
		add("host = ?", q.Host)
	}
	if q.Kind != "" {
		add("kind = ?", string(q.Kind))
	}
	if !q.Since.IsZero() {
		add("time >= ?", q.Since.UnixMilli())
	}
	if !q.Until.IsZero() {
		add("time <= ?", q.Until.UnixMilli())
	}
	query := "SELECT id, line FROM audit WHERE " + where + " ORDER BY id"
	if q.Last > 0 {
		order := "id"
		if q.Host != "" {
			order = "seq" // which has an index for each host
		}
		query = "SELECT id, line FROM (SELECT id, line FROM audit WHERE " + where + " ORDER BY " + order + " DESC LIMIT ?) ORDER BY id"
		args = append(args, q.Last)
	}
	err := s.each(ctx, func(rows *sql.Rows) error {
		var id int64
		var line []byte
		if err := rows.Scan(&id, &line); err != nil {
			return err
		}
		return fn(line)
	}, query, args...)
	if err != nil {
		return fmt.Errorf("read records: %w", err)
	}
	return nil
}

// Gaps implements Store. A number is given once (AUTOINCREMENT), and one of a
// change that was taken back is given again, so each has its record. SQLite
// remembers the highest in sqlite_sequence.
func (s *SQLite) Gaps(ctx context.Context) (list []Gap, err error) {
	err = s.each(ctx, func(rows *sql.Rows) error {
		var g Gap
		err := rows.Scan(&g.First, &g.Last)
		list = append(list, g)
		return err
	}, `SELECT before + 1, id - 1 FROM (
			SELECT id, lag(id, 1, 0) OVER (ORDER BY id) AS before FROM (
				SELECT id FROM audit UNION ALL SELECT seq + 1 FROM sqlite_sequence WHERE name = 'audit'))
		WHERE id > before + 1 LIMIT 300`)
	if err != nil {
		return nil, fmt.Errorf("look for removed records: %w", err)
	}
	return list, nil
}

// PutOffer implements Store.
func (s *SQLite) PutOffer(_ context.Context, o attest.Offer, now time.Time) error {
	if !s.offers.Put(o.Record.Name, o.ChannelKey, o, o.Expires, now) {
		return ErrBusy
	}
	return nil
}

// TakeOffer implements Store.
func (s *SQLite) TakeOffer(_ context.Context, name string, channelKey []byte) (attest.Offer, error) {
	o, ok := s.offers.Take(name, channelKey)
	if !ok {
		return o, ErrNotFound
	}
	return o, nil
}

// PutChallenge implements Store.
func (s *SQLite) PutChallenge(_ context.Context, name string, c attest.Challenge, now time.Time) error {
	if !s.challenges.Put(name, c.ChannelKey, c, c.Expires, now) {
		return ErrBusy
	}
	return nil
}

// TakeChallenge implements Store.
func (s *SQLite) TakeChallenge(_ context.Context, name string, channelKey []byte) (attest.Challenge, error) {
	c, ok := s.challenges.Take(name, channelKey)
	if !ok {
		return c, ErrNotFound
	}
	return c, nil
}
