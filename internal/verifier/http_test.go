package verifier

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/internal/attestapi"
	"github.com/ingot-os/ingot/internal/audit"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/simhost"
	"github.com/ingot-os/ingot/internal/tpmtest"
)

// TestRefusals: each malformed message has its status and code, and the channel
// goes on.
func TestRefusals(t *testing.T) {
	s := serve(t, nil)
	c := s.channel()
	long := strings.Repeat("a", attestapi.MaxRequest)
	for _, x := range []struct {
		method, path, body string
		status             int
		code               attest.Code
	}{
		{"POST", attestapi.EnrolPath, "", 400, RequestMalformed},
		{"POST", attestapi.EnrolPath, "{}", 400, attest.AKMalformed},
		{"POST", attestapi.EnrolPath, `{"name":"a"}{}`, 400, RequestMalformed},
		{"POST", attestapi.EnrolPath, `{"colour":1}`, 400, RequestMalformed},
		{"POST", attestapi.EnrolPath, long + "a", 413, RequestMalformed},
		{"POST", attestapi.ActivatePath, `{"name":"a"}`, 403, attest.EnrolSecret},
		{"POST", attestapi.ChallengePath, `{"name":"../../x"}`, 404, attest.HostUnknown},
		{"POST", attestapi.EvidencePath, `{}`, 400, attest.EvidenceMalformed},
		{"POST", attestapi.EvidencePath, `{"format":"ingot-evidence/1","name":"a"}`, 404, attest.HostUnknown},
		{"GET", attestapi.EvidencePath, "", 404, RequestUnknown},
		{"GET", "/", "", 404, RequestUnknown},
		{"GET", HostsPath, "", 403, RequestOperator},
		{"DELETE", HostsPath + "/a", "", 404, RequestUnknown},
	} {
		r, err := http.NewRequest(x.method, "https://"+s.address+x.path, strings.NewReader(x.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.http.Do(r)
		if err != nil {
			t.Errorf("%s %s: %v", x.method, x.path, err)
			continue
		}
		var e attestapi.Error
		err = json.NewDecoder(resp.Body).Decode(&e)
		resp.Body.Close()
		if err != nil || resp.StatusCode != x.status || e.Code != x.code || e.Detail == "" {
			t.Errorf("%s %s %.40q: %d %+v, %v, want %d %s", x.method, x.path, x.body, resp.StatusCode, e, err, x.status, x.code)
		}
	}
	none := &channel{s: s, http: s.client(nil)}
	if code := none.post(attestapi.ChallengePath, attestapi.ChallengeRequest{Name: "a"}, nil); code != RequestChannel {
		t.Errorf("no certificate: %s", code)
	}
	r, err := http.NewRequest("POST", "https://"+s.address+attestapi.EnrolPath, io.MultiReader(strings.NewReader("{}"))) // chunked
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := c.http.Do(r); err != nil || resp.StatusCode != 413 {
		t.Errorf("a body of unknown length: %v", err)
	}
}

// TestTLS: 1.3 or nothing, and no resumption, which would open a channel
// without its key.
func TestTLS(t *testing.T) {
	s := serve(t, nil)
	roots := x509.NewCertPool()
	roots.AddCert(s.servers.Certificate)
	old := &tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS12}
	if conn, err := tls.Dial("tcp", s.address, old); err == nil {
		conn.Close()
		t.Error("TLS 1.2 is spoken")
	}
	c := &tls.Config{RootCAs: roots, ClientSessionCache: tls.NewLRUClientSessionCache(4), NextProtos: []string{"h2", "http/1.1"}}
	for range 2 {
		conn, err := tls.Dial("tcp", s.address, c)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if _, err := io.ReadAll(conn); err != nil {
			t.Error(err)
		}
		if st := conn.ConnectionState(); st.DidResume || st.NegotiatedProtocol != "http/1.1" {
			t.Errorf("resumed: %v, %s", st.DidResume, st.NegotiatedProtocol)
		}
		conn.Close()
	}
}

// TestSlow: who sends nothing, or slowly, is dropped, and others are served.
func TestSlow(t *testing.T) {
	s := serve(t, func(o *Options) { o.Limits = Limits{Timeout: 1500 * time.Millisecond, Connections: 48} })
	c := s.channel()
	var lines []net.Conn
	for range 20 { // more than may be open
		conn, err := net.Dial("tcp", s.address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		lines = append(lines, conn)
	}
	for i, conn := range lines {
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("connection %d is open: %v", i, err)
		}
	}
	if _, code := c.ask("a"); code != attest.HostUnknown {
		t.Errorf("got %s", code)
	}
	slow, err := tls.Dial("tcp", s.address, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{c.cert}})
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	fmt.Fprintf(slow, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{", attestapi.EvidencePath)
	slow.SetReadDeadline(time.Now().Add(10 * time.Second))
	b, err := io.ReadAll(slow)
	if err != nil && errors.Is(err, os.ErrDeadlineExceeded) || !bytes.Contains(b, []byte("400 Bad Request")) {
		t.Errorf("%v, %q", err, b)
	}
	if s.bodies.used != 0 || len(s.bodies.by) != 0 {
		t.Errorf("%d bytes are still counted", s.bodies.used)
	}
}

// TestRates: an address that enrols too often waits, others do not.
func TestRates(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	r := newRates[netip.Prefix](Rate{Burst: 3, PerSecond: 2})
	count := func(address string, n int) (ok int) {
		for range n {
			if r.allow(site(address), 1, now) {
				ok++
			}
		}
		return ok
	}
	if got := count("192.0.2.1:1", 10); got != 3 {
		t.Errorf("%d at once", got)
	}
	if got := count("192.0.2.2:1", 10); got != 3 {
		t.Errorf("another: %d", got)
	}
	if got := count("[2001:db8::1]:1", 2) + count("[2001:db8::2]:1", 2); got != 3 {
		t.Errorf("a network of IPv6: %d", got)
	}
	now = now.Add(time.Second)
	if got := count("192.0.2.1:99", 10); got != 2 {
		t.Errorf("%d a second later", got)
	}
	for i := range maxKeys + 10 {
		r.allow(site(fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255)), 1, now)
	}
	if len(r.left) > maxKeys {
		t.Errorf("%d addresses are kept", len(r.left))
	}
	now = now.Add(time.Minute)
	if !r.allow(site("198.51.100.1:1"), 1, now) || len(r.left) != 1 {
		t.Errorf("%d are kept later", len(r.left))
	}
	s := serve(t, func(o *Options) { o.Limits.EnrolRate = Rate{Burst: 2, PerSecond: 0.001} })
	c := s.channel()
	codes := map[attest.Code]int{}
	for range 4 {
		codes[c.post(attestapi.EnrolPath, attestapi.EnrolRequest{Name: "a"}, nil)]++
	}
	if codes[attest.EnrolBusy] != 2 || codes[attest.AKMalformed] != 2 {
		t.Errorf("%v", codes)
	}
}

// TestAppetite: a host cannot fill the disk, and a stranger cannot use up what
// it may.
func TestAppetite(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	a := newAppetite(&Limits{HostRate: Rate{Burst: 5, PerSecond: 1}, HostBytes: Rate{Burst: 100, PerSecond: 1}})
	log := func(b byte) []audit.Blob {
		data := bytes.Repeat([]byte{b}, 60)
		return []audit.Blob{{Sum: audit.Sum([]byte("the same")), Data: make([]byte, 10)}, {Sum: audit.Sum(data), Data: data}}
	}
	for i, want := range []bool{true, true, false, false, true} { // another log is too much, however often
		if got := a.allow("a", log([]byte{1, 1, 2, 2, 1}[i]), now); got != want {
			t.Errorf("%d: %v", i, got)
		}
		now = now.Add(time.Second)
	}
	for i := range 6 {
		if got := a.allow("b", log(1), now); got != (i < 5) {
			t.Errorf("verdict %d: %v", i, got)
		}
	}
	s, m, c := joined(t, func(o *Options) {
		o.Limits.HostRate, o.Limits.HostBytes = Rate{Burst: 2, PerSecond: 0.001}, Rate{Burst: 1 << 20, PerSecond: 0.001}
	})
	stranger := boot(t, tpmtest.Blank(t))
	for range 4 {
		if answer, code := stranger.attest(s.channel(), "a"); code != attest.AKKey || answer.Next != nil {
			t.Errorf("a stranger: %s, %v", code, answer.Next)
		}
	}
	for _, want := range []attest.Code{"", "", RequestBusy} {
		if _, code := m.attest(c, "a"); code != want {
			t.Errorf("got %s, want %q", code, want)
		}
	}
}

// TestAppetiteAll: what is no log counts, too.
func TestAppetiteAll(t *testing.T) {
	_, m, c := joined(t, func(o *Options) { o.Limits.HostBytes = Rate{Burst: 200 << 10, PerSecond: 0.001} })
	var code attest.Code
	for i := 0; i < 25 && code == ""; i++ {
		ch, asked := c.ask("a")
		if asked != "" {
			t.Fatal(asked)
		}
		e := m.evidence(c, "a", ch)
		e.EKCertificate = bytes.Repeat([]byte{byte(i)}, 8<<10)
		_, code = c.answer(e)
	}
	if code != RequestBusy {
		t.Errorf("200 KB are left after 25 certificates of 8 KB: %q", code)
	}
}

// TestBudget: bodies in memory are bounded, for an address and for all.
func TestBudget(t *testing.T) {
	b := newBudget(1600)
	if !b.take("192.0.2.1:1", 100) || b.take("192.0.2.1:2", 1) {
		t.Error("an address has more than its part")
	}
	for i := range 15 {
		if !b.take(fmt.Sprintf("192.0.2.%d:1", 10+i), 100) {
			t.Errorf("%d", i)
		}
	}
	if b.take("192.0.2.99:1", 1) {
		t.Error("all have more than there is")
	}
	b.give("192.0.2.1:1", 100)
	if !b.take("192.0.2.99:1", 1) {
		t.Error("nothing is given back")
	}
}

// TestServerCertificate: the key stays, the certificate is renewed when it must.
func TestServerCertificate(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	by := authority(t, "servers", nil, 0)
	get := func(by *Authority, now time.Time, names ...string) *tls.Certificate {
		t.Helper()
		c, err := ServerCertificate(dir, *by, names, now)
		if err != nil {
			t.Fatal(err)
		}
		return &c
	}
	first := get(by, now, "a.example", "192.0.2.1")
	id := func(c *tls.Certificate) string { return string(attestapi.KeyID(c.Leaf.RawSubjectPublicKeyInfo)) }
	for name, x := range map[string]struct {
		c   *tls.Certificate
		new bool
	}{
		"same": {get(by, now, "a.example", "192.0.2.1"), false}, "fewer names": {get(by, now, "a.example"), false},
		"later": {get(by, now.AddDate(0, 10, 0), "a.example"), false},
	} {
		if bytes.Equal(x.c.Leaf.Raw, first.Leaf.Raw) == x.new || id(x.c) != id(first) {
			t.Errorf("%s: %v", name, x.new)
		}
	}
	for name, c := range map[string]func() *tls.Certificate{
		"near the end": func() *tls.Certificate { return get(by, now.AddDate(0, 11, 15), "a.example") },
		"another name": func() *tls.Certificate { return get(by, now, "b.example") },
		"another authority": func() *tls.Certificate {
			return get(authority(t, "servers", nil, 0), now, "b.example")
		},
	} {
		before := get(by, now, "a.example")
		if got := c(); bytes.Equal(got.Leaf.Raw, before.Leaf.Raw) || id(got) != id(first) {
			t.Errorf("%s: not renewed, or with another key", name)
		}
	}
	s := serve(t, nil)
	if err := s.SetCertificate(*first); !errors.Is(err, ErrKey) {
		t.Errorf("another key while running: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "server.key"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ServerCertificate(dir, *by, nil, now); err == nil {
		t.Error("a key that is none")
	}
}

// TestRoots: certificates of makers in PEM, DER and directories.
func TestRoots(t *testing.T) {
	dir := t.TempDir()
	root := authority(t, "root", nil, 0)
	below := authority(t, "below", root, x509.ExtKeyUsageAny)
	writeFiles(t, dir, map[string]string{"root.der": string(root.Certificate.Raw), "below.CRT": string(below.Certificate.Raw), "README": "x"})
	r, err := LoadRoots([]string{dir})
	if err != nil || len(r.Roots) != 1 || len(r.Intermediates) != 1 {
		t.Errorf("%d, %d, %v", len(r.Roots), len(r.Intermediates), err)
	}
	writeFiles(t, dir, map[string]string{"bad.pem": "x"})
	for _, path := range []string{dir, filepath.Join(dir, "nowhere"), t.TempDir()} {
		if _, err := LoadRoots([]string{path}); err == nil {
			t.Errorf("%s was read", path)
		}
	}
}

// handled is the API without a network, for fuzzing.
func handled(f testing.TB) (*Server, func(path string, body []byte) (int, []byte), *simhost.Host) {
	dir := filepath.Join(f.TempDir(), "state")
	store, err := fleet.Open(dir, fleet.Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { store.Close() })
	cert, err := ServerCertificate(dir, *authority(f, "servers", nil, 0), []string{"a"}, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	s, err := New(Options{Store: store, Certificate: cert, Interval: time.Minute, Limits: Limits{EnrolRate: Rate{1e9, 1e9}, AskRate: Rate{1e9, 1e9}, HostRate: Rate{1e9, 1e9}}})
	if err != nil {
		f.Fatal(err)
	}
	if err := s.SetCatalog(context.Background(), recorded(f, 0)); err != nil {
		f.Fatal(err)
	}
	send := sender(s, cert.Leaf)
	boot, err := simhost.ReadBoot(recording)
	if err != nil {
		f.Fatal(err)
	}
	h, err := simhost.New("a", boot)
	if err != nil {
		f.Fatal(err)
	}
	return s, send, h
}

// sender calls a server as a machine that shows a certificate.
func sender(s *Server, cert *x509.Certificate) func(path string, body []byte) (int, []byte) {
	handler := s.Handler()
	state := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}
	return func(path string, body []byte) (int, []byte) {
		r := httptest.NewRequest("POST", path, bytes.NewReader(body))
		r.TLS = state
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w.Code, w.Body.Bytes()
	}
}

// TestTwoServers: what one server has asked, another on the same store hears,
// and a restart between them loses nothing.
func TestTwoServers(t *testing.T) {
	one, send, h := handled(t)
	two, err := New(one.o)
	if err != nil {
		t.Fatal(err)
	}
	if err := two.SetCatalog(context.Background(), recorded(t, 0)); err != nil {
		t.Fatal(err)
	}
	leaf, err := leafOf(one.o.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	servers := []func(string, []byte) (int, []byte){send, sender(two, leaf)}
	post := func(i int, path string, message, answer any) {
		t.Helper()
		b, err := json.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		if status, body := servers[i](path, b); status != 200 || json.Unmarshal(body, answer) != nil {
			t.Fatalf("%s: %d %s", path, status, body)
		}
	}
	var offer attestapi.EnrolOffer
	post(0, attestapi.EnrolPath, h.Request(), &offer)
	secret, err := h.Activate(offer.Credential.Blob, offer.Credential.Secret)
	if err != nil {
		t.Fatal(err)
	}
	post(1, attestapi.ActivatePath, attestapi.ActivateRequest{Name: "a", Secret: secret}, new(attestapi.Enrolled))
	err = one.o.Store.Update(context.Background(), "a", func(c *fleet.Change) error { return c.Host.Approve() })
	if err != nil {
		t.Fatal(err)
	}
	var c attestapi.Challenge
	post(0, attestapi.ChallengePath, attestapi.ChallengeRequest{Name: "a"}, &c)
	for i := range 4 {
		e, err := h.Evidence(attest.Challenge{Nonce: c.Nonce, ServerID: one.serverID, ChannelKey: one.serverID}, pcr.SHA256, c.PCRs)
		if err != nil {
			t.Fatal(err)
		}
		var a attestapi.Answer
		if post((i+1)%2, attestapi.EvidencePath, attestapi.Evidence{Name: "a", Evidence: *e}, &a); !a.Trusted {
			t.Fatalf("%+v", a)
		}
		c = *a.Next
	}
}

// FuzzMachine: no message of a machine makes the server panic or fail, and what
// is no evidence is not trusted.
func FuzzMachine(f *testing.F) {
	s, send, h := handled(f)
	paths := []string{attestapi.EnrolPath, attestapi.ActivatePath, attestapi.ChallengePath, attestapi.EvidencePath}
	add := func(i int, v any) {
		b, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(i, b)
	}
	add(0, h.Request())
	add(1, attestapi.ActivateRequest{Name: "a", Secret: []byte("x")})
	add(2, attestapi.ChallengeRequest{Name: "a"})
	err := s.o.Store.Update(context.Background(), "a", func(c *fleet.Change) error {
		c.Host = &fleet.Host{Host: attest.Host{Record: *h.Record(), EK: h.Request().EK}}
		return nil
	})
	if err != nil {
		f.Fatal(err)
	}
	ask := func() (c attestapi.Challenge) {
		if status, b := send(attestapi.ChallengePath, []byte(`{"name":"a"}`)); status != 200 || json.Unmarshal(b, &c) != nil {
			f.Fatalf("%d %s", status, b)
		}
		return c
	}
	c := ask()
	e, err := h.Evidence(attest.Challenge{Nonce: c.Nonce, ServerID: s.serverID, ChannelKey: s.serverID}, pcr.SHA256, c.PCRs)
	if err != nil {
		f.Fatal(err)
	}
	genuine := attestapi.Evidence{Name: "a", Evidence: *e}
	add(3, genuine)
	body, err := json.Marshal(genuine)
	if err != nil {
		f.Fatal(err)
	}
	r := mathrand.New(mathrand.NewPCG(1, 2))
	for range 500 { // what go test tries without an engine that mutates
		m := bytes.Clone(body)
		for range 1 + r.IntN(4) {
			m[r.IntN(len(m))] ^= 1 << r.IntN(8)
		}
		f.Add(3, m[:len(m)-r.IntN(2)*r.IntN(len(m))])
	}
	var a attestapi.Answer
	if status, b := send(attestapi.EvidencePath, body); status != 200 || json.Unmarshal(b, &a) != nil || !a.Trusted {
		f.Fatalf("genuine: %d %s", status, b)
	}
	f.Fuzz(func(t *testing.T, i int, body []byte) {
		path := paths[uint(i)%uint(len(paths))]
		if path == attestapi.EvidencePath {
			ask()
			body = bytes.ReplaceAll(body, []byte(mustText(c.Nonce)), []byte(mustText(ask().Nonce))) // so that more of it is looked at
		}
		status, answer := send(path, body)
		var a attestapi.Answer
		if status >= 500 || len(answer) == 0 || status == 200 && path == attestapi.EvidencePath && (json.Unmarshal(answer, &a) != nil || a.Trusted) {
			t.Errorf("%s: %d %s", path, status, answer)
		}
	})
}

// mustText is bytes as they are in JSON.
func mustText(b []byte) string {
	text, err := json.Marshal(b)
	if err != nil {
		panic(err)
	}
	return strings.Trim(string(text), `"`)
}

// BenchmarkEvidence is one request of a machine without its TLS: read, judge,
// keep, answer.
func BenchmarkEvidence(b *testing.B) {
	s, send, h := handled(b)
	s.grants.authority = authority(b, "hosts", nil, 0)
	err := s.o.Store.Update(context.Background(), "a", func(c *fleet.Change) error {
		c.Host = &fleet.Host{Host: attest.Host{Record: *h.Record(), EK: h.Request().EK}}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	var c attestapi.Challenge
	if status, body := send(attestapi.ChallengePath, []byte(`{"name":"a"}`)); status != 200 || json.Unmarshal(body, &c) != nil {
		b.Fatalf("%d %s", status, body)
	}
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		e, err := h.Evidence(attest.Challenge{Nonce: c.Nonce, ServerID: s.serverID, ChannelKey: s.serverID}, pcr.SHA256, c.PCRs)
		if err != nil {
			b.Fatal(err)
		}
		body, err := json.Marshal(attestapi.Evidence{Name: "a", Evidence: *e})
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		status, answer := send(attestapi.EvidencePath, body)
		b.StopTimer()
		var a attestapi.Answer
		if status != 200 || json.Unmarshal(answer, &a) != nil || !a.Trusted {
			b.Fatalf("%d %s", status, answer)
		}
		c = *a.Next
		b.StartTimer()
	}
}
