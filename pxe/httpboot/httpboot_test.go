package httpboot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/pxe/netboot"
)

const uki = "boot/525400123456/hello-1.0.0.efi"

// TestFirmware: what EDK2 does: the size by HEAD, then all by GET.
func TestFirmware(t *testing.T) {
	for _, copy := range []bool{false, true} {
		for _, n := range []int{0, 1, lastPiece, lastPiece + 1, firstPiece + lastPiece, piece, piece + firstPiece + 1, 5<<20 + 3} {
			t.Run(fmt.Sprint(n, copy), func(t *testing.T) {
				s := newShelf(t)
				s.copy = copy
				want := s.put(uki, body(n))
				r := run(t, s, Limits{})
				resp, b := r.do(t, "HEAD", uki)
				tag := resp.Header.Get("ETag")
				if resp.StatusCode != 200 || resp.ContentLength != int64(n) || len(b) != 0 || resp.Header.Get("Content-Type") != "application/efi" || len(tag) != 66 || resp.Header.Get("Accept-Ranges") != "bytes" {
					t.Errorf("HEAD: %v %d", resp, resp.ContentLength)
				}
				if got := r.diary.stages(); got != "probed" || s.begun != 0 {
					t.Errorf("a probe: %q, begun %d times", got, s.begun)
				}
				resp, b = r.do(t, "GET", uki)
				if resp.StatusCode != 200 || resp.ContentLength != int64(n) || !bytes.Equal(b, want) || resp.Header.Get("ETag") != tag {
					t.Errorf("GET: %v, %d bytes of %d", resp, len(b), n)
				}
				r.stop()
				r.ended <- <-r.ended // Last is told after the last byte
				if got := r.diary.stages(); got != "first last" && (n > 0 || got != "last") || s.begun != 1 {
					t.Errorf("a transfer: %q, begun %d times", got, s.begun)
				}
				if s.asked[0].Path != uki || !s.asked[0].Probe || s.asked[1].Probe || s.asked[1].Method != netboot.HTTP || !s.asked[1].Addr.Addr().IsLoopback() {
					t.Errorf("%+v", s.asked)
				}
				if reads := s.reads.Load(); !copy && reads > 2 {
					t.Errorf("%d pieces were copied: not by sendfile", reads)
				}
			})
		}
	}
}

// TestEvents: what an event says.
func TestEvents(t *testing.T) {
	s := newShelf(t)
	s.put(uki, body(3<<20))
	r := run(t, s, Limits{})
	r.do(t, "GET", uki)
	r.do(t, "GET", "boot/none.efi")
	r.do(t, "GET", "")
	r.do(t, "POST", uki)
	r.do(t, "GET", uki, "Range", "bytes=0-9")
	r.do(t, "GET", uki, "Range", "bytes=3145720-")
	r.stop()
	r.ended <- <-r.ended
	var got []string
	for _, e := range r.diary.events {
		if e.Time.IsZero() || e.Method != netboot.HTTP || !e.Addr.IsValid() {
			t.Errorf("%+v", e)
		}
		got = append(got, fmt.Sprintf("%s %s %d/%d", e.Stage, e.Path, e.Bytes, e.Size))
	}
	want := []string{
		"first " + uki + " 65536/3145728", "last " + uki + " 3145728/3145728", "refused boot/none.efi 0/0", `refused "/" 0/0`, "refused " + uki + " 0/0",
		"first " + uki + " 10/3145728", "first " + uki + " 8/3145728", "last " + uki + " 8/3145728",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// TestRanges: one range is obeyed, what is none is not there, and what is outside
// is refused.
func TestRanges(t *testing.T) {
	s := newShelf(t)
	want := s.put("root/x", body(200_000))
	r := run(t, s, Limits{})
	tag := func() string { resp, _ := r.do(t, "HEAD", "root/x"); return resp.Header.Get("ETag") }()
	for header, x := range map[string]struct {
		status   int
		from, to int
	}{
		"bytes=0-": {206, 0, 200_000}, "bytes=0-0": {206, 0, 1}, "bytes=199999-": {206, 199_999, 200_000},
		"bytes=10-19": {206, 10, 20}, "bytes=-1": {206, 199_999, 200_000}, "bytes=-300000": {206, 0, 200_000},
		"bytes=150000-99999999999999999999999": {206, 150_000, 200_000}, "BYTES=1-2": {206, 1, 3}, " bytes = 1-2": {206, 1, 3},
		"bytes=200000-": {416, 0, 0}, "bytes=99999999999999999999999-": {416, 0, 0}, "bytes=-0": {416, 0, 0},
		"bytes=5-2": {200, 0, 200_000}, "bytes=0-1,5-6": {200, 0, 200_000}, "bytes=": {200, 0, 200_000}, "bytes=-": {200, 0, 200_000},
		"lines=1-2": {200, 0, 200_000}, "bytes=a-b": {200, 0, 200_000}, "bytes=+1-2": {200, 0, 200_000}, "bytes=--1": {200, 0, 200_000}, "bytes": {200, 0, 200_000},
	} {
		resp, b := r.do(t, "GET", "root/x", "Range", header)
		if resp.StatusCode != x.status {
			t.Errorf("%q: %s", header, resp.Status)
			continue
		}
		cr := resp.Header.Get("Content-Range")
		switch x.status {
		case 416:
			if cr != "bytes */200000" {
				t.Errorf("%q: %q", header, cr)
			}
		case 206:
			if want := fmt.Sprintf("bytes %d-%d/200000", x.from, x.to-1); cr != want {
				t.Errorf("%q: %q, want %q", header, cr, want)
			}
			fallthrough
		case 200:
			if !bytes.Equal(b, want[x.from:x.to]) {
				t.Errorf("%q: %d bytes", header, len(b))
			}
		}
	}
	for _, x := range []struct {
		status int
		header []string
	}{
		{206, []string{"Range", "bytes=1-2", "If-Range", tag}},
		{200, []string{"Range", "bytes=1-2", "If-Range", `"other"`}},
		{200, []string{"Range", "bytes=1-2", "If-Range", "W/" + tag}},
		{200, []string{"Range", "bytes=1-2", "If-Range", "Mon, 23 Nov 2026 10:00:00 GMT"}},
		{304, []string{"If-None-Match", tag}}, {304, []string{"If-None-Match", `"a", W/` + tag}}, {304, []string{"If-None-Match", "*"}},
		{200, []string{"If-None-Match", `"a"`}}, {412, []string{"If-Match", `"a"`}}, {412, []string{"If-Match", "W/" + tag}},
		{200, []string{"If-Match", `"a"`, "If-Match", tag}}, {206, []string{"If-Match", "*", "Range", "bytes=0-0"}},
	} {
		if resp, _ := r.do(t, "GET", "root/x", x.header...); resp.StatusCode != x.status {
			t.Errorf("%q: %s, want %d", x.header, resp.Status, x.status)
		}
	}
	if resp, b := r.do(t, "HEAD", "root/x", "Range", "bytes=0-0"); resp.StatusCode != 200 || resp.ContentLength != 200_000 || len(b) != 0 {
		t.Errorf("HEAD with a range: %s %d", resp.Status, resp.ContentLength)
	}
}

// outside are paths that lead out of the source's directory, or to no file, in
// many encodings.
var outside = []string{
	"/../secret", "/boot/../../secret", "/boot/..", "/%2e%2e/secret", "/%2E%2E/secret", "/.%2e/secret", "/boot%2f..%2f..%2fsecret", "/..%2fsecret",
	"/%252e%252e/secret", "/%252e%252e%252fsecret", "/..\\secret", "/boot\\..\\..\\secret", "/..%5csecret", "/%5c..%5csecret", "//../secret", "/boot//../../secret",
	"/./secret", "/boot/./a.efi", "/boot/", "/", "//", "//etc/passwd", "/boot//a.efi", "/boot%2fa.efi", "/boot/a.efi%00", "/boot/a.efi%00.txt", "/%00",
	"/%c0%ae%c0%ae/secret", "/%c0%ae%c0%ae%c0%afsecret", "/%e0%80%ae%e0%80%ae/secret", "/..%c0%afsecret", "/%uff0e%uff0e/secret", "/..;/secret", "/boot/%0a", "/boot/a.efi%20", "/boot/a.efi/",
	"/boot/a.efi/..", "/boot/a.efi/.", "/boot", "/" + strings.Repeat("a/", 400) + "a", "/" + strings.Repeat("a", 5000), "/~root", "/%2fetc%2fpasswd", "/file:///etc/passwd", "/..%00/secret", "/…/secret",
}

// TestOutside: nothing but files of the source, by their own names. The source
// of this test would open whatever it is asked for.
func TestOutside(t *testing.T) {
	s := newShelf(t)
	s.put("secret", []byte("secret"))
	s.put("public/boot/a.efi", body(10))
	s.dir += "/public"
	r := run(t, s, Limits{PerAddress: 1000})
	for _, path := range outside {
		for _, host := range []string{"", "http://x"} {
			got := r.raw(t, "GET "+host+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			status, _, _ := strings.Cut(got, "\r\n")
			if !strings.HasPrefix(status, "HTTP/1.1 404") && !strings.HasPrefix(status, "HTTP/1.1 400") || strings.Contains(got, "secret") || strings.Contains(got, s.dir) || strings.Contains(got, "Location") {
				t.Errorf("%.60q: %q", path, got)
			}
		}
	}
	for _, q := range s.asked {
		if c := q.Path; c != "boot" && c != "..;/secret" && c != "~root" && c != "a" && !strings.HasPrefix(c, "a/") && c != "file:/etc/passwd" {
			t.Errorf("the source was asked for %q", c)
		}
	}
	if got := r.raw(t, "GET /boot/a.efi?x=../secret HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Errorf("the file itself: %q", got)
	}
}

// TestMethods: nothing but GET and HEAD, and no bodies.
func TestMethods(t *testing.T) {
	s := newShelf(t)
	s.put("a.efi", body(10))
	r := run(t, s, Limits{PerAddress: 100})
	for _, m := range []string{"POST", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "get"} {
		if resp, _ := r.do(t, m, "a.efi"); resp.StatusCode != 405 || resp.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %s", m, resp.Status)
		}
	}
	for request, want := range map[string]string{
		"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n":                                            "405",
		"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\nConnection: close\r\n\r\n":                                        "405",
		"GET /a.efi HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello":                                      "413",
		"GET /a.efi HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n":                         "413",
		"GET /a.efi HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n":                                 "413",
		"GET /a.efi HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: " + strings.Repeat("x", 20_000) + "\r\n\r\n": "431",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":                                                                      "405",
		"GET /a.efi HTTP/1.0\r\n\r\n":                                                                           "200",
		"\x16\x03\x01\x00\xa5\x01\x00\r\n\r\n":                                                                  "400",
	} {
		if got := r.raw(t, request); !strings.HasPrefix(got, "HTTP/1.1 "+want) && !strings.HasPrefix(got, "HTTP/1.0 "+want) {
			t.Errorf("%.60q: %.200q, want %s", request, got, want)
		}
	}
}

// TestRefusals: an error of the source becomes a status and a fixed text, and the
// watcher learns the cause.
func TestRefusals(t *testing.T) {
	for err, want := range map[error]string{
		fmt.Errorf("/srv/secret: %w", netboot.ErrNotFound): "404 no such file\n", fmt.Errorf("/srv/secret: %w", netboot.ErrDenied): "403 not for this client\n",
		fmt.Errorf("/srv/secret: %w", netboot.ErrBusy): "503 not available now\n", errors.New("/srv/secret: differs"): "503 not available now\n",
	} {
		for _, begin := range []bool{false, true} {
			s := newShelf(t)
			s.put("a.efi", body(10))
			if s.open = err; begin {
				s.open, s.begin = nil, err
			}
			r := run(t, s, Limits{})
			resp, b := r.do(t, "GET", "a.efi")
			if got := strconv.Itoa(resp.StatusCode) + " " + string(b); got != want || (resp.StatusCode == 503) != (resp.Header.Get("Retry-After") != "") || resp.Header.Get("ETag") != "" {
				t.Errorf("%v, Begin %v: %q", err, begin, got)
			}
			if e := r.diary.events; len(e) != 1 || e[0].Stage != netboot.Refused || !strings.Contains(e[0].Detail, "/srv/secret") {
				t.Errorf("%v, Begin %v: %+v", err, begin, e)
			}
		}
	}
}

// TestChanged: of a file that changes while it is sent no client gets the last
// byte, whenever that happens.
func TestChanged(t *testing.T) {
	for _, copy := range []bool{false, true} {
		for after := int64(1); ; after++ {
			s := newShelf(t)
			s.copy = copy
			s.put("a.efi", body(3<<20))
			s.after.Store(after)
			r := run(t, s, Limits{})
			resp, err := r.client.Get(r.url + "a.efi")
			n := int64(0)
			if err == nil {
				n, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			stale := s.stale.Load()
			if stale && (err == nil || n == 3<<20) {
				t.Errorf("copied %v, changed at look %d: %d bytes, %v", copy, after, n, err)
			}
			if !stale {
				if err != nil || after < 4 {
					t.Errorf("copied %v: %d looks, %v", copy, after, err)
				}
				break
			}
			r.stop()
			r.ended <- <-r.ended
			if got := r.diary.stages(); got != "first broken" && got != "probed" {
				t.Errorf("copied %v, changed at look %d: %q", copy, after, got)
			}
		}
	}
}

// TestAddressLimit: an address that has too many connections gets no more, until
// one has ended.
func TestAddressLimit(t *testing.T) {
	s := newShelf(t)
	s.put("a.efi", body(10))
	r := run(t, s, Limits{PerAddress: 3})
	var held []net.Conn
	for range 3 {
		conn, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "HEAD /a.efi HTTP/1.1\r\nHost: x\r\n\r\n")
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		held = append(held, conn)
	}
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "HEAD /a.efi HTTP/1.1\r\nHost: x\r\n\r\n")
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Error("one more connection was served")
	}
	if got, want := r.Stats(), (Stats{Open: 3, Accepted: 4, Refused: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	held[0].Close()
	for { // its end is noticed when the server reads
		if resp, err := r.client.Get(r.url + "a.efi"); err == nil {
			resp.Body.Close()
			break
		}
	}
}

// TestManyBehindOneAddress: by default 200 machines behind one NAT are served at once,
// each with a connection of its own that it keeps.
func TestManyBehindOneAddress(t *testing.T) {
	s := newShelf(t)
	s.put("a.efi", body(10))
	r := run(t, s, Limits{})
	for i := range 200 {
		conn, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "HEAD /a.efi HTTP/1.1\r\nHost: x\r\n\r\n")
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			t.Fatalf("machine %d: %v", i+1, err)
		}
	}
}

// TestThousandIdle: a thousand connections that say nothing cost little, and the
// next client is served.
func TestThousandIdle(t *testing.T) {
	s := newShelf(t)
	want := s.put("a.efi", body(1<<20))
	r := run(t, s, Limits{PerAddress: 2000})
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	before := heap()
	for range 1000 {
		conn, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	if resp, b := r.do(t, "GET", "a.efi"); resp.StatusCode != 200 || !bytes.Equal(b, want) {
		t.Error(resp.Status)
	}
	each := (int64(heap()) - int64(before)) / 1000
	t.Logf("%d bytes for each, with the test's own end of it", each)
	if each > 40_000 {
		t.Errorf("a connection that says nothing costs %d bytes", each)
	}
}

// TestDrain: after the end of the context a transfer under way goes on, and
// nobody else is served.
func TestDrain(t *testing.T) {
	s := newShelf(t)
	want := s.put("a.efi", body(16<<20))
	r := run(t, s, Limits{})
	resp, err := r.client.Get(r.url + "a.efi") // more than the sockets hold
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	r.stop()
	for {
		conn, err := net.Dial("tcp", r.addr)
		if err != nil {
			break
		}
		conn.Close()
	}
	if b, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(b, want) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
	r.ended <- nil
	if got := r.diary.stages(); got != "first last" {
		t.Error(got)
	}
}

// TestListenerFails: the error of a listener is that of Serve.
func TestListenerFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := (&Server{Source: newShelf(t)}).Serve(context.Background(), l); err == nil || errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}

// TestClientGone: who goes while a file is checked is not counted as refused.
func TestClientGone(t *testing.T) {
	s := newShelf(t)
	s.put("a.efi", body(10))
	s.hold = make(chan struct{})
	r := run(t, s, Limits{})
	ctx, cancel := context.WithCancel(context.Background())
	req, _ := http.NewRequestWithContext(ctx, "GET", r.url+"a.efi", nil)
	done := make(chan struct{})
	go func() { r.client.Do(req); close(done) }()
	for {
		s.mu.Lock()
		n := len(s.asked)
		s.mu.Unlock()
		if n > 0 {
			break
		}
		runtime.Gosched()
	}
	cancel()
	<-done
	r.stop()
	r.ended <- <-r.ended
	if got := r.diary.stages(); got != "probed" {
		t.Error(got)
	}
}
