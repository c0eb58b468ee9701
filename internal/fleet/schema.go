package fleet

import (
	"context"
	"database/sql"
	"fmt"
)

// migrations lead from each version of the schema (user_version) to the next.
// What was released is never changed, only added to.
var migrations = []string{`
CREATE TABLE hosts (
	name     TEXT PRIMARY KEY,
	ek       BLOB NOT NULL UNIQUE,   -- one TPM, one name
	state    TEXT NOT NULL,
	heard    INTEGER NOT NULL,       -- Unix milliseconds of the newest verdict, 0 for none
	silent   INTEGER NOT NULL,
	revision INTEGER NOT NULL,
	seq      INTEGER NOT NULL,       -- of the newest record
	head     BLOB NOT NULL,          -- SHA-256 of the newest record
	body     TEXT NOT NULL           -- JSON
) STRICT, WITHOUT ROWID;
CREATE INDEX hosts_pending ON hosts (state) WHERE state = 'pending';
CREATE INDEX hosts_heard ON hosts (heard) WHERE silent = 0 AND heard > 0;

CREATE TABLE audit (
	id   INTEGER PRIMARY KEY AUTOINCREMENT, -- a gap is a record that was removed
	host TEXT NOT NULL,
	seq  INTEGER NOT NULL,
	time INTEGER NOT NULL,                  -- Unix milliseconds
	kind TEXT NOT NULL,
	line TEXT NOT NULL,                     -- as sealed, JSON
	UNIQUE (host, seq)
) STRICT;
CREATE INDEX audit_time ON audit (time);

CREATE TABLE blobs (
	sum  BLOB PRIMARY KEY, -- SHA-256 of data
	data BLOB NOT NULL
) STRICT;

CREATE TRIGGER audit_keep BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'records are kept'); END;
CREATE TRIGGER audit_same BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'records are kept as they are'); END;
CREATE TRIGGER blobs_keep BEFORE DELETE ON blobs BEGIN SELECT RAISE(ABORT, 'blobs are kept'); END;
CREATE TRIGGER blobs_same BEFORE UPDATE ON blobs BEGIN SELECT RAISE(ABORT, 'blobs are kept as they are'); END;
`, `
-- One attestation key, one name: a TPM may have several endorsement keys, and
-- its attestation key is the same with each.
CREATE UNIQUE INDEX hosts_ak ON hosts (json_extract(body, '$.record.akName'));
`, `
-- Apart from hosts, which is written at each verdict.
CREATE TABLE assignments (
	host     TEXT PRIMARY KEY,
	release  BLOB NOT NULL,    -- SHA-256 of the manifest
	version  TEXT NOT NULL,
	approved INTEGER NOT NULL,
	override INTEGER NOT NULL,
	operator TEXT NOT NULL,
	time     INTEGER NOT NULL  -- Unix milliseconds
) STRICT, WITHOUT ROWID;
CREATE TABLE reports (
	host  TEXT PRIMARY KEY,
	time  INTEGER NOT NULL,    -- Unix milliseconds
	brief TEXT NOT NULL,       -- JSON, for lists
	body  TEXT NOT NULL        -- JSON, as the host sent it
) STRICT;

-- An index on an expression over body is written whenever body is: at each
-- verdict. A column is not.
DROP INDEX hosts_ak;
ALTER TABLE hosts ADD COLUMN ak TEXT; -- as in body: base64
UPDATE hosts SET ak = json_extract(body, '$.record.akName');
CREATE UNIQUE INDEX hosts_ak ON hosts (ak);
`, `
-- Boots over the network. A machine of boots is a host, or one that has not
-- attested yet, by its MAC address with colons (which no host's name has).
CREATE TABLE boots (
	machine  TEXT PRIMARY KEY,
	journal  BLOB,             -- of its netboot slots, as package slot encodes it
	rejected BLOB,
	body     TEXT NOT NULL     -- JSON: ticket, attempt
) STRICT, WITHOUT ROWID;
CREATE TABLE machines (
	mac  TEXT PRIMARY KEY,     -- twelve digits
	host TEXT NOT NULL,
	body TEXT NOT NULL         -- JSON
) STRICT, WITHOUT ROWID;
CREATE TABLE timelines (
	mac  TEXT PRIMARY KEY,     -- twelve digits
	time INTEGER NOT NULL,     -- Unix milliseconds of the newest step
	body TEXT NOT NULL         -- JSON
) STRICT;
`}

// migrate brings a database to the newest schema.
func migrate(ctx context.Context, c *sql.Conn) error {
	var have int
	if err := c.QueryRowContext(ctx, "PRAGMA user_version").Scan(&have); err != nil {
		return err
	}
	if have > len(migrations) {
		return &NewerError{have, len(migrations)}
	}
	for v := have; v < len(migrations); v++ {
		if _, err := c.ExecContext(ctx, fmt.Sprintf("BEGIN IMMEDIATE; %s; PRAGMA user_version = %d; COMMIT", migrations[v], v+1)); err != nil {
			c.ExecContext(ctx, "ROLLBACK")
			return fmt.Errorf("change schema to version %d: %w", v+1, err)
		}
	}
	return nil
}

// NewerError says that a later ingot has written the state.
type NewerError struct{ Have, Known int }

// Error implements error.
func (e *NewerError) Error() string {
	return fmt.Sprintf("schema version %d, this ingot knows %d", e.Have, e.Known)
}

// Hint says what to do about it.
func (e *NewerError) Hint() string {
	return "use the ingot that wrote it, or a later one; to go back, restore a copy of the directory from before"
}
