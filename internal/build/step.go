package build

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"
)

// Step is one unit of work of a build: what the progress line, the trace file
// and the cache all speak of.
type Step struct {
	Name   string    `json:"name"`
	Start  time.Time `json:"start"`
	End    time.Time `json:"end"`
	In     string    `json:"in,omitempty"`  // hex SHA-256 over the inputs
	Out    string    `json:"out,omitempty"` // hex SHA-256 of the result; of several, of their digests in order
	Cached bool      `json:"cached"`
	Detail string    `json:"detail,omitempty"`

	results []string // digests, see made
}

// made adds the digest of a result to Out.
func (s *Step) made(sha string) {
	s.results = append(s.results, sha)
	s.Out = sha
	if len(s.results) > 1 {
		s.Out = digest([]byte(strings.Join(s.results, "\n")))
	}
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// step runs f as a named step and reports it; the clock is read here and
// nowhere else in a build, and never reaches the byte path.
func (b *builder) step(name, in string, f func(*Step) error) error {
	s := Step{Name: name, In: in, Start: time.Now()}
	if b.o.Started != nil {
		b.o.Started(name)
	}
	err := f(&s)
	s.End = time.Now()
	if err == nil && b.o.Report != nil {
		b.o.Report(s)
	}
	return err
}
