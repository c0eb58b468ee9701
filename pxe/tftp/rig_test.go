package tftp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// shelf is a source that holds its files in memory.
type shelf struct {
	mu     sync.Mutex
	files  map[string][]byte
	begin  func(path string) error
	opened map[string]int
	open   int
}

func (s *shelf) Open(_ context.Context, r netboot.Request) (netboot.Content, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.files[r.Path]
	if !ok {
		return nil, &hidden{netboot.ErrNotFound}
	}
	if s.opened == nil {
		s.opened = map[string]int{}
	}
	s.opened[r.Path]++
	s.open++
	return &book{Reader: bytes.NewReader(b), shelf: s, path: r.Path}, nil
}

// hidden is an error that names a path of the server.
type hidden struct{ error }

func (h *hidden) Error() string { return "open /srv/secret: " + h.error.Error() }
func (h *hidden) Unwrap() error { return h.error }

type book struct {
	*bytes.Reader
	shelf *shelf
	path  string
}

func (b *book) Begin() error {
	b.shelf.mu.Lock()
	f := b.shelf.begin
	b.shelf.mu.Unlock()
	if f != nil {
		return f(b.path)
	}
	return nil
}

func (b *book) Close() error {
	b.shelf.mu.Lock()
	defer b.shelf.mu.Unlock()
	b.shelf.open--
	return nil
}

// log keeps events.
type log struct {
	mu     sync.Mutex
	events []netboot.Event
}

func (l *log) Saw(e netboot.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

func (l *log) of(addr netip.AddrPort) (stages []netboot.Stage, last netboot.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		if e.Addr == addr {
			stages = append(stages, e.Stage)
			last = e
		}
	}
	return stages, last
}

// rig is a running server.
type rig struct {
	*Server
	shelf *shelf
	log   *log
	addr  netip.AddrPort
	stop  func()
}

func newRig(t testing.TB, s *Server, at string) *rig {
	t.Helper()
	r := &rig{Server: s, shelf: &shelf{files: map[string][]byte{}}, log: &log{}}
	if s.Source == nil {
		s.Source = r.shelf
	}
	s.Watcher = r.log
	conn, err := Listen(netip.MustParseAddrPort(at), "")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = conn.LocalAddr().(*net.UDPAddr).AddrPort()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, conn) }()
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
	if s.Grace == 0 {
		s.Grace = time.Millisecond
	}
	t.Cleanup(r.stop)
	return r
}

// put gives the server a file.
func (r *rig) put(name string, b []byte) {
	r.shelf.mu.Lock()
	defer r.shelf.mu.Unlock()
	r.shelf.files[name] = b
}

// starts has f asked before the first byte of a file.
func (s *shelf) starts(f func(path string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begin = f
}

// noise is bytes without a pattern, so that a block in a wrong place shows.
func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)})
	r.Read(b)
	return b
}

var errTest = errors.New("read /srv/secret/file: broken")

// until waits for something that another goroutine does.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 1000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("never: %s", what)
}

// released waits until a server holds nothing any more.
func (r *rig) released(t *testing.T) {
	t.Helper()
	until(t, "all contents closed and no transfer active", func() bool {
		r.shelf.mu.Lock()
		defer r.shelf.mu.Unlock()
		return r.shelf.open == 0 && r.Stats().Active == 0
	})
}

func stagesAre(t *testing.T, r *rig, c *client, want ...netboot.Stage) {
	t.Helper()
	until(t, fmt.Sprint(want), func() bool {
		got, _ := r.log.of(c.addr())
		return slices.Equal(got, want)
	})
}
