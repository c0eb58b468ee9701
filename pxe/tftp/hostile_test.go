package tftp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/pxe/netboot"
)

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
		{"the same in netascii", rq(opRRQ, "a", "netascii"), codeOther},
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
		most := 4 // the offer and its retries
		if options == nil {
			most = 1 + retriesUnheard
		}
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
		if packets != most {
			t.Errorf("%q: %d packets, want %d", options, packets, most)
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

// TestLoneFlood: a client that has the server for itself and sends without end holds up
// neither another client nor the end of the server.
func TestLoneFlood(t *testing.T) {
	r := newRig(t, &Server{}, "127.0.0.1:0")
	r.put("a", noise(512*10))
	flooder := dial(t, r.addr)
	flooder.send(rrq("a"))
	if _, _, err := flooder.receive(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for b := ackPacket(0); ; {
			select {
			case <-stop:
				return
			default:
				_, _ = flooder.conn.WriteToUDPAddrPort(b, flooder.peer)
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	if got, err := dial(t, r.addr).get("a"); err != nil || !bytes.Equal(got, r.shelf.files["a"]) {
		t.Errorf("the other client has %d bytes, %v", len(got), err)
	}
	ended := make(chan struct{})
	go func() { r.stop(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the server does not stop")
	}
}
