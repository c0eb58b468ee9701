package hostclient_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/hostclient"
	"github.com/ingot-os/ingot/internal/hosttest"
	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/trust"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/internal/verifier"
)

// dir holds the key sets of these tests.
var dir string

func TestMain(m *testing.M) {
	var err error
	if dir, err = os.MkdirTemp("", "ingot-hostclient-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// fleet is a key set, what it exports and a signer of releases.
type fleet struct {
	*keys.Set
	anchors *trust.Anchors
}

var acme = sync.OnceValue(func() *fleet { return newFleet("acme") })

func newFleet(name string) *fleet {
	ctx := context.Background()
	set, err := keys.Init(ctx, filepath.Join(dir, name), keys.Options{Name: name, Test: true, Now: time.Now(), Rand: rand.Reader})
	if err != nil {
		panic(err)
	}
	if _, err := set.Export(ctx, filepath.Join(dir, name+"-trust")); err != nil {
		panic(err)
	}
	anchors, err := trust.Open(filepath.Join(dir, name+"-trust"))
	if err != nil {
		panic(err)
	}
	return &fleet{set, anchors}
}

func (f *fleet) authority(t *testing.T, p keys.Purpose) verifier.Authority {
	t.Helper()
	key, err := f.Signer(t.Context(), p, "test")
	if err != nil {
		t.Fatal(err)
	}
	return verifier.Authority{Certificate: f.Certificate(p), Key: key}
}

func (f *fleet) operator(t *testing.T) tls.Certificate {
	t.Helper()
	c, err := verifier.OperatorCertificate(f.authority(t, keys.Operator), "ann@desk", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// host is a certificate of an attested host, as the server issues it.
func (f *fleet) host(t *testing.T, by keys.Purpose, name string, from, until time.Time) (cert, key []byte) {
	t.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := f.authority(t, by)
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name}, URIs: []*url.URL{verifier.HostURI(name)},
		NotBefore: from, NotAfter: until, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, a.Certificate, own.Public(), a.Key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// lab is a machine that runs version 1.0, and releases in a directory.
type lab struct {
	*hosttest.Machine
	out string
}

var (
	one = hosttest.Release{Name: "lamp", Version: "1.0", Seed: 1, Used: 3 << 20}
	two = hosttest.Release{Name: "lamp", Version: "2.0", Seed: 1, Used: 3 << 20} // a line of 1.0 is another
	far = hosttest.Release{Name: "lamp", Version: "3.0", Seed: 9, Used: 4 << 20} // nothing of 1.0 is in it
)

func start(t *testing.T, o hosttest.Options) *lab {
	t.Helper()
	o.Dir, o.Runs = t.TempDir(), one
	if o.Trust == nil {
		o.Trust = acme().anchors.Spec()
	}
	m, err := hosttest.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return &lab{m, t.TempDir()}
}

// release writes a release and opens it.
func (l *lab) release(t *testing.T, r hosttest.Release, o hostclient.ReleaseOptions) *hostclient.Release {
	t.Helper()
	dir := filepath.Join(l.out, r.Name+"-"+r.Version)
	if err := r.Write(dir, acme().authority(t, keys.Image).Key); err != nil {
		t.Fatal(err)
	}
	opened, err := hostclient.OpenRelease(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return opened
}

func (l *lab) client(t *testing.T, edit func(*hostclient.Options)) *hostclient.Client {
	t.Helper()
	o := hostclient.Options{Host: l.Addr(), Certificate: acme().operator(t), Key: l.Key()}
	if edit != nil {
		edit(&o)
	}
	c, err := hostclient.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (l *lab) holds(t *testing.T, s slot.Slot, r hosttest.Release) {
	t.Helper()
	b, err := l.Slot(s)
	if err != nil || !bytes.Equal(b, r.Bytes()) {
		t.Errorf("%s does not hold %s: %v", s.Role(), r.Version, err)
	}
}

func wait(t *testing.T, c *hostclient.Client, r *hostclient.Release) *hostclient.Outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := c.Wait(ctx, r, hostclient.WaitOptions{Every: 20 * time.Millisecond})
	if err != nil {
		t.Fatalf("%v: %+v", err, out)
	}
	return out
}

func TestUpdate(t *testing.T) {
	l := start(t, hosttest.Options{})
	c := l.client(t, nil)
	r := l.release(t, far, hostclient.ReleaseOptions{})
	var told []int64
	p, sent, err := c.Push(t.Context(), r, hostclient.PushOptions{Approve: true, Sending: func(part, coding string, done, total int64) {
		if part != "slot" || coding != "zstd" || total != far.Used {
			t.Errorf("sending %s %s %d of %d", part, coding, done, total)
		}
		told = append(told, done)
	}})
	if err != nil || p.Slot != "b" || p.Version != "3.0" {
		t.Fatalf("%+v, %v", p, err)
	}
	if sent.Retries != 0 || sent.Bytes < far.Used || sent.Bytes > far.Used+far.Used/10 || len(told) == 0 || told[len(told)-1] != far.Used {
		t.Errorf("sent %+v, told %d times", sent, len(told))
	}
	out := wait(t, c, r)
	if !out.Blessed || out.Fell || out.Proven || l.Boots() != 1 {
		t.Errorf("%+v after %d boots", out, l.Boots())
	}
	l.holds(t, slot.B, far)
	l.holds(t, slot.A, one)

	// The key of the boot before counts no more, and the error says which does.
	var key *hostclient.KeyError
	if _, err := c.Slots(t.Context()); !errors.As(err, &key) || key.Got != l.Key() || !strings.Contains(key.Hint(), "console") {
		t.Errorf("with the key of another boot: %v", err)
	}
	c = l.client(t, nil)
	if p, sent, err := c.Push(t.Context(), r, hostclient.PushOptions{Approve: true}); err != nil || len(p.Wants) > 0 || sent.Bytes > 0 {
		t.Errorf("once more: %+v %+v %v", p, sent, err)
	}
	if _, err := c.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.until(t, func(s *updateapi.Slots) bool { return s.Running == "a" && s.Good == "a" })
	c = l.client(t, nil)
	var refused *updateapi.Error
	if _, _, err := c.Push(t.Context(), r, hostclient.PushOptions{}); !errors.As(err, &refused) || refused.Code != updateapi.IsRejected {
		t.Errorf("what was rolled back is taken again: %v", err)
	}
	if _, err := c.Override(t.Context(), "3.0"); err != nil {
		t.Error(err)
	}
	if _, err := c.Approve(t.Context()); !errors.As(err, &refused) || refused.Code != updateapi.NotAllowed {
		t.Errorf("nothing is staged, and it is approved: %v", err)
	}
	if _, err := c.Adopt(t.Context()); !errors.As(err, &refused) {
		t.Errorf("the journal is there, and is adopted: %v", err)
	}
}

// until waits for a state of the machine, as it tells everybody.
func (l *lab) until(t *testing.T, is func(*updateapi.Slots) bool) {
	t.Helper()
	c, err := hostclient.New(hostclient.Options{Host: l.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	var s *updateapi.Slots
	for range 1000 {
		if s, err = c.Told(t.Context()); err == nil && is(s) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("the machine is %+v, %v", s, err)
}

// TestStaged: what is staged is tried when it is offered again without.
func TestStaged(t *testing.T) {
	l := start(t, hosttest.Options{})
	c := l.client(t, nil)
	r := l.release(t, two, hostclient.ReleaseOptions{})
	if p, _, err := c.Push(t.Context(), r, hostclient.PushOptions{}); err != nil || p.Phase != slot.Staged.String() {
		t.Fatalf("%+v %v", p, err)
	}
	if _, err := c.Approve(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out := wait(t, c, r); !out.Blessed {
		t.Errorf("%+v", out)
	}
}

func TestFallsBack(t *testing.T) {
	l := start(t, hosttest.Options{Trial: func(string) slot.Cause { return slot.NetworkDead }})
	c := l.client(t, nil)
	r := l.release(t, two, hostclient.ReleaseOptions{})
	if _, _, err := c.Push(t.Context(), r, hostclient.PushOptions{Approve: true}); err != nil {
		t.Fatal(err)
	}
	out := wait(t, c, r)
	if out.Blessed || !out.Fell || out.Cause != "network-dead" || !strings.Contains(out.Detail, "2.0") || out.Slots.Running != "a" {
		t.Errorf("%+v", out)
	}
}

func TestNoVerdict(t *testing.T) {
	l := start(t, hosttest.Options{})
	r := l.release(t, two, hostclient.ReleaseOptions{})
	c := l.client(t, nil)
	if _, _, err := c.Push(t.Context(), r, hostclient.PushOptions{}); err != nil { // and nobody approves
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, err := c.Wait(ctx, r, hostclient.WaitOptions{Every: 20 * time.Millisecond, Phase: func(string) { cancel() }})
	if !errors.Is(err, context.Canceled) || out.Phase != slot.Staged.String() || out.Blessed || out.Fell {
		t.Errorf("%+v, %v", out, err)
	}
}

// TestPatch: of what the machine runs only the changes are sent, whether the set
// is named or lies beside the release.
func TestPatch(t *testing.T) {
	for name, beside := range map[string]bool{"named": false, "beside": true} {
		l := start(t, hosttest.Options{})
		o := hostclient.ReleaseOptions{Patches: filepath.Join(l.out, "patches")}
		base := filepath.Join(l.out, "elsewhere", "lamp-1.0")
		if beside {
			base = filepath.Join(l.out, "lamp-1.0")
		} else {
			o.Base = []string{base}
		}
		if err := one.Write(base, nil); err != nil {
			t.Fatal(err)
		}
		_, sent, err := l.client(t, nil).Push(t.Context(), l.release(t, two, o), hostclient.PushOptions{})
		if err != nil || sent.Bytes > 4096 || strings.Join(sent.Codings, " ") != "delta" {
			t.Errorf("%s: %+v %v", name, sent, err)
		}
		l.holds(t, slot.B, two)
	}
}

// TestPatchDoesNotFit: a machine whose slot is not what its journal says gets
// the whole part.
func TestPatchDoesNotFit(t *testing.T) {
	l := start(t, hosttest.Options{})
	if err := one.Write(filepath.Join(l.out, "lamp-1.0"), nil); err != nil {
		t.Fatal(err)
	}
	if err := l.Spoil(slot.A, 1<<20); err != nil {
		t.Fatal(err)
	}
	r := l.release(t, two, hostclient.ReleaseOptions{Patches: filepath.Join(l.out, "patches")})
	_, sent, err := l.client(t, nil).Push(t.Context(), r, hostclient.PushOptions{})
	if err != nil || strings.Join(sent.Codings, " ") != "delta zstd" {
		t.Errorf("%+v %v", sent, err)
	}
	l.holds(t, slot.B, two)
}

// cutting is a listener whose connections end after so many bytes, as long as
// there are cuts left.
type cutting struct {
	net.Listener
	after int64
	left  atomic.Int32
}

func (l *cutting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &cut{Conn: c, l: l}, err
}

type cut struct {
	net.Conn
	l    *cutting
	read int64
}

func (c *cut) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.read += int64(n); c.read > c.l.after && c.l.left.Add(-1) >= 0 {
		c.Conn.(*net.TCPConn).SetLinger(0)
		c.Conn.Close()
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestResume: a transfer that is cut goes on where it was, and ends well.
func TestResume(t *testing.T) {
	cutter := &cutting{Listener: listen(t), after: 3 << 20}
	cutter.left.Store(2)
	l := start(t, hosttest.Options{Listener: cutter})
	r := l.release(t, far, hostclient.ReleaseOptions{})
	var why []error
	_, sent, err := l.client(t, nil).Push(t.Context(), r, hostclient.PushOptions{Retry: func(_ bool, err error) { why = append(why, err) }})
	if err != nil || sent.Retries == 0 || len(why) != sent.Retries {
		t.Fatalf("%+v %v %v", sent, why, err)
	}
	if sent.Bytes > 7<<20-1<<19 { // 3 MiB, and not all of 4 MiB again
		t.Errorf("it began anew: %+v", sent)
	}
	l.holds(t, slot.B, far)
}

// TestGivesUp: a machine that is gone is tried again, and not for ever.
func TestGivesUp(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	c, err := hostclient.New(hostclient.Options{Host: ln.Addr().String(), Certificate: acme().operator(t), Key: strings.Repeat("a", 64)})
	if err != nil {
		t.Fatal(err)
	}
	l := start(t, hosttest.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	tries := 0
	_, _, err = c.Push(ctx, l.release(t, two, hostclient.ReleaseOptions{}), hostclient.PushOptions{Retry: func(bool, error) {
		if tries++; tries == 2 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) || tries != 2 {
		t.Errorf("%d tries, %v", tries, err)
	}
}

// TestRefusals: what the machine refuses is not tried again, and has its code.
func TestRefusals(t *testing.T) {
	l := start(t, hosttest.Options{})
	other := newFleet("other")
	write := func(r hosttest.Release, by *fleet) *hostclient.Release {
		dir := filepath.Join(l.out, "x", r.Version)
		if err := r.Write(dir, by.authority(t, keys.Image).Key); err != nil {
			t.Fatal(err)
		}
		opened, err := hostclient.OpenRelease(dir, hostclient.ReleaseOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return opened
	}
	foreign := hosttest.Release{Name: "toaster", Version: "4.0", Used: 1 << 20}
	signed := two
	signed.Version = "5.0"
	for code, r := range map[string]*hostclient.Release{updateapi.Untrusted: write(signed, other), updateapi.Mismatched: write(foreign, acme())} {
		var refused *updateapi.Error
		_, sent, err := l.client(t, nil).Push(t.Context(), r, hostclient.PushOptions{Approve: true})
		if !errors.As(err, &refused) || refused.Code != code || sent.Retries > 0 {
			t.Errorf("%s: %v %+v", code, err, sent)
		}
	}
	// Bytes that are not those of the manifest are not sent at all.
	r := l.release(t, two, hostclient.ReleaseOptions{})
	flip(t, filepath.Join(l.out, "lamp-2.0", "lamp-2.0.img"), 2<<20)
	if _, sent, err := l.client(t, nil).Push(t.Context(), r, hostclient.PushOptions{}); err == nil || sent.Retries > 0 || !strings.Contains(err.Error(), "differs from the manifest") {
		t.Errorf("a changed image: %v %+v", err, sent)
	}
	if err := two.Write(filepath.Join(l.out, "unsigned"), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := hostclient.OpenRelease(filepath.Join(l.out, "unsigned"), hostclient.ReleaseOptions{}); !errors.Is(err, hostclient.ErrUnsigned) {
		t.Errorf("an unsigned set: %v", err)
	}
}

func flip(t *testing.T, path string, off int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, off); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{b[0] ^ 1}, off); err != nil {
		t.Fatal(err)
	}
}

// TestWhoAnswers: certificates of machines, each wrong in one way.
func TestWhoAnswers(t *testing.T) {
	now := time.Now()
	hour := time.Hour
	other := newFleet("others")
	for _, c := range []struct {
		name        string
		fleet       *fleet
		by          keys.Purpose
		host        string
		from, until time.Duration
		edit        func(*hostclient.Options)
		want        string
	}{
		{"its name", acme(), keys.Hosts, "lamp-7", -hour, hour, nil, ""},
		{"an address", acme(), keys.Hosts, "lamp-7", -hour, hour, func(o *hostclient.Options) { o.Name = "" }, "is lamp-7, not 127.0.0.1"},
		{"a name of the network", acme(), keys.Hosts, "localhost", -hour, hour, func(o *hostclient.Options) {
			o.Name, o.Host = "", strings.Replace(o.Host, "127.0.0.1", "localhost", 1)
		}, ""},
		{"another host", acme(), keys.Hosts, "lamp-8", -hour, hour, nil, "is lamp-8, not lamp-7"},
		{"another fleet", other, keys.Hosts, "lamp-7", -hour, hour, nil, "no certificate of this fleet"},
		{"by the operator authority", acme(), keys.Operator, "lamp-7", -hour, hour, nil, "no certificate of this fleet"},
		{"by the server authority", acme(), keys.Server, "lamp-7", -hour, hour, nil, "no certificate of this fleet"},
		{"its own key, named", acme(), keys.Hosts, "lamp-7", -hour, hour, func(o *hostclient.Options) { o.Key = strings.Repeat("b", 64) }, "shows the key"},
		{"not yet valid", acme(), keys.Hosts, "lamp-7", hour, 2 * hour, nil, "not yet valid"},
		{"no authority of hosts in the key set", acme(), keys.Hosts, "lamp-7", -hour, hour, func(o *hostclient.Options) { o.Hosts = nil }, "no authority of hosts"},
	} {
		cert, key := c.fleet.host(t, c.by, c.host, now.Add(c.from), now.Add(c.until))
		l := start(t, hosttest.Options{Certificate: func() ([]byte, []byte) { return cert, key }})
		client := l.client(t, func(o *hostclient.Options) {
			o.Hosts, o.Name, o.Key = acme().Certificate(keys.Hosts), "lamp-7", ""
			if c.edit != nil {
				c.edit(o)
			}
		})
		_, err := client.Slots(t.Context())
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	l := start(t, hosttest.Options{}) // has no certificate, only its key
	var unattested *hostclient.UnattestedError
	_, err := l.client(t, func(o *hostclient.Options) { o.Hosts, o.Key = acme().Certificate(keys.Hosts), "" }).Slots(t.Context())
	if !errors.As(err, &unattested) || unattested.Key != l.Key() || !strings.Contains(unattested.Hint(), "--host-key") {
		t.Errorf("a machine without a server: %v", err)
	}
}

// TestAttestedUpdate: a machine with a certificate is believed over the reset.
func TestAttestedUpdate(t *testing.T) {
	cert, key := acme().host(t, keys.Hosts, "lamp-7", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	l := start(t, hosttest.Options{Certificate: func() ([]byte, []byte) { return cert, key }})
	c := l.client(t, func(o *hostclient.Options) {
		o.Hosts, o.Name, o.Key = acme().Certificate(keys.Hosts), "lamp-7", ""
	})
	r := l.release(t, two, hostclient.ReleaseOptions{})
	if _, _, err := c.Push(t.Context(), r, hostclient.PushOptions{Approve: true}); err != nil {
		t.Fatal(err)
	}
	if out := wait(t, c, r); !out.Blessed || !out.Proven {
		t.Errorf("%+v", out)
	}
}

// TestWhoIsLetIn: the machine's no reaches the operator, and nothing is tried again.
func TestWhoIsLetIn(t *testing.T) {
	l := start(t, hosttest.Options{})
	var stranger *hostclient.StrangerError
	r := l.release(t, two, hostclient.ReleaseOptions{})
	other := newFleet("strangers")
	c := l.client(t, func(o *hostclient.Options) { o.Certificate = other.operator(t) })
	if _, sent, err := c.Push(t.Context(), r, hostclient.PushOptions{}); !errors.As(err, &stranger) || sent.Retries > 0 {
		t.Errorf("another fleet's operator: %v %+v", err, sent)
	}
	trust := *acme().anchors.Spec()
	trust.Operator = nil
	plain := start(t, hosttest.Options{Trust: &trust})
	var no *hostclient.PlainError
	o := hostclient.Options{Host: plain.Addr(), Certificate: acme().operator(t), Key: strings.Repeat("c", 64)}
	if c, _ := hostclient.New(o); c != nil {
		if _, err := c.Slots(t.Context()); !errors.As(err, &no) || !strings.Contains(no.Hint(), "trust:") {
			t.Errorf("a machine without an operator authority: %v", err)
		}
		if s, err := c.Told(t.Context()); err != nil || s.Running != "a" {
			t.Errorf("what it tells everybody: %+v %v", s, err)
		}
	}
}

func TestHostNames(t *testing.T) {
	for host, want := range map[string]string{"lamp": "lamp:9443", "lamp:1": "lamp:1", "10.0.0.7": "10.0.0.7:9443", "::1": "[::1]:9443", "[::1]": "[::1]:9443", "[::1]:80": "[::1]:80", "a.b.c": "a.b.c:9443",
		"": "", ":80": "", "lamp:": "", "lamp:http:1": "", "lamp:99999": "", "a b": "", "x/y": "", "u@h": "", "https://lamp": ""} {
		c, err := hostclient.New(hostclient.Options{Host: host})
		if want == "" && err == nil || want != "" && (err != nil || c.Addr() != want) {
			t.Errorf("%q: %v, %v, want %q", host, c, err, want)
		}
	}
	for _, key := range []string{"x", strings.Repeat("g", 64), strings.Repeat("a", 63)} {
		if _, err := hostclient.New(hostclient.Options{Host: "h", Key: key}); err == nil {
			t.Errorf("key %q is taken", key)
		}
	}
}
