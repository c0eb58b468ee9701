package verifier

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/assign"
	"github.com/ingot-os/ingot/internal/delta"
	"github.com/ingot-os/ingot/internal/updateapi"
)

func unzstd(t *testing.T, b []byte) []byte {
	t.Helper()
	r, err := zstd.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestSend: manifest and slot, whole and from any byte, as they are and
// compressed.
func TestSend(t *testing.T) {
	t.Parallel()
	x := open(t, nil)
	content := next.slotContent()
	resp, b := x.get(&x.cert, "GET", x.path("1.1.0", "manifest"), nil)
	if envelope := readFile(t, x.dir+"/evidence-1.1.0/manifest.dsse.json"); resp.StatusCode != 200 || !bytes.Equal(b, envelope) {
		t.Errorf("manifest: %d, %d bytes", resp.StatusCode, len(b))
	}
	for _, from := range []int{0, 1, 4096, 1 << 20, slotUsed - 1, slotUsed} {
		for _, coding := range []string{"", "&coding=identity", "&coding=zstd"} {
			resp, b := x.get(&x.cert, "GET", fmt.Sprintf("%s?from=%d%s", x.path("1.1.0", "slot"), from, coding), nil)
			if strings.HasSuffix(coding, "zstd") {
				b = unzstd(t, b)
			} else if resp.ContentLength != int64(len(content)-from) {
				t.Errorf("from %d%s: length %d", from, coding, resp.ContentLength)
			}
			if resp.StatusCode != 200 || !bytes.Equal(b, content[from:]) {
				t.Errorf("from %d%s: %d, %d bytes", from, coding, resp.StatusCode, len(b))
			}
		}
	}
	operator, err := OperatorCertificate(*x.people, "alice", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if resp, b := x.get(&operator, "GET", x.path("1.0.0", "slot"), nil); resp.StatusCode != 200 || !bytes.Equal(b, first.slotContent()) {
		t.Errorf("an operator: %d, %d bytes", resp.StatusCode, len(b))
	}
	for path, want := range map[string]struct {
		status int
		code   attest.Code
	}{
		x.path("1.1.0", fmt.Sprint("slot?from=", slotUsed+1)):            {416, updateapi.Malformed},
		x.path("1.1.0", "slot?from=-1"):                                  {400, updateapi.Malformed},
		x.path("1.1.0", "slot?from=9999999999999999999"):                 {400, updateapi.Malformed},
		x.path("1.1.0", "slot?from=1x"):                                  {400, updateapi.Malformed},
		x.path("1.1.0", "slot?coding=gzip"):                              {400, updateapi.Malformed},
		x.path("1.1.0", "root"):                                          {404, RequestUnknown}, // it has none
		x.path("1.1.0", "root.delta?base="+first.slotDigest()):           {404, RequestUnknown},
		x.path("1.1.0", "esp"):                                           {404, RequestUnknown},
		x.path("1.1.0", "manifest.delta"):                                {404, RequestUnknown},
		x.path("1.1.0", "slot/x"):                                        {404, RequestUnknown},
		updateapi.ReleasesPath + "/" + strings.Repeat("0", 64) + "/slot": {404, assign.Missing},
		updateapi.ReleasesPath + "/..%2F..%2F..%2Fetc/passwd":            {404, assign.Missing},
		x.path("1.1.0", "..%2Fmanifest.json"):                            {404, RequestUnknown},
	} {
		resp, b := x.get(&x.cert, "GET", path, nil)
		if code := x.understand(resp, b, new(any)); resp.StatusCode != want.status || code != string(want.code) {
			t.Errorf("%s: %d %s, want %d %s", path, resp.StatusCode, b, want.status, want.code)
		}
	}
	if x.transfers.left != x.o.Limits.Transfers || len(x.transfers.by) != 0 {
		t.Errorf("%d of %d places are left", x.transfers.left, x.o.Limits.Transfers)
	}
}

// TestRange: ranges of HTTP, for mirrors.
func TestRange(t *testing.T) {
	t.Parallel()
	x := open(t, nil)
	content, path := next.slotContent(), x.path("1.1.0", "slot")
	ask := func(method, path string, header ...string) (*http.Response, []byte) {
		t.Helper()
		h := http.Header{}
		for i := 0; i < len(header); i += 2 {
			h.Set(header[i], header[i+1])
		}
		return x.get(&x.cert, method, path, h)
	}
	if resp, b := ask("HEAD", path); resp.StatusCode != 200 || resp.ContentLength != int64(len(content)) || resp.Header.Get("Accept-Ranges") != "bytes" || len(b) != 0 {
		t.Errorf("HEAD: %d, %d", resp.StatusCode, resp.ContentLength)
	}
	tag := `"` + next.slotDigest() + `"`
	if resp, b := ask("GET", path, "Range", "bytes=100-199"); resp.StatusCode != 206 || resp.Header.Get("Etag") != tag || !bytes.Equal(b, content[100:200]) {
		t.Errorf("a range: %d, %d bytes, %s", resp.StatusCode, len(b), resp.Header.Get("Etag"))
	}
	if resp, b := ask("GET", path, "Range", "bytes=1048576-", "If-Range", tag); resp.StatusCode != 206 || !bytes.Equal(b, content[1<<20:]) {
		t.Errorf("the rest: %d, %d bytes", resp.StatusCode, len(b))
	}
	if resp, b := ask("GET", path, "Range", "bytes=1048576-", "If-Range", `"another"`); resp.StatusCode != 200 || len(b) != len(content) {
		t.Errorf("the rest of another: %d, %d bytes", resp.StatusCode, len(b))
	}
	if resp, _ := ask("GET", path, "Range", "bytes=9999999-"); resp.StatusCode != 416 {
		t.Errorf("beyond the end: %d", resp.StatusCode)
	}
	if resp, _ := ask("GET", path, "If-None-Match", tag); resp.StatusCode != 304 {
		t.Errorf("it has it: %d", resp.StatusCode)
	}
	if resp, _ := ask("GET", path+"?from=5", "Range", "bytes=1-"); resp.StatusCode != 400 {
		t.Errorf("both: %d", resp.StatusCode)
	}
}

// TestSendDelta: a patch to the release that is assigned, from another one's slot.
func TestSendDelta(t *testing.T) {
	t.Parallel()
	foreign := made{name: "evidence", version: "3.0.0", arch: "amd64", layout: "l1", epoch: 2, content: 9, foreign: true}
	x := open(t, nil, foreign, made{name: "evidence", version: "2.0.0", arch: "arm64", layout: "l1", epoch: 2, content: 4})
	patch := func(version, base string) (int, string, []byte) {
		t.Helper()
		resp, b := x.get(&x.cert, "GET", x.path(version, "slot.delta?base="+base), nil)
		if resp.StatusCode == 200 {
			return 200, "", b
		}
		return resp.StatusCode, x.understand(resp, b, nil), b
	}
	if status, code, _ := patch("1.1.0", first.slotDigest()); status != 404 || code != updateapi.WrongBase {
		t.Errorf("not assigned: %d %s", status, code)
	}
	x.assigns("1.1.0")
	_, _, b := patch("1.1.0", first.slotDigest())
	old := make([]byte, slotSize)
	copy(old, first.slotContent())
	r, err := delta.Open(bytes.NewReader(old), bytes.NewReader(b), delta.Limits{Size: slotSize})
	if err != nil {
		t.Fatalf("%d bytes: %v", len(b), err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || len(b) > 10_000 || !bytes.Equal(got[:slotUsed], next.slotContent()) {
		t.Errorf("%d bytes of patch lead to %d bytes, %v", len(b), len(got), err)
	}
	for name, base := range map[string]string{"none": "", "unknown": strings.Repeat("0", 64), "no digest": "../x",
		"another architecture": made{content: 4}.slotDigest(), "does not pay": foreign.slotDigest()} {
		if status, code, _ := patch("1.1.0", base); status != 404 || code != updateapi.WrongBase {
			t.Errorf("%s: %d %s", name, status, code)
		}
	}
}

// TestAnticipate: the patch that a host is going to want is begun with the
// assignment.
func TestAnticipate(t *testing.T) {
	t.Parallel()
	x := open(t, nil)
	if code := x.tells(slots(nil)); code != "" {
		t.Fatal(code)
	}
	x.assigns("1.1.0")
	release := x.catalog.Load().release(x.digests["1.1.0"])
	base := x.catalog.Load().base(release, updateapi.PartSlot, first.slotDigest())
	deadline := time.Now().Add(20 * time.Second)
	for {
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		f, _, err := x.o.Depot.Patch(gone, *base, release.parts[updateapi.PartSlot])
		if err == nil {
			f.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestChangedRelease: what is changed under the server is not sent.
func TestChangedRelease(t *testing.T) {
	t.Parallel()
	x := open(t, nil)
	x.assigns("1.1.0")
	is := func(what, path string, status int) {
		t.Helper()
		if resp, b := x.get(&x.cert, "GET", path, nil); resp.StatusCode != status {
			t.Errorf("%s: %d %.100s", what, resp.StatusCode, b)
		}
	}
	slot := x.path("1.1.0", "slot")
	is("as it was", slot, 200)
	time.Sleep(10 * time.Millisecond) // times of files are those of the kernel's tick
	good := readFile(t, x.image(next))
	bad := bytes.Clone(good)
	bad[slotStart+70] ^= 1
	writeFiles(t, x.dir, map[string]string{"evidence-1.1.0/evidence-1.1.0.img": string(bad)})
	is("a flipped bit", slot, 503)
	is("a patch to it", x.path("1.1.0", "slot.delta?base="+first.slotDigest()), 503)
	if err := os.Truncate(x.image(next), slotStart+5); err != nil {
		t.Fatal(err)
	}
	is("half copied", slot, 503)
	if err := os.Remove(x.image(next)); err != nil {
		t.Fatal(err)
	}
	is("gone", slot, 503)
	if _, err := x.orders(Action{Action: ActionAssign, Release: "1.1.0"}); err == nil {
		t.Error("assigned, and there is nothing to send")
	}
	writeFiles(t, x.dir, map[string]string{"evidence-1.1.0/evidence-1.1.0.img": string(good)})
	is("as it was, again", slot, 200)
	other := readFile(t, x.dir+"/evidence-1.0.0/manifest.dsse.json")
	writeFiles(t, x.dir, map[string]string{"evidence-1.1.0/manifest.dsse.json": string(other)})
	is("another manifest", x.path("1.1.0", "manifest"), 503)
	writeFiles(t, x.dir, map[string]string{"evidence-1.1.0/manifest.dsse.json": "x"})
	is("no manifest", x.path("1.1.0", "manifest"), 500)
}

// pipe is a connection of the host that reads as it is told.
func (x *shop) pipe(path string) *tls.Conn {
	x.t.Helper()
	raw, err := net.Dial("tcp", x.address)
	if err != nil {
		x.t.Fatal(err)
	}
	raw.(*net.TCPConn).SetReadBuffer(64 << 10) // a large one opens its window seldom
	conn := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{x.cert}})
	x.t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path)
	return conn
}

// large makes a slot that no socket takes at once.
func (x *shop) large(t *testing.T) {
	t.Helper()
	r := x.catalog.Load().release(x.digests["1.1.0"])
	p := r.parts[updateapi.PartSlot]
	image := make([]byte, 24<<20)
	for i := range image {
		image[i] = byte(i>>8) ^ byte(i)*7
	}
	image[len(image)-1] = 1
	writeFiles(t, x.dir, map[string]string{"large.img": string(image)})
	p.Path, p.Start, p.Size, p.SHA256 = x.dir+"/large.img", 0, int64(len(image)), sum(image)
	r.parts[updateapi.PartSlot] = p
}

// TestCut: bytes of a file that is changed while it is sent do not arrive as
// whole: the length that was promised is not reached.
func TestCut(t *testing.T) {
	t.Parallel()
	x := open(t, nil)
	x.large(t)
	conn := x.pipe(x.path("1.1.0", "slot"))
	head := make([]byte, 100)
	if _, err := io.ReadFull(conn, head); err != nil || !bytes.Contains(head, []byte("200 OK")) {
		t.Fatalf("%q, %v", head, err)
	}
	time.Sleep(10 * time.Millisecond)
	f, err := os.OpenFile(x.dir+"/large.img", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{9}, 20<<20); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(conn); len(rest) >= 24<<20 {
		t.Errorf("%d bytes arrived, %v", len(rest), err)
	}
}

// TestSlowReader: who takes nothing loses the connection and its place, and
// those who have places do not keep others from theirs.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	x := open(t, func(o *Options) { o.Limits = Limits{Stall: 1500 * time.Millisecond} })
	x.large(t)
	var conns []*tls.Conn
	for range ofOne {
		conn := x.pipe(x.path("1.1.0", "slot"))
		if _, err := io.ReadFull(conn, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	resp, b := x.get(&x.cert, "GET", x.path("1.0.0", "slot"), nil)
	if code := x.understand(resp, b, nil); code != string(RequestBusy) || resp.Header.Get("Retry-After") == "" {
		t.Errorf("a third at once: %d %s", resp.StatusCode, code)
	}
	operator, err := OperatorCertificate(*x.people, "alice", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if resp, _ := x.get(&operator, "GET", x.path("1.0.0", "slot"), nil); resp.StatusCode != 200 {
		t.Errorf("another client: %d", resp.StatusCode)
	}
	deadline := time.Now().Add(20 * time.Second)
	for x.placesLeft() != x.o.Limits.Transfers {
		if time.Now().After(deadline) {
			t.Fatal("a client that reads nothing keeps its place")
		}
		time.Sleep(20 * time.Millisecond)
	}
	for _, conn := range conns {
		conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		if n, err := io.Copy(io.Discard, conn); n >= 24<<20 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%d bytes, %v", n, err)
		}
	}
}

func (x *shop) placesLeft() int {
	x.transfers.mu.Lock()
	defer x.transfers.mu.Unlock()
	return x.transfers.left
}

// TestLongAnswer: a client that reads slowly, but reads, is served longer than a
// request may take.
func TestLongAnswer(t *testing.T) {
	t.Parallel()
	x := open(t, func(o *Options) { o.Limits = Limits{Timeout: 500 * time.Millisecond} })
	x.large(t)
	conn := x.pipe(x.path("1.1.0", "slot"))
	n, buf, begin := 0, make([]byte, 256<<10), time.Now()
	for {
		m, err := conn.Read(buf)
		if n += m; err != nil {
			break
		}
		if time.Since(begin) < 2*time.Second { // four times Timeout
			time.Sleep(5 * time.Millisecond)
		}
	}
	if n < 24<<20 {
		t.Errorf("%d bytes in %s", n, time.Since(begin))
	}
}

// TestPlaces: transfers are bounded, of all and of one.
func TestPlaces(t *testing.T) {
	p := newPlaces(3)
	for i, want := range []struct {
		who string
		ok  bool
	}{{"a", true}, {"a", true}, {"a", false}, {"b", true}, {"c", false}} {
		if p.take(want.who) != want.ok {
			t.Errorf("%d: %+v", i, want)
		}
	}
	var all sync.WaitGroup
	for _, who := range []string{"a", "a", "b"} {
		all.Go(func() { p.give(who) })
	}
	all.Wait()
	if p.left != 3 || len(p.by) != 0 {
		t.Errorf("%+v", p)
	}
}
