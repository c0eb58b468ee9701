package fleet

import (
	"context"
	"database/sql"
)

// checkpointEach is how many changes go into SQLite's log until it is taken into
// the database: some 25 MB, in which a page that is written often counts once.
const checkpointEach = 2000

// takeIn takes the log into the database, and waits for nobody.
const takeIn = "PRAGMA wal_checkpoint(PASSIVE)"

// checkpoints takes the log into the database beside the writer. SQLite by
// itself does that within the commit that makes the log long, and whoever waits
// for that commit waits for a thousand pages and two flushes more: one answer of
// each second.
type checkpoints struct {
	db      *sql.DB
	changes int           // since the last one
	done    chan struct{} // closed when the one under way has ended; nil: there is none
}

// after is called by the writer after each commit. The log begins anew when all
// of it is in the database, which is never so while changes come in: what came
// during a checkpoint, some pages, the writer takes in itself, by last.
func (c *checkpoints) after(changes int, last func()) {
	c.changes += changes
	if c.done == nil {
		if c.changes >= checkpointEach {
			c.begin()
		}
		return
	}
	select {
	case <-c.done:
		last()
		c.done, c.changes = nil, 0
	default:
	}
}

func (c *checkpoints) begin() {
	done := make(chan struct{})
	c.done = done
	go func() {
		defer close(done)
		c.db.ExecContext(context.Background(), takeIn) // what fails stays in the log, and is taken in later
	}()
}

// end waits for the one under way.
func (c *checkpoints) end() {
	if c.done != nil {
		<-c.done
	}
}
