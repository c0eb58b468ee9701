package fleet

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ingot-os/ingot/internal/audit"
)

// maxBatch bounds how many changes share a transaction.
const maxBatch = 256

// maxKnown bounds the digests of kept blobs that are remembered.
const maxKnown = 100_000

// op is a change that waits to be written.
type op struct {
	do    func() error // on the writer's connection; may be called again
	dirty bool         // it has written something
	kept  []audit.Digest
	done  chan error
	err   error
}

var errClosed = errors.New("the state is closed")

// run hands a change to the writer and waits until it is on the disk.
func (s *SQLite) run(ctx context.Context, o *op) error {
	if s.ops == nil {
		return errors.New("the state is open for reading only")
	}
	o.done = make(chan error, 1)
	if err := s.send(ctx, o); err != nil {
		return err
	}
	return <-o.done // not given up: the change may be made by now
}

func (s *SQLite) send(ctx context.Context, o *op) error {
	s.closing.RLock()
	defer s.closing.RUnlock()
	if s.closed {
		return errClosed
	}
	select {
	case s.ops <- o:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// write is the one goroutine that writes. While one transaction goes to the
// disk the changes for the next one gather.
func (s *SQLite) write() {
	defer close(s.written)
	c := checkpoints{db: s.writer}
	defer c.end()
	for first := range s.ops {
		batch := append(make([]*op, 0, 16), first)
	gather:
		for len(batch) < maxBatch {
			select {
			case o, ok := <-s.ops:
				if !ok {
					break gather
				}
				batch = append(batch, o)
			default:
				break gather
			}
		}
		err := s.transact(batch)
		for _, o := range batch {
			if o.err == nil {
				o.err = err
			}
			if o.err == nil {
				s.remember(o.kept)
			}
			o.done <- o.err
		}
		c.after(len(batch), func() { s.exec(takeIn) })
	}
}

// transact writes a batch. A change that fails half-way takes the whole batch
// back, and then each is written alone. (A savepoint for each would cost all of
// them a third of their time.)
func (s *SQLite) transact(batch []*op) error {
	if err := s.exec("BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	for _, o := range batch {
		o.dirty, o.kept = false, nil
		if o.err = o.do(); o.err == nil || !o.dirty {
			continue
		}
		if err := s.exec("ROLLBACK"); err != nil {
			return fmt.Errorf("write state: %w", err)
		}
		if len(batch) > 1 {
			for _, o := range batch {
				if err := s.transact([]*op{o}); err != nil && o.err == nil {
					o.err = err
				}
			}
		}
		return nil
	}
	if err := s.exec("COMMIT"); err != nil {
		return s.rollback(err)
	}
	return nil
}

func (s *SQLite) rollback(err error) error {
	s.exec("ROLLBACK")
	return fmt.Errorf("write state: %w", err)
}

func (s *SQLite) exec(query string, args ...any) error {
	_, err := s.conn.ExecContext(context.Background(), query, args...)
	return err
}

// remember notes that blobs are kept, so that the next record does not send
// them to the database again. They are never removed.
func (s *SQLite) remember(sums []audit.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.known)+len(sums) > maxKnown {
		clear(s.known)
	}
	for _, d := range sums {
		s.known[d] = struct{}{}
	}
}

func (s *SQLite) isKnown(d audit.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.known[d]
	return ok
}

// Update implements Store.
func (s *SQLite) Update(ctx context.Context, name string, fn func(*Change) error) error {
	o := new(op)
	o.do = func() error { return s.update(o, name, fn) }
	return s.run(ctx, o)
}

func (s *SQLite) update(o *op, name string, fn func(*Change) error) error {
	h, err := readHost(s.conn.QueryRowContext(context.Background(), "SELECT "+hostColumns+" FROM hosts WHERE name = ?", name))
	if err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("read host %.70q: %w", name, err)
	}
	c, before := &Change{Host: h, updates: changed{store: s, name: name}}, columnsOf(h)
	if err := fn(c); err != nil {
		return err
	}
	if c.Host == nil || c.Host.Record.Name != name {
		return fmt.Errorf("change host %.70q: no such host is left", name)
	}
	if h != nil { // fn may have put another one in its place
		c.Host.Revision, c.Host.seq, c.Host.head = h.Revision, h.seq, h.head
	}
	o.dirty = true // from here on
	if err := s.records(o, c); err != nil {
		return fmt.Errorf("record host %s: %w", name, err)
	}
	if err := s.put(c.Host, before); err != nil {
		return fmt.Errorf("write host %s: %w", name, taken(err))
	}
	if err := c.updates.write(); err != nil {
		return fmt.Errorf("write updates of host %s: %w", name, err)
	}
	return nil
}

func (s *SQLite) records(o *op, c *Change) error {
	if err := s.keep(o, c.blobs); err != nil {
		return err
	}
	h := c.Host
	for _, r := range c.records {
		r.Host = h.Record.Name
		line, sum, err := r.Seal(h.seq+1, h.head)
		if err != nil {
			return err
		}
		h.seq, h.head = r.Seq, sum
		if h.Last != nil && h.Last.Seq == 0 && r.Kind == audit.KindVerdict {
			h.Last.Seq = r.Seq
		}
		if err := s.exec("INSERT INTO audit (host, seq, time, kind, line) VALUES (?, ?, ?, ?, ?)",
			r.Host, r.Seq, r.Time.UnixMilli(), string(r.Kind), string(line)); err != nil {
			return err
		}
	}
	return nil
}

// columns are those of a host that have an index, and seldom change.
type columns struct{ ek, ak, state string }

func columnsOf(h *Host) *columns {
	if h == nil {
		return nil
	}
	return &columns{string(h.Record.EKName), base64.StdEncoding.EncodeToString(h.Record.AKName), string(h.Record.State)}
}

// put writes a host. What has an index is written only when it has changed: a
// verdict touches half as many pages then.
func (s *SQLite) put(h *Host, before *columns) error {
	body, err := json.Marshal(h)
	if err != nil {
		return err
	}
	heard := int64(0)
	if !h.At.IsZero() {
		heard = h.At.UnixMilli()
	}
	now := columnsOf(h)
	if before != nil && *before == *now {
		return s.exec("UPDATE hosts SET heard = ?, silent = ?, revision = ?, seq = ?, head = ?, body = ? WHERE name = ?",
			heard, h.Silent, h.Revision+1, h.seq, h.head[:], string(body), h.Record.Name)
	}
	return s.exec(`INSERT INTO hosts (name, ek, ak, state, heard, silent, revision, seq, head, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET ek = excluded.ek, ak = excluded.ak, state = excluded.state, heard = excluded.heard, silent = excluded.silent,
		revision = excluded.revision, seq = excluded.seq, head = excluded.head, body = excluded.body`,
		h.Record.Name, h.Record.EKName, sql.NullString{String: now.ak, Valid: now.ak != ""}, now.state, heard, h.Silent, h.Revision+1, h.seq, h.head[:], string(body))
}

func (s *SQLite) keep(o *op, blobs []audit.Blob) error {
	for _, b := range blobs {
		if s.isKnown(b.Sum) {
			continue
		}
		data := b.Data
		if data == nil {
			data = []byte{} // NULL else
		}
		if err := s.exec("INSERT INTO blobs (sum, data) VALUES (?, ?) ON CONFLICT (sum) DO NOTHING", b.Sum[:], data); err != nil {
			return err
		}
		o.kept = append(o.kept, b.Sum)
	}
	return nil
}

// Keep implements Store.
func (s *SQLite) Keep(ctx context.Context, blobs ...audit.Blob) error {
	o := new(op)
	o.do = func() error {
		o.dirty = true
		return s.keep(o, blobs)
	}
	return s.run(ctx, o)
}
