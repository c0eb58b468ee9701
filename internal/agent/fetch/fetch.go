// Package fetch gets a file that is known by its size and SHA-256 over plain HTTP.
// Who sends it proves nothing and need not: what does not have the digest is not
// taken.
//
//	f := fetch.Fetcher{Sources: func() []string { return []string{"http://192.0.2.1:8080"} }}
//	err := f.Fetch(ctx, fetch.File{Path: "root/" + digest, Size: size, SHA256: digest}, memory)
//
// A transfer that is cut goes on where it was, at the next of the sources when
// there are several. Memory is one buffer.
//
// It is part of every init, so it knows no TLS (package http1 says why).
package fetch

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"strings"
	"time"

	"github.com/ingot-os/ingot/internal/agent/http1"
)

// File is what is fetched.
type File struct {
	Path   string // below a source
	Size   int64  // bytes
	SHA256 string // hex
}

// Fetcher says from where. Sources is required.
type Fetcher struct {
	// Sources are base URLs (http), the best first, as they are known now; it is asked
	// again before each round through them.
	Sources func() []string
	// Patience is how long the fetcher goes on without getting a byte that is new; default 5m.
	Patience time.Duration
	// Wait is the time between the first two rounds, which then doubles up to
	// maxWait; default 1s.
	Wait time.Duration
	// Progress is told how much is there, from whom; it may be nil.
	Progress func(done int64, source string)
	// Logf is told why a source was left; it may be nil.
	Logf func(format string, args ...any)
}

// Errors of Fetch, to be tested with errors.Is.
var (
	// ErrDigest: all of it came, again and again, and was something else.
	ErrDigest = errors.New("what was sent is not what the image names")
	// ErrNoSource: nobody has named one.
	ErrNoSource = errors.New("no boot server is known: neither DHCP nor the recipe names one")
)

var (
	errSize    = errors.New("the file there is not as large as the image says")
	errAddress = errors.New("want an address such as http://192.0.2.1:8080")
)

const (
	patience = 5 * time.Minute
	maxWait  = 10 * time.Second
	maxWrong = 3 // times that all bytes came and had another digest
	dialTime = 10 * time.Second
	chunk    = 256 << 10
)

// Fetch writes the file to w, from the beginning on and without gaps. What was
// written counts only when there was no error.
func (f Fetcher) Fetch(ctx context.Context, file File, w io.WriterAt) error {
	want, err := hex.DecodeString(file.SHA256)
	if err != nil || len(want) != sha256.Size || file.Size <= 0 {
		return fmt.Errorf("fetch %s: the image names no size or digest of it", file.Path)
	}
	t := &transfer{f: f, file: file, want: string(want), w: w, sum: sha256.New(), buf: make([]byte, chunk), last: time.Now()}
	if err := t.run(ctx); err != nil {
		return fmt.Errorf("fetch %s: %w", file.Path, err)
	}
	return nil
}

// transfer is one Fetch.
type transfer struct {
	f    Fetcher
	file File
	want string
	w    io.WriterAt
	sum  hash.Hash
	done int64 // bytes written, and in sum
	buf  []byte

	best  int64     // the most that was ever there
	last  time.Time // it became more
	wrong int
	said  string // the last error
}

// run goes through the sources until one has given the rest.
func (t *transfer) run(ctx context.Context) error {
	for wait := cmp.Or(t.f.Wait, time.Second); ; wait = min(2*wait, maxWait) {
		before := t.done
		err := ErrNoSource
		for _, base := range t.f.Sources() {
			if err = t.from(ctx, base); err == nil {
				return nil
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			t.say(base, err)
		}
		if t.wrong >= maxWrong || time.Since(t.last) > cmp.Or(t.f.Patience, patience) {
			return err
		}
		if t.done > before {
			wait = cmp.Or(t.f.Wait, time.Second)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// say logs what is new.
func (t *transfer) say(base string, err error) {
	text := base + ": " + err.Error()
	if t.f.Logf == nil || t.said == text {
		return
	}
	t.said = text
	t.f.Logf("fetch %s, %d of %d bytes are there: %s", t.file.Path, t.done, t.file.Size, text)
}

// from gets the rest from one source.
func (t *transfer) from(ctx context.Context, base string) error {
	rest, ok := strings.CutPrefix(base, "http://")
	host, path, _ := strings.Cut(rest, "/")
	if !ok || host == "" {
		return errAddress
	}
	addr := host
	if _, _, err := net.SplitHostPort(host); err != nil {
		addr += ":80"
	}
	conn, err := (&net.Dialer{Timeout: dialTime}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if path = strings.TrimSuffix(path, "/"); path != "" {
		path = "/" + path
	}
	a, err := http1.NewClient(conn, host).GetFrom(ctx, path+"/"+t.file.Path, t.done)
	if err != nil {
		return err
	}
	defer a.Close()
	if err := t.accept(a); err != nil {
		return err
	}
	if err := t.copy(a.Body, base); err != nil {
		return err
	}
	return t.check()
}

// accept looks at the head of an answer: it must be of a file of the right size, and
// go on where this transfer is. A server without ranges sends all of it again.
func (t *transfer) accept(a *http1.Answer) error {
	switch {
	case a.Status == 200 && a.Length >= 0 && a.Length != t.file.Size:
		return errSize
	case a.Status == 200:
		if t.done > 0 {
			t.again()
		}
		return nil
	case a.Status != 206:
		return fmt.Errorf("status %d", a.Status)
	case a.From != t.done || a.Total >= 0 && a.Total != t.file.Size:
		return errSize
	}
	return nil
}

// copy takes bytes until the body ends, or is longer than the file.
func (t *transfer) copy(body io.Reader, base string) error {
	for {
		n, err := body.Read(t.buf)
		if int64(n) > t.file.Size-t.done {
			t.wrong++
			t.again()
			return errSize
		}
		if n > 0 {
			if _, werr := t.w.WriteAt(t.buf[:n], t.done); werr != nil {
				return fmt.Errorf("keep it: %w", werr)
			}
			t.sum.Write(t.buf[:n])
			if t.done += int64(n); t.done > t.best { // the same bytes again are no progress
				t.best, t.last = t.done, time.Now()
			}
			if t.f.Progress != nil {
				t.f.Progress(t.done, base)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// check is asked at the end of a body. Other bytes than the right ones begin anew.
func (t *transfer) check() error {
	if t.done < t.file.Size {
		return io.ErrUnexpectedEOF
	}
	if string(t.sum.Sum(nil)) == t.want {
		return nil
	}
	t.wrong++
	t.again()
	return ErrDigest
}

func (t *transfer) again() {
	t.sum.Reset()
	t.done = 0
}
