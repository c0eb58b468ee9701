package httpboot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// body is the content of a file of n bytes.
func body(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(uint64(n), 1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// shelf is a Source in a directory: of the names that it has been given.
type shelf struct {
	t     testing.TB
	dir   string
	copy  bool // without File
	begin error
	open  error

	mu    sync.Mutex
	asked []netboot.Request
	begun int
	reads atomic.Int64  // by ReadAt
	stale atomic.Bool   // the files have changed
	after atomic.Int64  // reads and looks until they change; 0: they do not
	hold  chan struct{} // nil: files are given at once
}

func newShelf(t testing.TB) *shelf { return &shelf{t: t, dir: t.TempDir()} }

func (s *shelf) put(name string, b []byte) []byte {
	s.t.Helper()
	path := filepath.Join(s.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		s.t.Fatal(err)
	}
	return b
}

// Open implements netboot.Source: as carelessly as an implementation could.
func (s *shelf) Open(ctx context.Context, r netboot.Request) (netboot.Content, error) {
	s.mu.Lock()
	s.asked = append(s.asked, r)
	s.mu.Unlock()
	if s.hold != nil {
		select {
		case <-s.hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if s.open != nil {
		return nil, s.open
	}
	f, err := os.Open(s.dir + "/" + r.Path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s/%s: %w", s.dir, r.Path, netboot.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil || info.IsDir() {
		f.Close()
		return nil, netboot.ErrNotFound
	}
	b := &book{File_: f, s: s, size: info.Size()}
	if s.copy {
		return b, nil
	}
	return &fileBook{b}, nil
}

// book is a Content that is copied.
type book struct {
	File_ *os.File
	s     *shelf
	size  int64
}

var errStale = errors.New("was changed meanwhile")

func (b *book) Size() int64 { return b.size }

func (b *book) Close() error { return b.File_.Close() }

func (b *book) Begin() error {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	b.s.begun++
	return b.s.begin
}

func (b *book) Digest() string {
	h := sha256.New()
	io.Copy(h, io.NewSectionReader(b.File_, 0, b.size))
	return hex.EncodeToString(h.Sum(nil))
}

func (b *book) ReadAt(p []byte, off int64) (int, error) {
	b.s.reads.Add(1)
	if err := b.same(); err != nil {
		return 0, err
	}
	return b.File_.ReadAt(p, off)
}

// same changes the file when its time has come.
func (b *book) same() error {
	if b.s.after.Load() > 0 && b.s.after.Add(-1) == 0 {
		b.s.stale.Store(true)
	}
	if b.s.stale.Load() {
		return errStale
	}
	return nil
}

// fileBook is a Content with a file.
type fileBook struct{ *book }

func (b *fileBook) File() *os.File { return b.File_ }

func (b *fileBook) Same() error { return b.same() }

// diary is a Watcher.
type diary struct {
	mu     sync.Mutex
	events []netboot.Event
}

func (d *diary) Saw(e netboot.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events = append(d.events, e)
}

// stages are what was seen, in order, and forgets it.
func (d *diary) stages() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var s []string
	for _, e := range d.events {
		s = append(s, string(e.Stage))
	}
	d.events = nil
	return strings.Join(s, " ")
}

// running is a server on loopback.
type running struct {
	*Server
	src    *shelf
	diary  *diary
	addr   string
	url    string
	stop   context.CancelFunc
	ended  chan error
	client *http.Client
}

func run(t testing.TB, src *shelf, l Limits) *running {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &running{src: src, diary: &diary{}, addr: ln.Addr().String(), stop: stop, ended: make(chan error, 1), client: &http.Client{Transport: &http.Transport{DisableCompression: true}}}
	r.url = "http://" + r.addr + "/"
	r.Server = &Server{Source: src, Watcher: r.diary, Limits: l}
	go func() { r.ended <- r.Serve(ctx, ln) }()
	t.Cleanup(func() {
		r.client.CloseIdleConnections()
		stop()
		if err := <-r.ended; err != nil {
			t.Errorf("serve: %v", err)
		}
		r.ended <- nil
	})
	return r
}

// do asks, with headers in pairs.
func (r *running) do(t testing.TB, method, path string, header ...string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequest(method, r.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, b
}

// raw sends bytes and gives all that comes back until the server closes.
func (r *running) raw(t testing.TB, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(request)); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	io.Copy(&b, conn)
	return b.String()
}
