package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// memory is where it goes.
type memory struct{ b []byte }

func (m *memory) WriteAt(b []byte, off int64) (int, error) {
	if need := off + int64(len(b)); need > int64(len(m.b)) {
		m.b = append(m.b, make([]byte, need-int64(len(m.b)))...)
	}
	return copy(m.b[off:], b), nil
}

func content(n int) ([]byte, File) {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b)
	sum := sha256.Sum256(b)
	digest := hex.EncodeToString(sum[:])
	return b, File{Path: "root/" + digest, Size: int64(n), SHA256: digest}
}

// server serves the file by f.
func server(t *testing.T, f http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return s.URL
}

// serveFile is the standard library's file server for these bytes.
func serveFile(file File, b []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/base/"+file.Path {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
	}
}

func fetch(t *testing.T, file File, want []byte, bases ...string) error {
	t.Helper()
	m := &memory{}
	f := Fetcher{Sources: func() []string { return bases }, Wait: time.Millisecond, Patience: 200 * time.Millisecond, Logf: t.Logf}
	err := f.Fetch(t.Context(), file, m)
	if err == nil && !bytes.Equal(m.b, want) {
		t.Error("other bytes were written than those of the file")
	}
	return err
}

func TestFetch(t *testing.T) {
	b, file := content(1<<20 + 17)
	if err := fetch(t, file, b, server(t, serveFile(file, b))+"/base"); err != nil {
		t.Fatal(err)
	}
	if err := fetch(t, file, b, server(t, http.NotFound), "https://127.0.0.1:1", "http://127.0.0.1:1", server(t, serveFile(file, b))+"/base/"); err != nil {
		t.Errorf("the fourth source has it: %v", err)
	}
}

// cut is a file server that ends each answer after some bytes.
type cut struct {
	next   http.Handler
	after  int
	ranges bool
	mu     sync.Mutex
	asked  []string
}

func (c *cut) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.asked = append(c.asked, r.Header.Get("Range"))
	n := len(c.asked)
	c.mu.Unlock()
	if !c.ranges {
		r.Header.Del("Range")
		c.next.ServeHTTP(&short{ResponseWriter: w, left: c.after * n}, r)
		return
	}
	c.next.ServeHTTP(&short{ResponseWriter: w, left: c.after}, r)
}

type short struct {
	http.ResponseWriter
	left int
}

func (s *short) Write(b []byte) (int, error) {
	if len(b) > s.left {
		s.ResponseWriter.Write(b[:s.left])
		s.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	s.left -= len(b)
	return s.ResponseWriter.Write(b)
}

// TestResume: what came is not asked for again, and a server that knows no ranges
// is started anew.
func TestResume(t *testing.T) {
	b, file := content(1 << 20)
	c := &cut{next: serveFile(file, b), after: 300000, ranges: true}
	if err := fetch(t, file, b, server(t, c.ServeHTTP)+"/base"); err != nil {
		t.Fatal(err)
	}
	if len(c.asked) != 4 || c.asked[0] != "" || c.asked[1] != "bytes=300000-" || c.asked[3] != "bytes=900000-" {
		t.Errorf("asked for %q", c.asked)
	}
	c = &cut{next: serveFile(file, b), after: 300000}
	if err := fetch(t, file, b, server(t, c.ServeHTTP)+"/base"); err != nil {
		t.Fatal(err)
	}
}

// TestOther: bytes of another file are not taken, however they come.
func TestOther(t *testing.T) {
	b, file := content(100000)
	wrong := bytes.Clone(b)
	wrong[50000] ^= 1
	for name, h := range map[string]http.HandlerFunc{
		"one bit": serveFile(file, wrong),
		"longer":  serveFile(file, append(bytes.Clone(b), 0)),
		"shorter": serveFile(file, b[:99999]),
		"longer, of no length": func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			w.Write(b)
			w.Write(b)
		},
		"another part": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 1-99999/%d", len(b)))
			w.WriteHeader(206)
			w.Write(b[1:])
		},
		"elsewhere": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/x", http.StatusFound) },
	} {
		err := fetch(t, file, b, server(t, h)+"/base")
		if err == nil {
			t.Errorf("%s: taken", name)
		}
		if (name == "one bit") != errors.Is(err, ErrDigest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Behind a wrong one the right one is found.
	if err := fetch(t, file, b, server(t, serveFile(file, wrong))+"/base", server(t, serveFile(file, b))+"/base"); err != nil {
		t.Error(err)
	}
}

func TestNoSource(t *testing.T) {
	_, file := content(10)
	if err := fetch(t, file, nil); !errors.Is(err, ErrNoSource) {
		t.Errorf("without a source: %v", err)
	}
	file.SHA256 = ""
	if err := fetch(t, file, nil); err == nil || !strings.Contains(err.Error(), "no size or digest") {
		t.Errorf("without a digest: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, file = content(10)
	f := Fetcher{Sources: func() []string { return []string{"http://127.0.0.1:1"} }}
	if err := f.Fetch(ctx, file, &memory{}); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}
