package fleet

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/audit"
)

// FileName is the database in a state directory.
const FileName = "state.db"

// Options are how a state directory is opened.
type Options struct {
	// ReadOnly reads only, also while a server runs.
	ReadOnly bool
}

// SQLite is a Store in a file.
type SQLite struct {
	readers *sql.DB
	writer  *sql.DB
	conn    *sql.Conn // of the writer
	lock    *os.File
	ops     chan *op
	written chan struct{} // closed when the writer has ended
	closing sync.RWMutex  // held for reading while something is sent to ops
	closed  bool

	mu         sync.Mutex
	known      map[audit.Digest]struct{} // blobs that are kept for certain
	offers     attest.Open[attest.Offer]
	challenges attest.Open[attest.Challenge]
}

var _ Store = (*SQLite)(nil)

// Open opens a state directory, and makes it (mode 0700) unless only reading.
// The error wraps ErrInUse when a server has it open.
func Open(dir string, o Options) (*SQLite, error) {
	s, err := open(dir, o)
	if err != nil {
		return nil, fmt.Errorf("open state %s: %w", dir, err)
	}
	return s, nil
}

func open(dir string, o Options) (_ *SQLite, err error) {
	s := &SQLite{known: map[audit.Digest]struct{}{}}
	defer func() {
		if err != nil {
			s.release()
		}
	}()
	path := filepath.Join(dir, FileName)
	if o.ReadOnly {
		if _, err := os.Stat(path); err != nil {
			return nil, err
		}
		s.readers, err = connect(path, "ro")
		return s, err
	}
	if s.lock, err = prepare(dir, path); err != nil {
		return nil, err
	}
	if s.writer, err = connect(path, "rw"); err != nil {
		return nil, err
	}
	ctx := context.Background()
	if s.conn, err = s.writer.Conn(ctx); err != nil {
		return nil, err
	}
	if err := migrate(ctx, s.conn); err != nil {
		return nil, err
	}
	if s.readers, err = connect(path, "ro"); err != nil {
		return nil, err
	}
	s.ops, s.written = make(chan *op, maxBatch), make(chan struct{})
	go s.write()
	return s, nil
}

// prepare makes the directory and an empty database that nobody else can read,
// and takes the lock.
func prepare(dir, path string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, &modeError{dir, mode}
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	f.Close()
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, ErrInUse
	}
	return lock, nil
}

// modeError says that others can read the state.
type modeError struct {
	dir  string
	mode fs.FileMode
}

// Error implements error.
func (e *modeError) Error() string {
	return fmt.Sprintf("mode %04o lets others in; want 0700", e.mode)
}

// Hint says what to type.
func (e *modeError) Hint() string { return "chmod 700 " + e.dir }

// connect opens the file. FULL syncs at each commit: a verdict that was answered
// is not lost in a power cut.
func connect(path, mode string) (*sql.DB, error) {
	q := url.Values{"mode": {mode}, "_pragma": {"busy_timeout(10000)", "synchronous(FULL)", "trusted_schema(0)", "cache_size(-8192)"}}
	if mode == "rw" {
		q.Add("_pragma", "journal_mode(WAL)")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: abs, RawQuery: q.Encode()}).String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(4)
	db.SetMaxIdleConns(4)
	if err := db.Ping(); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// Close implements Store.
func (s *SQLite) Close() error {
	if s.ops != nil {
		s.closing.Lock()
		if !s.closed {
			s.closed = true
			close(s.ops)
		}
		s.closing.Unlock()
		<-s.written
	}
	return s.release()
}

func (s *SQLite) release() error {
	var errs []error
	if s.conn != nil {
		errs = append(errs, s.conn.Close())
	}
	for _, db := range []*sql.DB{s.readers, s.writer} { // the last to close takes the log in
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

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

// PutOffer implements Store.
func (s *SQLite) PutOffer(_ context.Context, o attest.Offer, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.offers.Put(o.Record.Name, o.ChannelKey, o, o.Expires, now) {
		return ErrBusy
	}
	return nil
}

// TakeOffer implements Store.
func (s *SQLite) TakeOffer(_ context.Context, name string, channelKey []byte) (attest.Offer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.offers.Take(name, channelKey)
	if !ok {
		return o, ErrNotFound
	}
	return o, nil
}

// PutChallenge implements Store.
func (s *SQLite) PutChallenge(_ context.Context, name string, c attest.Challenge, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.challenges.Put(name, c.ChannelKey, c, c.Expires, now) {
		return ErrBusy
	}
	return nil
}

// TakeChallenge implements Store.
func (s *SQLite) TakeChallenge(_ context.Context, name string, channelKey []byte) (attest.Challenge, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.challenges.Take(name, channelKey)
	if !ok {
		return c, ErrNotFound
	}
	return c, nil
}

// taken tells a second host with an endorsement key from other failures.
func taken(err error) error {
	var e *sqlite.Error
	if errors.As(err, &e) && e.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE {
		return ErrTaken
	}
	return err
}
