package manage

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/agent/http1"
	"github.com/ingot-os/ingot/internal/agent/updates"
	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/internal/verifier"
)

// set is a key set of these tests; made once, because RSA keys take a while.
var set = sync.OnceValues(func() (*keys.Set, error) { return keySet("acme") })

// dir is where key sets are made.
var dir string

func TestMain(m *testing.M) {
	var err error
	if dir, err = os.MkdirTemp("", "ingot-manage-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func keySet(name string) (*keys.Set, error) {
	return keys.Init(context.Background(), filepath.Join(dir, name), keys.Options{Name: name, Test: true, Now: time.Now(), Rand: rand.Reader})
}

func authority(t *testing.T, s *keys.Set, p keys.Purpose) verifier.Authority {
	t.Helper()
	key, err := s.Signer(t.Context(), p, "test")
	if err != nil {
		t.Fatal(err)
	}
	return verifier.Authority{Certificate: s.Certificate(p), Key: key}
}

// operatorCert is a certificate by an authority, as an operator makes it.
func operatorCert(t *testing.T, s *keys.Set, p keys.Purpose, at time.Time) tls.Certificate {
	t.Helper()
	c, err := verifier.OperatorCertificate(authority(t, s, p), "ann@desk", at)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// fake is an update client that remembers what it was asked.
type fake struct {
	mu      sync.Mutex
	asked   []string
	written []byte
	err     error
	hold    chan struct{} // Write waits for it
	began   chan struct{}
}

func (f *fake) did(format string, args ...any) (updateapi.Progress, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, fmt.Sprintf(format, args...))
	return updateapi.Progress{Phase: "idle"}, f.err
}

func (f *fake) Slots() updateapi.Slots { return updateapi.Slots{Good: "a", Phase: "idle"} }
func (f *fake) Offer(o updateapi.Offer) (updateapi.Progress, error) {
	return f.did("offer %d %v %v %s", len(o.Manifest), o.Override, o.Approve, o.By)
}
func (f *fake) Write(part string, from int64, coding string, body io.Reader) (updateapi.Progress, error) {
	if f.began != nil {
		close(f.began)
		<-f.hold
	}
	if part == "root" {
		panic("a slip in the update client")
	}
	b, err := io.ReadAll(body)
	f.mu.Lock()
	f.written = b
	f.mu.Unlock()
	if err != nil {
		return updateapi.Progress{}, err
	}
	return f.did("write %s %d %s %d", part, from, coding, len(b))
}
func (f *fake) Approve(by string) (updateapi.Progress, error) { return f.did("approve %s", by) }
func (f *fake) Rollback() (updateapi.Progress, error)         { return f.did("rollback") }
func (f *fake) Override(o updateapi.Override) (updateapi.Progress, error) {
	return f.did("override %s", o.Version)
}
func (f *fake) Adopt() (updateapi.Progress, error) { return f.did("adopt") }

// box is a machine on loopback.
type box struct {
	*fake
	addr string

	mu   sync.Mutex
	key  string
	log  []string
	cert [2][]byte
	now  time.Time
}

func (b *box) shown() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.key
}

func (b *box) logged() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.log, "\n")
}

func machine(t *testing.T, trust *appliance.Trust) *box {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &box{fake: &fake{}, addr: l.Addr().String(), now: time.Now()}
	locked := func(f func()) { b.mu.Lock(); defer b.mu.Unlock(); f() }
	logf := func(format string, args ...any) {
		locked(func() { b.log = append(b.log, fmt.Sprintf(format, args...)) })
	}
	m := updates.Machine{Spec: appliance.Spec{Trust: trust}, Listener: l, Logf: logf, Problem: logf,
		Certificate: func() (c, k []byte) { locked(func() { c, k = b.cert[0], b.cert[1] }); return c, k },
		Now:         func() (now time.Time) { locked(func() { now = b.now }); return now },
		Plain:       func(r http1.Request) http1.Response { return http1.Text(200, "plain "+r.Path) },
		Shows:       func(key string) { locked(func() { b.key = key }) }}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); Run(ctx, m, b.fake) }()
	t.Cleanup(func() { cancel(); <-done })
	return b
}

func trusting(t *testing.T) *appliance.Trust {
	t.Helper()
	s, err := set()
	if err != nil {
		t.Fatal(err)
	}
	return &appliance.Trust{Operator: s.Certificate(keys.Operator).Raw}
}

// shows is the certificate that the machine showed last.
type seen struct{ cert *x509.Certificate }

// client speaks to the machine with a certificate, and takes whatever it shows.
func client(cert ...tls.Certificate) (*http.Client, *seen) {
	s := &seen{}
	return &http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Minute, TLSClientConfig: &tls.Config{
		InsecureSkipVerify: true, Certificates: cert,
		VerifyConnection: func(cs tls.ConnectionState) error { s.cert = cs.PeerCertificates[0]; return nil },
	}}}, s
}

func ask(c *http.Client, method, url, body string) (int, string, error) {
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	resp, err := c.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func TestRoutes(t *testing.T) {
	b := machine(t, trusting(t))
	s, _ := set()
	c, shown := client(operatorCert(t, s, keys.Operator, time.Now()))
	for _, r := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/v1/slots", "", 200, `"good": "a"`},
		{"GET", "/healthz", "", 200, "plain /healthz"},
		{"POST", "/v1/update", `{"manifest":"e30=","override":true,"By":"eve","-":"eve"}`, 200, `offer 2 true false operator "ann@desk"`},
		{"POST", "/v1/update", `{"manifest":`, 400, "request.malformed"},
		{"POST", "/v1/update", `{"manifest":7}`, 400, "request.malformed"},
		{"PUT", "/v1/update/slot?from=7&coding=zstd", "bytes", 200, "write slot 7 zstd 5"},
		{"PUT", "/v1/update/slot", "bytes", 200, "write slot 0 identity 5"},
		{"PUT", "/v1/update/slot?from=-7", "bytes", 400, "from="},
		{"PUT", "/v1/update/slot?coding=gzip", "bytes", 400, "coding="},
		{"PUT", "/v1/update/esp", "bytes", 400, "no release has a part"},
		{"PUT", "/v1/update/root", "bytes", 500, "slip"},
		{"PUT", "/v1/rollback", "", 404, "not found"},
		{"POST", "/v1/update/approve", "", 200, `approve operator "ann@desk"`},
		{"POST", "/v1/rollback", "", 200, "rollback"},
		{"POST", "/v1/override", `{"version":"1.2"}`, 200, "override 1.2"},
		{"POST", "/v1/override", strings.Repeat(" ", 64<<10) + `{}`, 413, "at most"},
		{"POST", "/v1/adopt", "", 200, "adopt"},
		{"POST", "/v1/reboot", "", 404, "not found"},
		{"DELETE", "/v1/slots", "", 405, "only"},
	} {
		b.fake.asked = nil
		status, text, err := ask(c, r.method, "https://"+b.addr+r.path, r.body)
		text += strings.Join(b.fake.asked, "")
		if err != nil || status != r.status || !strings.Contains(text, r.want) {
			t.Errorf("%s %s: %d %.100q %v, want %d %q", r.method, r.path, status, text, err, r.status, r.want)
		}
	}
	if Key(shown.cert) != b.shown() || !strings.Contains(b.logged(), b.shown()) || len(b.shown()) != 64 {
		t.Errorf("key %s, told %s, log %s", Key(shown.cert), b.shown(), b.logged())
	}
	if !strings.Contains(b.logged(), `POST /v1/rollback by "ann@desk" from 127.0.0.1`) {
		t.Errorf("who rolled back is not in the log:\n%s", b.logged())
	}
}

func TestRefusals(t *testing.T) {
	b := machine(t, trusting(t))
	s, _ := set()
	for code, status := range map[string]int{updateapi.Untrusted: 422, updateapi.Busy: 409, updateapi.Unavailable: 503, updateapi.Failed: 500, "": 500} {
		b.fake.err = fmt.Errorf("wrapped: %w", &updateapi.Error{Code: code, Detail: "d", Hint: "h"})
		if code == "" {
			b.fake.err = io.ErrShortWrite
		}
		c, _ := client(operatorCert(t, s, keys.Operator, time.Now()))
		got, text, err := ask(c, "POST", "https://"+b.addr+"/v1/rollback", "")
		var e updateapi.Error
		if err != nil || got != status || json.Unmarshal([]byte(text), &e) != nil || code != "" && e != (updateapi.Error{Code: code, Detail: "d", Hint: "h"}) || e.Code == "" {
			t.Errorf("%q: %d %s %v", code, got, text, err)
		}
	}
}

// TestWhoIsLetIn: real certificates of key sets, each wrong in one way.
func TestWhoIsLetIn(t *testing.T) {
	trust := trusting(t)
	s, _ := set()
	other, err := keySet("other")
	if err != nil {
		t.Fatal(err)
	}
	op, now := authority(t, s, keys.Operator), time.Now()
	itself := tls.Certificate{Certificate: [][]byte{op.Certificate.Raw}, PrivateKey: op.Key}
	own, err := selfSigned()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		cert []tls.Certificate
		ok   bool
		says string
	}{
		{"operator", []tls.Certificate{operatorCert(t, s, keys.Operator, now)}, true, ""},
		{"no certificate", nil, false, "didn't provide a certificate"},
		{"operator of another fleet", []tls.Certificate{operatorCert(t, other, keys.Operator, now)}, false, "unknown authority"},
		{"expired", []tls.Certificate{operatorCert(t, s, keys.Operator, now.Add(-time.Hour))}, false, "expired"},
		{"by the authority of hosts", []tls.Certificate{operatorCert(t, s, keys.Hosts, now)}, false, "unknown authority"},
		{"by the fleet root", []tls.Certificate{operatorCert(t, s, keys.Fleet, now)}, false, "unknown authority"},
		{"a server's", []tls.Certificate{operatorCert(t, s, keys.Server, now)}, false, "unknown authority"},
		{"the authority's own", []tls.Certificate{itself}, false, "of an authority"},
		{"self-signed", []tls.Certificate{own}, false, "unknown authority"},
		{"for servers only", []tls.Certificate{forServers(t, op)}, false, "incompatible key usage"},
		{"from the future of a machine whose clock is behind", []tls.Certificate{operatorCert(t, s, keys.Operator, now.AddDate(3, 0, 0))}, true, ""},
	} {
		b := machine(t, trust)
		hc, _ := client(c.cert...)
		status, text, err := ask(hc, "POST", "https://"+b.addr+"/v1/rollback", "")
		if c.ok && (err != nil || status != 200) || !c.ok && err == nil {
			t.Errorf("%s: %d %q %v", c.name, status, text, err)
		}
		if !c.ok && len(b.fake.asked) > 0 {
			t.Errorf("%s: reached the update client", c.name)
		}
		if c.says != "" {
			b.waitLog(t, c.says)
		}
	}
}

// waitLog waits for a line of the log.
func (b *box) waitLog(t *testing.T, want string) {
	t.Helper()
	for range 500 {
		if strings.Contains(b.logged(), want) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("want %q in the log:\n%s", want, b.logged())
}

func forServers(t *testing.T, by verifier.Authority) tls.Certificate {
	t.Helper()
	c, err := selfSigned()
	if err != nil {
		t.Fatal(err)
	}
	template := *c.Leaf
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, &template, by.Certificate, c.Leaf.PublicKey, by.Key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: c.PrivateKey}
}

// TestPlain: without a certificate there is what every machine answers, and no more.
func TestPlain(t *testing.T) {
	b := machine(t, trusting(t))
	for _, r := range []struct {
		method, path string
		status       int
		want         string
	}{
		{"GET", "/healthz", 200, "plain /healthz"}, {"GET", "/v1/slots", 200, `"good": "a"`},
		{"POST", "/v1/rollback", 405, "without a certificate"}, {"PUT", "/v1/update/slot", 405, "without a certificate"},
		{"POST", "/v1/update", 405, "without a certificate"},
	} {
		status, text, err := ask(http.DefaultClient, r.method, "http://"+b.addr+r.path, "")
		if err != nil || status != r.status || !strings.Contains(text, r.want) {
			t.Errorf("%s %s: %d %q %v", r.method, r.path, status, text, err)
		}
	}
	if status, text, err := ask(http.DefaultClient, "PUT", "http://"+b.addr+"/v1/update/slot", "bytes"); err != nil || status != 413 {
		t.Errorf("a body without a certificate: %d %q %v", status, text, err)
	}
	if len(b.fake.asked) > 0 {
		t.Errorf("asked the update client: %v", b.fake.asked)
	}
}

// TestNoAuthority: an image without an operator authority has no key, and ends
// every handshake.
func TestNoAuthority(t *testing.T) {
	trusting(t)
	s, _ := set()
	for name, trust := range map[string]*appliance.Trust{"no trust": nil, "no operator": {}, "damaged": {Operator: []byte("x")}} {
		b := machine(t, trust)
		c, _ := client(operatorCert(t, s, keys.Operator, time.Now()))
		if status, _, err := ask(c, "GET", "https://"+b.addr+"/v1/slots", ""); err == nil {
			t.Errorf("%s: TLS is answered with %d", name, status)
		}
		if status, _, err := ask(http.DefaultClient, "GET", "http://"+b.addr+"/healthz", ""); err != nil || status != 200 {
			t.Errorf("%s: plain: %d %v", name, status, err)
		}
		if b.shown() != "" {
			t.Errorf("%s: shows the key %s", name, b.shown())
		}
	}
}

// TestGivenCertificate: what the attestation server gave is shown as soon as it
// is there, and no longer than it is valid.
func TestGivenCertificate(t *testing.T) {
	b := machine(t, trusting(t))
	s, _ := set()
	c, shown := client(operatorCert(t, s, keys.Operator, time.Now()))
	c.Transport.(*http.Transport).DisableKeepAlives = true
	look := func() *x509.Certificate {
		t.Helper()
		if _, _, err := ask(c, "GET", "https://"+b.addr+"/v1/slots", ""); err != nil {
			t.Fatal(err)
		}
		return shown.cert
	}
	own := look()
	host := operatorCert(t, s, keys.Hosts, time.Now()) // a certificate by that authority
	der, err := x509.MarshalPKCS8PrivateKey(host.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	var chain []byte
	for _, c := range host.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})...)
	}
	b.mu.Lock()
	b.cert = [2][]byte{chain, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})}
	b.mu.Unlock()
	if got := look(); !got.Equal(host.Leaf) || b.shown() != Key(host.Leaf) {
		t.Errorf("shows %v, tells %s", got.Subject, b.shown())
	}
	b.mu.Lock()
	b.now = time.Now().Add(time.Hour)
	b.mu.Unlock()
	c.Transport.(*http.Transport).TLSClientConfig.Certificates[0] = operatorCert(t, s, keys.Operator, time.Now().Add(time.Hour))
	if got := look(); !got.Equal(own) {
		t.Errorf("shows %v when its certificate has ended", got.Subject)
	}
	b.mu.Lock()
	b.cert, b.now = [2][]byte{[]byte("no"), []byte("certificate")}, time.Now()
	b.mu.Unlock()
	if got := look(); !got.Equal(own) {
		t.Errorf("shows %v when its certificate is damaged", got.Subject)
	}
}

// TestGarbage: what is neither TLS nor HTTP is answered or cut, and the machine
// answers others meanwhile and afterwards.
func TestGarbage(t *testing.T) {
	b := machine(t, trusting(t))
	for _, text := range []string{"\x16", "\x16\x03\x01\xff\xff" + strings.Repeat("x", 70000), "\x16\x03\x01\x00\x05hello", "\x00", "SSH-2.0-x\r\n\r\n", strings.Repeat("A", 100_000)} {
		c, err := net.Dial("tcp", b.addr)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, text)
		c.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, c)
		c.Close()
	}
	if status, _, err := ask(http.DefaultClient, "GET", "http://"+b.addr+"/healthz", ""); err != nil || status != 200 {
		t.Errorf("afterwards: %d %v", status, err)
	}
}

// silent opens handshakes that do not go on.
func (b *box) silent(t *testing.T, n int) (open []net.Conn) {
	t.Helper()
	for range n {
		c, err := net.Dial("tcp", b.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.Write([]byte{recordHandshake})
		open = append(open, c)
	}
	return open
}

// TestSilentHandshakes: who shows no certificate takes no place of operators,
// and of its address's own not all of the machine's.
func TestSilentHandshakes(t *testing.T) {
	b := machine(t, trusting(t))
	s, _ := set()
	b.silent(t, MaxAddress-2)
	b.waitLog(t, "too many handshakes of one address")
	c, _ := client(operatorCert(t, s, keys.Operator, time.Now()))
	from := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	c.Transport.(*http.Transport).DialContext = from.DialContext
	if status, _, err := ask(c, "GET", "https://"+b.addr+"/v1/slots", ""); err != nil || status != 200 {
		t.Errorf("an operator at another address: %d %v", status, err)
	}
	if status, _, err := ask(http.DefaultClient, "GET", "http://"+b.addr+"/healthz", ""); err != nil || status != 200 {
		t.Errorf("plain meanwhile: %d %v", status, err)
	}
}

// TestManyOperators: their places are bounded, and come back.
func TestManyOperators(t *testing.T) {
	b := machine(t, trusting(t))
	s, _ := set()
	cert := operatorCert(t, s, keys.Operator, time.Now())
	var open []net.Conn
	for range MaxOperators {
		c, err := tls.Dial("tcp", b.addr, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{cert}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, "PUT /v1/update/slot HTTP/1.1\r\nContent-Length: 10\r\n\r\n")
		open = append(open, c)
	}
	const refused = "too many connections of operators"
	c, _ := client(cert)
	for end := time.Now().Add(time.Minute); !strings.Contains(b.logged(), refused) && time.Now().Before(end); {
		_, _, _ = ask(c, "GET", "https://"+b.addr+"/v1/slots", "") // answered until the last of them has its place
	}
	b.waitLog(t, refused)
	for _, c := range open {
		c.Close()
	}
	for range 500 {
		if status, _, err := ask(c, "GET", "https://"+b.addr+"/v1/slots", ""); err == nil && status == 200 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("operators are not let in when the others have gone")
}

// TestSite: an IPv6 host has a whole /64.
func TestSite(t *testing.T) {
	at := func(s string) netip.Prefix { return site(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s))) }
	if at("[2001:db8::1]:1") != at("[2001:db8::ffff:2]:2") || at("[2001:db8:0:1::1]:1") == at("[2001:db8::1]:1") || at("1.2.3.4:5") == at("1.2.3.5:5") || at("[::ffff:1.2.3.4]:1") != at("1.2.3.4:1") {
		t.Error("addresses are not counted by their networks")
	}
}

// TestOneAddress: who opens all the connections that he can keeps nobody else out.
func TestOneAddress(t *testing.T) {
	b := machine(t, trusting(t))
	for range http1.MaxConns + 10 {
		c, err := net.Dial("tcp", b.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	other := &http.Client{Timeout: firstByte * 4 / 5, Transport: &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).DialContext}}
	if status, _, err := ask(other, "GET", "http://"+b.addr+"/healthz", ""); err != nil || status != 200 {
		t.Errorf("another address: %d %v", status, err)
	}
}

// FuzzServe: whatever an operator or somebody else sends, nothing panics and
// only what is asked for reaches the update client.
func FuzzServe(f *testing.F) {
	f.Add("POST /v1/update HTTP/1.1\r\nContent-Length: 19\r\n\r\n{\"manifest\":\"e30=\"}", true)
	f.Add("PUT /v1/update/slot?from=4096&coding=zstd HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", true)
	f.Add("POST /v1/rollback HTTP/1.1\r\n\r\n", false)
	f.Fuzz(func(t *testing.T, in string, in16 bool) {
		c := &fake{}
		s := &server{c: c, from: crowd{}, shaking: crowd{}}
		s.m = updates.Machine{Logf: func(string, ...any) {}, Plain: func(http1.Request) http1.Response { return http1.Text(404, "no") }}
		conn := &canned{in: strings.NewReader(in)}
		if in16 {
			http1.Conn{MaxBody: maxBody, Handle: operator{s, "ann", conn.RemoteAddr()}.handle}.Serve(conn)
		} else {
			s.serve(t.Context(), conn)
		}
		if !in16 && len(c.asked) > 0 || len(c.asked) > 1 || strings.Contains(conn.out.String(), "panic") {
			t.Errorf("%q: asked %q, answered %q", in, c.asked, conn.out.String())
		}
	})
}

// canned is a connection that says fixed bytes.
type canned struct {
	net.Conn
	in  io.Reader
	out bytes.Buffer
}

func (c *canned) Read(b []byte) (int, error)       { return c.in.Read(b) }
func (c *canned) Write(b []byte) (int, error)      { return c.out.Write(b) }
func (c *canned) Close() error                     { return nil }
func (c *canned) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
func (c *canned) SetDeadline(time.Time) error      { return nil }
func (c *canned) SetReadDeadline(time.Time) error  { return nil }
func (c *canned) SetWriteDeadline(time.Time) error { return nil }

// TestOneChangeAtATime: while one uploads, another is told so, and may look.
func TestOneChangeAtATime(t *testing.T) {
	b := machine(t, trusting(t))
	b.fake.hold, b.fake.began = make(chan struct{}), make(chan struct{})
	s, _ := set()
	first, _ := client(operatorCert(t, s, keys.Operator, time.Now()))
	second, _ := client(operatorCert(t, s, keys.Operator, time.Now()))
	body := bytes.Repeat([]byte("slot"), 1<<20)
	done := make(chan error, 1)
	go func() {
		status, text, err := ask(first, "PUT", "https://"+b.addr+"/v1/update/slot", string(body))
		if err == nil && status != 200 {
			err = fmt.Errorf("%d %s", status, text)
		}
		done <- err
	}()
	<-b.fake.began
	if status, text, err := ask(second, "POST", "https://"+b.addr+"/v1/rollback", ""); err != nil || status != 409 || !strings.Contains(text, updateapi.Busy) {
		t.Errorf("a second change: %d %s %v", status, text, err)
	}
	if status, _, err := ask(second, "GET", "https://"+b.addr+"/v1/slots", ""); err != nil || status != 200 {
		t.Errorf("a look: %d %v", status, err)
	}
	close(b.fake.hold)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if !bytes.Equal(b.fake.written, body) {
		t.Errorf("%d bytes arrived, want %d", len(b.fake.written), len(body))
	}
}
