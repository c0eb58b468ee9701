package fleet

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"

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

	mu    sync.Mutex                // of known
	known map[audit.Digest]struct{} // blobs that are kept for certain

	offers     attest.Open[attest.Offer]
	challenges attest.Open[attest.Challenge]
}

var _ Store = (*SQLite)(nil)

// Open opens a state directory, and makes it (mode 0700) unless only reading. A Fresh one
// is given that mode.
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
	if err := private(dir); err != nil {
		return nil, err
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

// private makes the directory, or shuts others out of a fresh one. The directory is opened
// once: its path may lead elsewhere a moment later.
func private(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	info, err := d.Stat()
	if err != nil {
		return err
	}
	mode := info.Mode()
	if isPrivate(info) {
		return nil
	}
	if !fresh(d) || d.Chmod(0o700) != nil {
		return &modeError{dir, mode.Perm()}
	}
	// Some file systems take any mode and keep their own; others may have been quicker.
	if info, err = d.Stat(); err != nil || !isPrivate(info) || !empty(d) {
		_ = d.Chmod(mode)
		return &modeError{dir, mode.Perm()}
	}
	return nil
}

func isPrivate(info fs.FileInfo) bool { return info.Mode().Perm()&0o077 == 0 }

// Fresh reports whether a directory is this user's alone with nothing in it, as volumes of
// containers are: whoever could look into it has seen nothing, so Open closes it itself.
func Fresh(dir string) bool {
	d, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer d.Close()
	return fresh(d)
}

func fresh(d *os.File) bool {
	info, err := d.Stat()
	if err != nil || info.Mode()&fs.ModeSticky != 0 { // such as /tmp, which is for others
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid() && empty(d)
}

func empty(d *os.File) bool {
	if _, err := d.Seek(0, io.SeekStart); err != nil {
		return false
	}
	_, err := d.Readdirnames(1)
	return errors.Is(err, io.EOF)
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
		q.Add("_pragma", "wal_autocheckpoint(0)") // see checkpoints
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

// taken tells a second host with an endorsement key from other failures.
func taken(err error) error {
	var e *sqlite.Error
	if errors.As(err, &e) && e.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE {
		return ErrTaken
	}
	return err
}
