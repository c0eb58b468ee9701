package fleet

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// summaryTime bounds how long a summary takes: a damaged file can lead a query
// in circles.
const summaryTime = time.Minute

// Summary is a state file in short.
type Summary struct {
	Schema         int // version
	Records, Blobs int64
	Hosts          []*Host // by name
}

// ErrForeign: the database is none of ingot's.
var ErrForeign = errors.New("not a state file of ingot")

// Summarize reads a state file of any name, of a server that runs or does not,
// and writes nothing. Its tables must be to the letter what ingot makes, since
// other definitions could have queries do anything.
func Summarize(ctx context.Context, path string) (*Summary, error) {
	ctx, cancel := context.WithTimeout(ctx, summaryTime)
	defer cancel()
	s, err := summarize(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	return s, nil
}

func summarize(ctx context.Context, path string) (*Summary, error) {
	db, err := openStill(path)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	s := new(Summary)
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&s.Schema); err != nil {
		return nil, err
	}
	if s.Schema > len(migrations) {
		return nil, &NewerError{s.Schema, len(migrations)}
	}
	if err := ours(ctx, db, s.Schema); err != nil {
		return nil, err
	}
	if s.Schema == 0 {
		return s, nil
	}
	reader := &SQLite{readers: db}
	if s.Hosts, err = reader.Hosts(ctx); err != nil {
		return nil, err
	}
	err = db.QueryRowContext(ctx, "SELECT (SELECT count(*) FROM audit), (SELECT count(*) FROM blobs)").Scan(&s.Records, &s.Blobs)
	return s, err
}

// openStill opens a file for reading. Without a log beside it nobody has it
// open, and it is read as it is: SQLite would make a log, where it may.
func openStill(path string) (*sql.DB, error) {
	if _, err := os.Stat(path + "-wal"); !errors.Is(err, fs.ErrNotExist) {
		return connect(path, "ro")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	q := url.Values{"mode": {"ro"}, "immutable": {"1"}, "_pragma": {"trusted_schema(0)", "cell_size_check(1)", "cache_size(-8192)"}}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: abs, RawQuery: q.Encode()}).String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return db, nil
}

// ours compares the definitions of a database with those that the migrations
// make.
func ours(ctx context.Context, db *sql.DB, version int) error {
	model, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		return err
	}
	defer model.Close()
	model.SetMaxOpenConns(1) // each connection has a memory of its own
	for _, m := range migrations[:version] {
		if _, err := model.ExecContext(ctx, m); err != nil {
			return err
		}
	}
	want, err := definitions(ctx, model)
	if err != nil {
		return err
	}
	got, err := definitions(ctx, db)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("schema of version %d differs: %w", version, ErrForeign)
	}
	return nil
}

// maxDefinitions bounds the definitions of a database in bytes; ours have some
// thousand.
const maxDefinitions = 64 << 10

// definitions are those of all tables, indexes, views and triggers, as text.
func definitions(ctx context.Context, db *sql.DB) (string, error) {
	rows, err := db.QueryContext(ctx, "SELECT type, name, tbl_name, substr(coalesce(sql, ''), 1, ?) FROM sqlite_schema ORDER BY type, name", maxDefinitions)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	var text string
	for rows.Next() && len(text) < maxDefinitions {
		var kind, name, table, def string
		if err := rows.Scan(&kind, &name, &table, &def); err != nil {
			return "", err
		}
		text += fmt.Sprintf("%s %s %s %s\n", kind, name, table, def)
	}
	return text, rows.Err()
}
