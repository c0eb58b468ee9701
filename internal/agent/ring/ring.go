// Package ring keeps the newest log lines of the machine in a fixed amount of
// memory. It is what GET /v1/logs answers from: lines are numbered from 1
// without gaps, so a reader that remembers the last number it saw asks for
// what came after, and sees by the first number of the answer whether lines
// were dropped in between. It has no clock and does no output.
package ring

import (
	"sync"
	"time"
)

// MaxLine is the length in bytes at which one line is cut.
const MaxLine = 4096

// entryCost is charged for each entry beside its text, so that a flood of
// empty lines is bounded too: the struct is 56 bytes on a 64-bit machine.
const entryCost = 64

// Entry is one line.
type Entry struct {
	Seq    uint64        // 1, 2, 3, ...
	At     time.Duration // since the kernel started
	Source string        // "ingot" or the name of a service
	Text   string        // without the newline, at most MaxLine bytes
}

// Ring holds entries up to a number of bytes. Make it with New. Its methods
// may be called from any goroutine.
type Ring struct {
	mu      sync.Mutex
	limit   int
	used    int
	next    uint64
	entries []Entry // oldest first; entries[head:] is alive
	head    int
}

// New makes a ring of at most limit bytes, the entries' own cost included.
func New(limit int) *Ring { return &Ring{limit: limit, next: 1} }

// Add appends a line and drops the oldest ones beyond the limit. It returns
// the entry as stored.
func (r *Ring) Add(at time.Duration, source, text string) Entry {
	if len(text) > MaxLine {
		text = text[:MaxLine]
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e := Entry{Seq: r.next, At: at, Source: source, Text: text}
	r.next++
	r.entries = append(r.entries, e)
	r.used += cost(e)
	for r.used > r.limit && r.head < len(r.entries) {
		r.used -= cost(r.entries[r.head])
		r.entries[r.head] = Entry{}
		r.head++
	}
	r.compact()
	return e
}

// compact moves the live part to the front once more than half is dead, so
// that memory stays within twice the limit and Add is O(1) on average.
func (r *Ring) compact() {
	if r.head*2 < len(r.entries) {
		return
	}
	n := copy(r.entries, r.entries[r.head:])
	clear(r.entries[n:])
	r.entries, r.head = r.entries[:n], 0
}

func cost(e Entry) int { return len(e.Text) + len(e.Source) + entryCost }

// Since returns up to max entries with Seq > seq, oldest first, of one source
// or, with an empty source, of all.
func (r *Ring) Since(seq uint64, source string, max int) []Entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Entry
	for _, e := range r.entries[r.head:] {
		if len(out) == max {
			break
		}
		if e.Seq > seq && (source == "" || e.Source == source) {
			out = append(out, e)
		}
	}
	return out
}

// Tail returns the newest max entries, oldest first.
func (r *Ring) Tail(max int) []Entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	live := r.entries[r.head:]
	if len(live) > max {
		live = live[len(live)-max:]
	}
	return append([]Entry(nil), live...)
}
