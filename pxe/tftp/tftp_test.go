package tftp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
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

func TestServe(t *testing.T) {
	r := newRig(t, &Server{}, "127.0.0.1:0")
	for _, size := range []int{0, 1, 511, 512, 513, 1427, 1428, 1429, 100_000, 65_536, 1428 * 16} {
		name := fmt.Sprint("boot/", size)
		r.put(name, noise(size))
		for _, options := range [][]string{
			nil, {"tsize", "0"}, {"blksize", "1428"}, {"blksize", "1428", "windowsize", "1"}, {"blksize", "1428", "windowsize", "16"}, {"windowsize", "3"},
			{"BLKSIZE", "8192", "WindowSize", "16"}, {"blksize", "65464", "windowsize", "65535"}, {"blksize", "8", "windowsize", "64"}, {"timeout", "1", "blksize", "20000"},
		} {
			c := dial(t, r.addr)
			got, err := c.get(name, options...)
			if err != nil || !bytes.Equal(got, r.shelf.files[name]) {
				t.Fatalf("%d bytes, %q: %d came, %v", size, options, len(got), err)
			}
			if options != nil && len(c.oack) != len(options)/2 {
				t.Errorf("%q: %q", options, c.oack)
			}
			stagesAre(t, r, c, netboot.First, netboot.Last)
			if _, last := r.log.of(c.addr()); last.Bytes != int64(size) || last.Size != int64(size) || last.Path != name || last.Method != netboot.TFTP {
				t.Errorf("%+v", last)
			}
		}
	}
	r.released(t)
}

func TestPacketByPacket(t *testing.T) {
	r := newRig(t, &Server{whole: true}, "127.0.0.1:0")
	r.put("a", noise(300_000))
	got, err := dial(t, r.addr).get("a", "blksize", "1000", "windowsize", "16")
	if err != nil || !bytes.Equal(got, r.shelf.files["a"]) {
		t.Fatal(len(got), err)
	}
}

// weather is a network that loses, repeats and swaps packets.
type weather struct {
	*rand.Rand
	held []byte
}

func (w *weather) in(b []byte) (out [][]byte) {
	switch n := w.IntN(100); {
	case n < 10: // lost
	case n < 15:
		out = [][]byte{b, b}
	case n < 20 && w.held == nil: // overtaken by the next
		w.held = b
		return nil
	default:
		out = [][]byte{b}
	}
	if w.held != nil {
		out, w.held = append(out, w.held), nil
	}
	return out
}

func (w *weather) out([]byte) int {
	switch n := w.IntN(100); {
	case n < 10:
		return 0
	case n < 15:
		return 2
	}
	return 1
}

func TestBadNetwork(t *testing.T) {
	t.Parallel()
	r := newRig(t, &Server{Timeout: 100 * time.Millisecond, Retries: 50}, "127.0.0.1:0")
	r.put("a", noise(40_000))
	var wait sync.WaitGroup
	for _, options := range [][]string{{"tsize", "0"}, {"blksize", "1428"}, {"blksize", "1428", "windowsize", "4"}, {"blksize", "1428", "windowsize", "16"}, {"blksize", "512", "windowsize", "64"}} {
		for seed := range uint64(4) {
			wait.Go(func() {
				w := &weather{Rand: rand.New(rand.NewPCG(seed, 7))}
				c := dial(t, r.addr)
				c.in, c.out, c.wait = w.in, w.out, 300*time.Millisecond
				got, err := c.get("a", options...)
				if err != nil || !bytes.Equal(got, r.shelf.files["a"]) {
					t.Errorf("%q, seed %d: %d bytes, %v", options, seed, len(got), err)
				}
			})
		}
	}
	wait.Wait()
	r.released(t)
}

// stretch is a content of any size that takes no memory.
type stretch int64

func (s stretch) Open(context.Context, netboot.Request) (netboot.Content, error) { return s, nil }
func (s stretch) Size() int64                                                    { return int64(s) }
func (s stretch) Begin() error                                                   { return nil }
func (s stretch) Close() error                                                   { return nil }

func (s stretch) ReadAt(b []byte, at int64) (int, error) {
	n := min(int64(len(b)), int64(s)-at)
	for i := range n {
		b[i] = wave(at + i)
	}
	return int(n), nil
}

// wave has no period near that of block numbers.
func wave(i int64) byte { return byte(i ^ i>>9 ^ i>>17) }

func TestBlockNumbersWrap(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		size    int64
		options []string
	}{
		{120_000_000, []string{"blksize", "1468", "windowsize", "4"}}, // OVMF; more than 65,535 blocks
		{70_000 * 16, []string{"blksize", "16", "windowsize", "4"}},
	} {
		r := newRig(t, &Server{Source: stretch(c.size)}, "127.0.0.1:0")
		cl, at := dial(t, r.addr), int64(0)
		cl.sink = func(b []byte) {
			for i, x := range b {
				if x != wave(at+int64(i)) {
					t.Fatalf("wrong byte at %d", at+int64(i))
				}
			}
			at += int64(len(b))
		}
		if _, err := cl.get("a", c.options...); err != nil || at != c.size {
			t.Fatal(at, err)
		}
	}
}

func TestMalformed(t *testing.T) {
	r := newRig(t, &Server{}, "127.0.0.1:0")
	r.put("a", noise(5000))
	c := dial(t, r.addr)
	w := rand.New(rand.NewPCG(3, 4))
	before := runtime.NumGoroutine()
	for range 10_000 {
		b := rrq("a", "blksize", "1428", "tsize", "0", "windowsize", "4")
		switch w.IntN(4) {
		case 0: // cut
			b = b[:w.IntN(len(b))]
		case 1: // turned
			for range 1 + w.IntN(8) {
				b[w.IntN(len(b))] ^= byte(1 + w.IntN(255))
			}
		case 2: // anything
			b = make([]byte, w.IntN(1400))
			for i := range b {
				b[i] = byte(w.Uint32())
			}
		default: // of the wrong kind
			b[1] = byte(2 + w.IntN(250))
		}
		c.sendTo(b, c.to)
	}
	// Another machine is served; what this one did beyond its rate is dropped.
	got, err := dialFrom(t, r.addr, netip.MustParseAddrPort("127.0.0.2:0")).get("a", "blksize", "1428")
	if err != nil || len(got) != 5000 {
		t.Fatal(len(got), err)
	}
	if s := r.Stats(); s.Malformed < 1000 {
		t.Fatalf("%+v", s)
	}
	if n := runtime.NumGoroutine() - before; n > 100 {
		t.Errorf("%d goroutines more", n)
	}
}

// folder serves what is below a folder.
type folder struct{ root *os.Root }

func (f folder) Open(_ context.Context, r netboot.Request) (netboot.Content, error) {
	h, err := f.root.Open(r.Path)
	if err != nil {
		return nil, err // with its path, as a careless source would
	}
	info, err := h.Stat()
	if err != nil || !info.Mode().IsRegular() {
		h.Close()
		return nil, fmt.Errorf("%s is no file", h.Name())
	}
	return fileContent{h, info.Size()}, nil
}

// careless serves what a path leads to: what keeps a client inside is this package.
type careless string

func (d careless) Open(_ context.Context, r netboot.Request) (netboot.Content, error) {
	h, err := os.Open(string(d) + "/" + r.Path)
	if err != nil {
		return nil, err
	}
	info, err := h.Stat()
	if err != nil || !info.Mode().IsRegular() {
		h.Close()
		return nil, fmt.Errorf("%s is no file", h.Name())
	}
	return fileContent{h, info.Size()}, nil
}

type fileContent struct {
	*os.File
	size int64
}

func (c fileContent) Size() int64  { return c.size }
func (c fileContent) Begin() error { return nil }

func TestNothingOutside(t *testing.T) {
	outside := t.TempDir()
	inside := filepath.Join(outside, "root")
	if err := errors.Join(os.MkdirAll(filepath.Join(inside, "boot"), 0o755), os.WriteFile(filepath.Join(outside, "secret"), []byte("canary"), 0o644),
		os.WriteFile(filepath.Join(inside, "boot", "a"), []byte("fine"), 0o644), os.Symlink("../secret", filepath.Join(inside, "link")),
		os.Symlink(filepath.Join(outside, "secret"), filepath.Join(inside, "absolute")), os.Symlink("..", filepath.Join(inside, "up"))); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(inside)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	servesOnlyInside(t, folder{root}, append(traversals, "link", "absolute", "up/secret", "boot", ""))
	servesOnlyInside(t, careless(inside), append(traversals, "../secret", "boot/../../secret", `..\secret`, "/../secret", filepath.Join(outside, "secret"), "boot", ""))
}

// servesOnlyInside expects boot/a of a source, and none of names.
func servesOnlyInside(t *testing.T, source netboot.Source, names []string) {
	r := newRig(t, &Server{Source: source}, "127.0.0.1:0")
	if got, err := dial(t, r.addr).get("/boot/a"); err != nil || string(got) != "fine" {
		t.Fatal(string(got), err)
	}
	for _, name := range names {
		for _, options := range [][]string{nil, {"tsize", "0"}} {
			got, err := dial(t, r.addr).get(name, options...)
			var no *refused
			if !errors.As(err, &no) || len(got) > 0 {
				t.Errorf("%q: %q, %v", name, got, err)
			} else if strings.ContainsAny(no.words, "/\\") || strings.Contains(no.words, "root") || strings.Contains(no.words, "secret") {
				t.Errorf("%q: the answer names a path: %q", name, no.words)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	r := newRig(t, &Server{}, "127.0.0.1:0")
	r.put("a", noise(10))
	r.put("busy", noise(10))
	r.put("not", noise(10))
	r.shelf.starts(func(path string) error {
		switch path {
		case "busy":
			return fmt.Errorf("%w in /srv/secret", netboot.ErrBusy)
		case "not":
			return fmt.Errorf("%w in /srv/secret", netboot.ErrDenied)
		}
		return errTest
	})
	for _, c := range []struct {
		what   string
		packet []byte
		code   uint16
	}{
		{"no such file", rrq("b"), codeNotFound},
		{"a parent", rrq("../a"), codeNotFound},
		{"not for this client", rrq("not", "tsize", "0"), codeDenied},
		{"busy", rrq("busy"), codeOther},
		{"error with a path", rrq("a", "tsize", "0"), codeOther},
		{"the same in netascii", rq(opRRQ, "a", "netascii"), codeNotFound}, // pin knows one code
		{"write", rq(opWRQ, "a", "octet"), codeDenied},
		{"mode mail", rq(opRRQ, "a", "mail"), codeIllegal},
		{"no end", []byte("\x00\x01a"), codeIllegal},
	} {
		cl := dial(t, r.addr)
		cl.send(c.packet)
		b, _, err := cl.receive(5 * time.Second)
		if err == nil && opcode(b) == opOACK {
			cl.send(ackPacket(0))
			b, _, err = cl.receive(5 * time.Second)
		}
		if err != nil || opcode(b) != opERROR {
			t.Errorf("%s: %q, %v", c.what, b, err)
			continue
		}
		if code, words := clientError(b); code != c.code || words == "" || strings.Contains(words, "/") {
			t.Errorf("%s: %d %q, want %d", c.what, code, words, c.code)
		}
	}
	r.released(t)
}

func TestProbeIsNoError(t *testing.T) {
	r := newRig(t, &Server{}, "127.0.0.1:0")
	r.put("a", noise(4321))
	r.shelf.starts(func(string) error { t.Error("a probe began the content"); return nil })
	c := dial(t, r.addr)
	c.send(rrq("a", "tsize", "0", "blksize", "1468"))
	b, _, err := c.receive(5 * time.Second)
	if err != nil || !slices.Equal(words(b), []string{"tsize", "4321", "blksize", "1468"}) {
		t.Fatalf("%q %v", b, err)
	}
	c.send(errorPacket(codeOption, "User aborted the transfer"))
	stagesAre(t, r, c, netboot.Probed)
	r.released(t)
	if s := r.Stats(); s.Broken != 0 || s.Probed != 1 {
		t.Errorf("%+v", s)
	}
}

func TestAbortIsBroken(t *testing.T) {
	r := newRig(t, &Server{}, "127.0.0.1:0")
	r.put("a", noise(5000))
	c := dial(t, r.addr)
	c.send(rrq("a"))
	c.receive(5 * time.Second)
	c.send(ackPacket(1))
	c.receive(5 * time.Second)
	c.send(errorPacket(3, "disk \x1b[2J full"))
	stagesAre(t, r, c, netboot.First, netboot.Broken)
	if _, last := r.log.of(c.addr()); last.Bytes != 512 || !strings.Contains(last.Detail, "error 3") || strings.Contains(last.Detail, "\x1b") {
		t.Errorf("%+v", last)
	}
	r.released(t)
}

// TestSpoofedRequest counts what a request brings its sender, who may be a victim.
func TestSpoofedRequest(t *testing.T) {
	t.Parallel()
	r := newRig(t, &Server{Timeout: 20 * time.Millisecond, Retries: 3}, "127.0.0.1:0")
	r.put("a", noise(100_000))
	for _, options := range [][]string{nil, {"tsize", "0"}, {"blksize", "1468", "windowsize", "64"}} {
		c := dial(t, r.addr)
		c.send(rrq("a", options...))
		packets := 0
		for {
			b, _, err := c.receive(400 * time.Millisecond)
			if err != nil {
				break
			}
			if packets++; len(b) > plainBlock+header || options != nil && len(b) > len(rrq("a", options...)) {
				t.Errorf("%q: a packet of %d bytes", options, len(b))
			}
		}
		if packets != 4 {
			t.Errorf("%q: %d packets, want 4", options, packets)
		}
		want := []netboot.Stage{netboot.Probed}
		if options == nil {
			want = []netboot.Stage{netboot.First, netboot.Broken}
		}
		stagesAre(t, r, c, want...)
	}
	r.released(t)
}

func TestACKStorm(t *testing.T) {
	r := newRig(t, &Server{}, "127.0.0.1:0")
	r.put("a", noise(512*10))
	for _, window := range []int{1, 4} {
		c := dial(t, r.addr)
		c.send(rrq("a", "windowsize", fmt.Sprint(window)))
		c.receive(5 * time.Second)
		c.send(ackPacket(0))
		for range window {
			c.receive(5 * time.Second)
		}
		for range 1000 { // the next window is sent once, and once more for what may be a gap
			c.send(ackPacket(uint64(window)))
		}
		packets := 0
		for ; ; packets++ {
			if _, _, err := c.receive(100 * time.Millisecond); err != nil {
				break
			}
		}
		if most := map[int]int{1: 1, 4: 12}[window]; packets > most {
			t.Errorf("window %d: %d blocks for 1000 equal ACKs, want at most %d", window, packets, most)
		}
		c.send(errorPacket(0, "enough"))
	}
	r.released(t)
}

func TestStrangerGetsError5(t *testing.T) {
	r := newRig(t, &Server{}, "127.0.0.1:0")
	r.put("a", noise(50_000))
	c, stranger := dial(t, r.addr), dial(t, r.addr)
	seen := 0
	c.in = func(b []byte) [][]byte {
		if opcode(b) == opDATA && seen < 3 {
			seen++
			stranger.sendTo(ackPacket(uint64(seen)), c.peer)
			stranger.sendTo(errorPacket(0, "away"), c.peer) // not answered
		}
		return [][]byte{b}
	}
	got, err := c.get("a", "blksize", "1000", "windowsize", "2")
	if err != nil || !bytes.Equal(got, r.shelf.files["a"]) {
		t.Fatal(len(got), err)
	}
	errors := 0
	for {
		b, from, err := stranger.receive(200 * time.Millisecond)
		if err != nil {
			break
		}
		if code, _ := clientError(b); opcode(b) != opERROR || code != codeTID || from != c.peer {
			t.Errorf("%q from %s", b, from)
		}
		errors++
	}
	if errors == 0 || errors > 3 {
		t.Errorf("%d answers to a stranger's 3 ACKs", errors)
	}
}

func TestAnswersFromTheAddressThatWasAsked(t *testing.T) {
	for listen, asked := range map[string][]string{"0.0.0.0:0": {"127.0.0.1", "127.0.0.2", "127.9.9.9"}, "[::]:0": {"127.0.0.3", "::1"}, "[::1]:0": {"::1"}} {
		r := newRig(t, &Server{}, listen)
		r.put("a", noise(2000))
		for _, a := range asked {
			for _, mode := range []string{"octet", "netascii"} {
				c := dial(t, netip.AddrPortFrom(netip.MustParseAddr(a), r.addr.Port()))
				c.send(rq(opRRQ, "a", mode))
				b, from, err := c.receive(5 * time.Second)
				if err != nil || from.Addr().Unmap().String() != a || opcode(b) != opDATA && mode == "octet" {
					t.Errorf("%s asked at %s for %s: %d from %s, %v", listen, a, mode, opcode(b), from, err)
				}
				c.send(errorPacket(0, "enough"))
			}
		}
		r.released(t)
	}
}

func TestLateClientsWait(t *testing.T) {
	r := newRig(t, &Server{Limits: Limits{Transfers: 1, Waiting: 1}}, "127.0.0.1:0")
	r.put("a", noise(600))
	first, second, third := dial(t, r.addr), dial(t, r.addr), dial(t, r.addr)
	first.send(rrq("a"))
	first.receive(5 * time.Second)
	second.send(rrq("a", "tsize", "0"))
	until(t, "one waits", func() bool { return r.Stats().Waiting == 1 })
	second.send(rrq("a", "tsize", "0")) // again, as it does when nothing comes
	third.send(rrq("a"))
	until(t, "one is dropped", func() bool { return r.Stats().Dropped == 1 })
	if b, _, err := second.receive(100 * time.Millisecond); err == nil {
		t.Fatalf("an answer while all are busy: %q", b)
	}
	first.send(ackPacket(1))
	first.receive(5 * time.Second)
	first.send(ackPacket(2))
	b, _, err := second.receive(5 * time.Second)
	if err != nil || opcode(b) != opOACK {
		t.Fatalf("the client that waited got %q, %v", b, err)
	}
	if b, _, err := third.receive(50 * time.Millisecond); err == nil {
		t.Errorf("the client beyond the bound got %q", b)
	}
	second.send(errorPacket(0, "enough"))
	r.released(t)
}

func TestClientStartsAnew(t *testing.T) {
	r := newRig(t, &Server{Timeout: 100 * time.Millisecond, Retries: 100}, "127.0.0.1:0")
	r.put("a", noise(5000))
	r.put("b", noise(600))
	c := dial(t, r.addr)
	c.send(rrq("a"))
	c.receive(5 * time.Second)
	// From the same port, for another file: the first transfer is left.
	other := &client{t: t, conn: c.conn, to: c.to, limit: 5 * time.Second}
	other.in = func(b []byte) [][]byte {
		if opcode(b) == opDATA && len(b) == header+plainBlock && bytes.Equal(b[header:], r.shelf.files["a"][:plainBlock]) {
			other.peer = netip.AddrPort{} // the last of the old one
			return nil
		}
		return [][]byte{b}
	}
	got, err := other.get("b")
	if err != nil || !bytes.Equal(got, r.shelf.files["b"]) {
		t.Fatal(len(got), err)
	}
	r.released(t)
	if s := r.Stats(); s.Broken != 1 || s.Finished != 1 {
		t.Errorf("%+v", s)
	}
}

func TestRepeatedRequestIsOneTransfer(t *testing.T) {
	r := newRig(t, &Server{}, "127.0.0.1:0")
	r.put("a", noise(5000))
	c := dial(t, r.addr)
	for range 20 {
		c.sendTo(rrq("a", "tsize", "0"), c.to)
	}
	got, err := c.get("a", "tsize", "0")
	if err != nil || len(got) != 5000 {
		t.Fatal(len(got), err)
	}
	r.released(t)
	if n := r.shelf.opened["a"]; n != 1 {
		t.Errorf("opened %d times", n)
	}
}

func TestStopLetsTransfersEnd(t *testing.T) {
	r := newRig(t, &Server{Grace: time.Minute}, "127.0.0.1:0")
	r.put("a", noise(3000))
	c := dial(t, r.addr)
	c.send(rrq("a", "tsize", "0"))
	c.receive(5 * time.Second)
	ended := make(chan struct{})
	go func() {
		r.stop()
		close(ended)
	}()
	f := &fetched{client: c, block: plainBlock, window: 1}
	f.answer(0)
	for !f.done {
		b, _, err := c.receive(5 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.take(b); err != nil {
			t.Fatal(err)
		}
	}
	<-ended
	if !bytes.Equal(f.data, r.shelf.files["a"]) {
		t.Error("other bytes")
	}
}

func TestStopEndsTheRest(t *testing.T) {
	r := newRig(t, &Server{Grace: 10 * time.Millisecond}, "127.0.0.1:0")
	r.put("a", noise(3000))
	c := dial(t, r.addr)
	c.send(rrq("a"))
	c.receive(5 * time.Second)
	r.stop()
	if b, _, err := c.receive(5 * time.Second); err != nil || opcode(b) != opERROR {
		t.Errorf("%q %v", b, err)
	}
	stagesAre(t, r, c, netboot.First, netboot.Broken)
	r.released(t)
}

func TestManyClients(t *testing.T) {
	r := newRig(t, &Server{Limits: Limits{Transfers: 100}}, "127.0.0.1:0")
	r.put("a", noise(200_000))
	var wait sync.WaitGroup
	for i := range 300 {
		wait.Go(func() {
			c := dialFrom(t, r.addr, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, 0, byte(i)}), 0))
			c.wait = 4 * time.Second
			got, err := c.get("a", "blksize", "1428", "windowsize", "4", "tsize", "0")
			if err != nil || !bytes.Equal(got, r.shelf.files["a"]) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	wait.Wait()
	r.released(t)
	if s := r.Stats(); s.Finished != 300 || s.Bytes != 300*200_000 {
		t.Errorf("%+v", s)
	}
}
