package netlab_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/netlab"
)

// pair is two hosts on one cable.
func pair(t *testing.T) (a, b *netlab.Space) {
	t.Helper()
	a, b = netlab.New(t, "a"), netlab.New(t, "b")
	netlab.Cable(a, "eth0", b, "eth0")
	a.Address("eth0", "10.9.0.1/24", "fd09::1/64")
	b.Address("eth0", "10.9.0.2/24", "fd09::2/64")
	return a, b
}

// echo answers datagrams with themselves.
func echo(t *testing.T, s *netlab.Space, address string) {
	t.Helper()
	conn, err := s.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			conn.WriteTo(b[:n], from)
		}
	}()
}

// ask sends a datagram and waits for its answer.
func ask(t *testing.T, s *netlab.Space, address string, text []byte) (string, error) {
	t.Helper()
	conn, err := s.Dial(t.Context(), "udp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write(text)
	conn.SetReadDeadline(time.Now().Add(time.Second))
	b := make([]byte, 1<<16)
	n, err := conn.Read(b)
	return string(b[:n]), err
}

func TestHostsReachEachOtherAndNobodyElse(t *testing.T) {
	a, b := pair(t)
	for _, address := range []string{"10.9.0.2:7", "[fd09::2]:7"} {
		echo(t, b, address)
		got, err := ask(t, a, address, []byte("hello"))
		for range 9 { // the first datagram waits for its neighbour, too, which a busy computer finds late
			if err == nil {
				break
			}
			got, err = ask(t, a, address, []byte("hello"))
		}
		if got != "hello" {
			t.Errorf("%s answers %q, %v", address, got, err)
		}
	}
	l, err := b.Listen("tcp", "10.9.0.2:80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var asked atomic.Int32
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		io.WriteString(w, r.RemoteAddr)
	}))
	resp, err := a.Client().Get("http://10.9.0.2/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); !strings.HasPrefix(string(text), "10.9.0.1:") {
		t.Errorf("the server sees %q", text)
	}
	outside := http.Client{Timeout: 200 * time.Millisecond}
	if resp, err := outside.Get("http://10.9.0.2/"); err == nil {
		resp.Body.Close() // something else has that address out there
	}
	if asked.Load() != 1 {
		t.Error("the host outside reaches it")
	}
}

func TestProgramsRunInsideAndEndWithTheTest(t *testing.T) {
	var p *netlab.Process
	t.Run("inside", func(t *testing.T) {
		a, _ := pair(t)
		if out := a.Run("ip", "-o", "-4", "addr"); !strings.Contains(out, "10.9.0.1/24") || strings.Count(out, "\n") != 2 {
			t.Errorf("it has %s", out)
		}
		p = a.StartCommand(exec.Command("sh", "-c", "sleep 100 & echo child $!; wait"))
		p.Await("child", 5*time.Second)
	})
	select {
	case <-p.Done():
	default:
		t.Error("the program still runs")
	}
	var child int
	fmt.Sscanf(p.Said(), "child %d", &child)
	for end := time.Now().Add(5 * time.Second); syscall.Kill(child, 0) == nil; time.Sleep(10 * time.Millisecond) {
		if stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child)); strings.Contains(string(stat), ") Z ") {
			break // nobody has waited for it
		}
		if time.Now().After(end) {
			t.Fatalf("its child %d still runs", child)
		}
	}
}

func TestCaptureSeesFragmentsAndText(t *testing.T) {
	a, b := pair(t)
	var fragments, ports atomic.Int32
	search := netlab.NewSearch("needle", "absent")
	c := b.Capture("eth0", func(f netlab.Frame) {
		p := netlab.Parse(f.Data)
		if p.Fragment {
			fragments.Add(1)
		}
		if p.Destination.String() == "10.9.0.2:7" {
			ports.Add(1)
		}
		if age := time.Since(f.Time); age < 0 || age > time.Minute {
			t.Errorf("a frame is %s old", age)
		}
		search.See(f)
	})
	echo(t, b, "10.9.0.2:7")
	ask(t, a, "10.9.0.2:7", []byte("short"))
	if c.Lost != 0 || fragments.Load() != 0 {
		t.Errorf("a short datagram: %d fragments", fragments.Load())
	}
	long := append(bytes.Repeat([]byte{'x'}, 2500), "needle"...)
	ask(t, a, "10.9.0.2:7", long)
	c.Stop()
	if fragments.Load() != 4 || ports.Load() != 1 || c.Frames < 6 || c.Lost != 0 {
		t.Errorf("%d fragments, %d datagrams, %+v", fragments.Load(), ports.Load(), c)
	}
	if found := search.Found(); len(found) != 1 || found["needle"].Source.Addr().String() == "" {
		t.Errorf("found %v", found)
	}
}

// A text that two segments of a connection, or two blocks of TFTP, share is found.
func TestSearchLooksAcrossPackets(t *testing.T) {
	a, b := pair(t)
	search := netlab.NewSearch("one text", "two blocks")
	c := b.Capture("eth0", search.See)
	echo(t, b, "10.9.0.2:7")
	conn, err := a.Dial(t.Context(), "udp", "10.9.0.2:7")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, s := range []string{"...one", " text...", "\x00\x03\x00\x01..two b", "\x00\x03\x00\x02locks"} {
		conn.Write([]byte(s))
	}
	time.Sleep(50 * time.Millisecond)
	c.Stop()
	if len(search.Found()) != 2 {
		t.Errorf("found %v", search.Found())
	}
}

// A bridge with two taps: what is spliced goes through treat.
func TestSpliceLosesAndDoubles(t *testing.T) {
	a, b := netlab.New(t, "a"), netlab.New(t, "b")
	ta, tb := a.Tap("tap0", ""), b.Tap("tap0", "")
	a.Address("tap0", "10.9.0.1/24")
	b.Bridge("br0", "10.9.0.2/24")
	b.Plug("tap0", "br0")
	var mu sync.Mutex
	copies := 1
	netlab.Splice(ta, tb, func(frame []byte, toB bool) int {
		mu.Lock()
		defer mu.Unlock()
		if netlab.Parse(frame).Protocol != 17 {
			return 1 // ARP
		}
		return copies
	})
	echo(t, b, "10.9.0.2:7")
	if got, err := ask(t, a, "10.9.0.2:7", []byte("whole")); got != "whole" {
		t.Fatalf("%q, %v", got, err)
	}
	mu.Lock()
	copies = 0
	mu.Unlock()
	if got, err := ask(t, a, "10.9.0.2:7", []byte("lost")); err == nil {
		t.Errorf("%q came through a cut cable", got)
	}
}

// A router between two networks.
func TestRouter(t *testing.T) {
	a, r, b := netlab.New(t, "a"), netlab.New(t, "r"), netlab.New(t, "b")
	netlab.Cable(a, "eth0", r, "left")
	netlab.Cable(b, "eth0", r, "right")
	a.Address("eth0", "10.1.0.2/24")
	r.Address("left", "10.1.0.1/24")
	r.Address("right", "10.2.0.1/24")
	b.Address("eth0", "10.2.0.2/24")
	a.Route("10.2.0.0/24", "10.1.0.1")
	b.Route("10.1.0.0/24", "10.2.0.1")
	r.Router()
	echo(t, b, "10.2.0.2:7")
	if got, err := ask(t, a, "10.2.0.2:7", []byte("far")); got != "far" {
		t.Errorf("%q, %v", got, err)
	}
}
