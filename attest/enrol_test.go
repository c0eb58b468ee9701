package attest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-tpm/tpm2"

	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/quote"
)

// softTPM is the two keys of a TPM in software.
type softTPM struct {
	ak, ek *ecdsa.PrivateKey
}

func newTPM(t testing.TB) softTPM {
	t.Helper()
	ak, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ek, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return softTPM{ak, ek}
}

func (s softTPM) ekPublic() tpm2.TPMTPublic {
	p := softPublic(&s.ek.PublicKey)
	p.ObjectAttributes = tpm2.ECCEKTemplate.ObjectAttributes
	return p
}

func (s softTPM) request(name string, certificate []byte) Request {
	return Request{Name: name, AK: tpm2.Marshal(softPublic(&s.ak.PublicKey)), EK: tpm2.Marshal(s.ekPublic()), EKCertificate: certificate}
}

// maker is a maker of TPMs: a root and an intermediate.
type maker struct {
	root, issuer *x509.Certificate
	key          *ecdsa.PrivateKey
}

func newMaker(t testing.TB) maker {
	t.Helper()
	ca := func(name string, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
			NotBefore: testNow.AddDate(-1, 0, 0), NotAfter: testNow.AddDate(20, 0, 0), KeyUsage: x509.KeyUsageCertSign}
		if parent == nil {
			parent, by = c, key
		}
		return certificate(t, c, parent, &key.PublicKey, by), key
	}
	root, rootKey := ca("maker root", nil, nil)
	issuer, key := ca("maker issuer", root, rootKey)
	return maker{root, issuer, key}
}

func certificate(t testing.TB, c, parent *x509.Certificate, public *ecdsa.PublicKey, by *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, parent, public, by)
	if err != nil {
		t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// directoryName is a subject alternative name as makers of TPMs write it.
func directoryName(t testing.TB) pkix.Extension { return directoryNameOf(t, "SLB9670") }

func directoryNameOf(t testing.TB, model string) pkix.Extension {
	t.Helper()
	attribute := func(oid asn1.ObjectIdentifier, v string) pkix.RelativeDistinguishedNameSET {
		return pkix.RelativeDistinguishedNameSET{{Type: oid, Value: v}}
	}
	name, err := asn1.Marshal(pkix.RDNSequence{attribute(oidManufacturer, "id:49465800"), attribute(oidModel, model), attribute(oidVersion, "id:00070055")})
	if err != nil {
		t.Fatal(err)
	}
	value, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: directoryNameInSAN, IsCompound: true, Bytes: name}})
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: oidSubjectAltName, Critical: true, Value: value}
}

// certify makes the certificate of an endorsement key, edited.
func (m maker) certify(t testing.TB, public *ecdsa.PublicKey, edit func(c *x509.Certificate)) []byte {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(7), NotBefore: testNow.AddDate(-1, 0, 0), NotAfter: testNow.AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageKeyAgreement, UnknownExtKeyUsage: []asn1.ObjectIdentifier{oidEKCertificate}, ExtraExtensions: []pkix.Extension{directoryName(t)}}
	if edit != nil {
		edit(c)
	}
	return certificate(t, c, m.issuer, public, m.key).Raw
}

func (m maker) roots() Roots {
	return Roots{Roots: []*x509.Certificate{m.root}, Intermediates: []*x509.Certificate{m.issuer}}
}

// testHosts is a store of hosts in memory, around the decisions.
type testHosts struct {
	Rules
	hosts map[string]*Host
	open  Open[Offer]
}

func (h *testHosts) known(name string, ekName []byte) (k Known) {
	k.Host = h.hosts[name]
	for _, x := range h.hosts {
		if bytes.Equal(x.Record.EKName, ekName) {
			k.EKOwner = x.Record.Name
		}
		if x.Record.State == Pending {
			k.Pending++
		}
	}
	return k
}

func (h *testHosts) Begin(r Request, secret []byte, now time.Time) (Offer, error) {
	_, ek, err := r.Names()
	if err != nil {
		return Offer{}, err
	}
	o, err := h.Rules.Begin(r, h.known(r.Name, ek), testChannel, secret, now)
	if err == nil && !h.open.Put(r.Name, testChannel, o, o.Expires, now) {
		err = enrolf(EnrolBusy, "too many are open")
	}
	return o, err
}

func (h *testHosts) Finish(name string, secret []byte, now time.Time) (Host, error) {
	o, ok := h.open.Take(name, testChannel)
	if !ok {
		return Host{}, enrolf(EnrolSecret, "nothing is open")
	}
	host, err := o.Finish(h.known(name, o.Record.EKName), testChannel, secret, now)
	if err == nil {
		h.Load(host)
	}
	return host, err
}

func (h *testHosts) Load(host Host) {
	if h.hosts == nil {
		h.hosts = map[string]*Host{}
	}
	h.hosts[host.Record.Name] = &host
}

func (h *testHosts) Approve(name string) (Host, error) {
	err := h.hosts[name].Approve()
	return *h.hosts[name], err
}

var testChannel = []byte("channel key")

var testSecret = bytes.Repeat([]byte{3}, 32)

func code(err error) Code {
	var e *EnrolError
	if errors.As(err, &e) {
		return e.Code
	}
	if err != nil {
		return Code("no EnrolError: " + err.Error())
	}
	return ""
}

func enrol(t *testing.T, h *testHosts, r Request) Host {
	t.Helper()
	o, err := h.Begin(r, testSecret, testNow)
	if err != nil {
		t.Fatal(err)
	}
	if public, _ := quote.ParsePublic(r.AK); !bytes.Equal(o.AKName, public.Name()) {
		t.Fatal("P03: the name is not computed from the public area")
	}
	host, err := h.Finish(r.Name, testSecret, testNow)
	if err != nil {
		t.Fatal(err)
	}
	return host
}

// TestCertified: a host whose certificate leads to a root is active at once.
func TestCertified(t *testing.T) {
	m, s := newMaker(t), newTPM(t)
	h := testHosts{Rules: Rules{Roots: m.roots(), RequireChain: true}}
	host := enrol(t, &h, s.request("a", m.certify(t, &s.ek.PublicKey, nil)))
	if host.Record.State != Active || !host.Record.Chained || host.Record.Enrolled != testNow {
		t.Errorf("%+v", host.Record)
	}
	o, err := h.Rules.Roots.Chain(m.certify(t, &s.ek.PublicKey, nil), mustPublic(t, s.ekPublic()), testNow)
	if want := (Model{"id:49465800", "SLB9670", "id:00070055"}); err != nil || o.Model != want {
		t.Errorf("%+v, %v", o, err)
	}
}

func mustPublic(t *testing.T, p tpm2.TPMTPublic) *quote.Public {
	t.Helper()
	out, err := quote.ParsePublic(tpm2.Marshal(p))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestCertificateRefusals(t *testing.T) {
	m, other, s := newMaker(t), newMaker(t), newTPM(t)
	stranger := newTPM(t)
	edit := func(f func(c *x509.Certificate)) []byte { return m.certify(t, &s.ek.PublicKey, f) }
	good := edit(nil)
	fingerprint := func(c *x509.Certificate) [][sha256.Size]byte { return [][sha256.Size]byte{sha256.Sum256(c.Raw)} }
	leaf, _ := x509.ParseCertificate(good)
	for _, c := range []struct {
		id   string
		cert []byte
		h    func(h *testHosts)
		want Code
	}{
		{"P01 unknown root", other.certify(t, &s.ek.PublicKey, nil), nil, EKUnknown},
		{"P01 no certificate", nil, nil, EKUnknown},
		{"P01 no roots", good, func(h *testHosts) { h.Rules.Roots.Roots = nil }, EKUnknown},
		{"P02 another key", m.certify(t, &stranger.ek.PublicKey, nil), nil, EKCertificate},
		{"P07 expired", edit(func(c *x509.Certificate) { c.NotAfter = testNow.Add(-time.Second) }), nil, EKCertificate},
		{"P07 not yet", edit(func(c *x509.Certificate) { c.NotBefore = testNow.Add(time.Second) }), nil, EKCertificate},
		{"P07 no usage", edit(func(c *x509.Certificate) { c.UnknownExtKeyUsage = nil }), nil, EKCertificate},
		{"P07 other usage", edit(func(c *x509.Certificate) {
			c.UnknownExtKeyUsage, c.ExtKeyUsage = nil, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}), nil, EKCertificate},
		{"P07 revoked", good, func(h *testHosts) { h.Rules.Roots.Revoked = fingerprint(leaf) }, EKRevoked},
		{"P07 key revoked", good, func(h *testHosts) {
			h.Rules.Roots.Revoked = [][sha256.Size]byte{sha256.Sum256(leaf.RawSubjectPublicKeyInfo)}
		}, EKRevoked},
		{"P07 issuer revoked", good, func(h *testHosts) { h.Rules.Roots.Revoked = fingerprint(m.issuer) }, EKRevoked},
		{"P13 denied model", good, func(h *testHosts) {
			h.Rules.Roots.Denied = []Model{{Manufacturer: "ID:49465800", Version: "id:00070055"}}
		}, TPMDenied},
		{"another critical extension", edit(func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}})
		}), nil, EKUnknown},
		{"malformed name", edit(func(c *x509.Certificate) {
			c.ExtraExtensions[0].Value = append(c.ExtraExtensions[0].Value, 0)
		}), nil, EKCertificate},
		{"no certificate at all", []byte("x"), nil, EKCertificate},
	} {
		t.Run(c.id, func(t *testing.T) {
			h := testHosts{Rules: Rules{Roots: m.roots(), RequireChain: true}}
			if c.h != nil {
				c.h(&h)
			}
			_, err := h.Begin(s.request("a", c.cert), testSecret, testNow)
			if got := code(err); got != c.want || Codes[got] == "" {
				t.Errorf("got %v, want %s", err, c.want)
			}
			if _, err := h.Finish("a", testSecret, testNow); code(err) != EnrolSecret {
				t.Errorf("a refused offer was finished: %v", err)
			}
		})
	}
	if _, err := new(Roots).Chain(good, mustPublic(t, s.ekPublic()), time.Time{}); code(err) != EKCertificate {
		t.Errorf("no time: %v", err)
	}
}

// TestPending: without a chain an operator has the word, and the verifier waits
// for it.
func TestPending(t *testing.T) {
	s := newTPM(t)
	var h testHosts
	host := enrol(t, &h, s.request("a", nil))
	if host.Record.State != Pending || host.Record.Chained {
		t.Fatalf("%+v", host.Record)
	}
	f := genuine(t)
	f.key = s.ak
	f.c = func(c *Case) { c.Record = &host.Record }
	if v := Verify(f.build()); v.Reason() != HostPending {
		t.Errorf("%+v", v)
	}
	o, err := h.Begin(s.request("a", nil), testSecret, testNow)
	if err != nil {
		t.Fatal(err)
	}
	again, err := o.Finish(Known{Host: h.hosts["a"], EKOwner: "a"}, testChannel, testSecret, testNow.Add(time.Second))
	if d := cmp.Diff(*h.hosts["a"], again); err != nil || d != "" {
		t.Errorf("asking again: %v\n%s", err, d)
	}
	host, err = h.Approve("a")
	if err != nil || host.Record.State != Active {
		t.Fatal(err)
	}
	f.c = func(c *Case) { c.Record, c.Evidence.EK = &host.Record, tpm2.Marshal(s.ekPublic()) }
	if v := Verify(f.build()); !v.Trusted {
		t.Errorf("%+v", v)
	}
	if _, err := h.Approve("a"); code(err) != EnrolName {
		t.Errorf("approved twice: %v", err)
	}
	if _, err := h.Begin(s.request("a", nil), testSecret, testNow); code(err) != EnrolKnown {
		t.Errorf("enrolled again: %v", err)
	}
}

// TestLongCertificate: little is kept of what nobody has vouched for.
func TestLongCertificate(t *testing.T) {
	s, m := newTPM(t), newMaker(t)
	m.issuer.RawSubject, m.issuer.Subject = nil, pkix.Name{CommonName: strings.Repeat("é", 1000)}
	var r Roots
	c, err := r.Chain(m.certify(t, &s.ek.PublicKey, func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{directoryNameOf(t, strings.Repeat("x", 1000))}
	}), mustPublic(t, s.ekPublic()), testNow)
	if err != nil || c.Chained || len(c.Why) > 256 || len(c.Why) == 0 {
		t.Errorf("%v, %+v", err, c)
	}
	if n := len(c.Issuer); n < 250 || n > 256 || !utf8.ValidString(c.Issuer) || len(c.Model.Name) != 256 {
		t.Errorf("%d bytes of issuer, %d of model", n, len(c.Model.Name))
	}
	long := m.certify(t, &s.ek.PublicKey, func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{directoryNameOf(t, strings.Repeat("x", maxCertificate))}
	})
	if _, err := r.Chain(long, mustPublic(t, s.ekPublic()), testNow); code(err) != EKCertificate {
		t.Errorf("%d bytes: %v", len(long), err)
	}
}

// TestOneKeyOneName are P04 to P06.
func TestOneKeyOneName(t *testing.T) {
	s, other := newTPM(t), newTPM(t)
	var h testHosts
	enrol(t, &h, s.request("a", nil))
	begin := func(r Request) Code {
		_, err := h.Begin(r, testSecret, testNow)
		return code(err)
	}
	if got := begin(s.request("b", nil)); got != EnrolEK {
		t.Errorf("P05 one TPM, two names: %s", got)
	}
	if got := begin(other.request("a", nil)); got != EnrolKnown {
		t.Errorf("P06 another TPM under a waiting name: %s", got)
	}
	mixed := s.request("a", nil)
	mixed.AK = other.request("a", nil).AK
	if got := begin(mixed); got != EnrolKnown {
		t.Errorf("P06 another key under a waiting name: %s", got)
	}
	if _, err := h.Approve("a"); err != nil {
		t.Fatal(err)
	}
	h.hosts["a"].Allow()
	host := enrol(t, &h, other.request("a", nil))
	if host.Record.State != Pending || host.Reenrol || host.LastSeen != nil {
		t.Errorf("%+v", host)
	}
	if got := begin(s.request("b", nil)); got != "" {
		t.Errorf("a TPM that was replaced is not free: %s", got)
	}
	h.hosts["a"].Revoke()
	if got := begin(other.request("a", nil)); got != EnrolKnown {
		t.Errorf("a revoked host enrolled again: %s", got)
	}
	if got := begin(other.request("c", nil)); got != EnrolEK {
		t.Errorf("a revoked TPM under another name: %s", got)
	}
}

// TestReplacedBoard: a name that is enrolled again by another TPM waits, even
// with a certificate; by the same TPM it does not.
func TestReplacedBoard(t *testing.T) {
	m, s, other := newMaker(t), newTPM(t), newTPM(t)
	h := testHosts{Rules: Rules{Roots: m.roots()}}
	for _, c := range []struct {
		tpm  softTPM
		want State
	}{{s, Active}, {s, Active}, {other, Pending}} {
		host := enrol(t, &h, c.tpm.request("a", m.certify(t, &c.tpm.ek.PublicKey, nil)))
		if host.Record.State != c.want || !host.Record.Chained {
			t.Errorf("%+v, want %s", host.Record, c.want)
		}
		if c.want == Pending { // asking twice is no approval
			if again := enrol(t, &h, c.tpm.request("a", m.certify(t, &c.tpm.ek.PublicKey, nil))); again.Record.State != Pending {
				t.Errorf("asked again: %s", again.Record.State)
			}
		}
		h.hosts["a"].Allow()
	}
}

// TestRace: of two enrolments that are open at once the second to finish loses.
func TestRace(t *testing.T) {
	s := newTPM(t)
	var h testHosts
	for _, name := range []string{"a", "b"} {
		if _, err := h.Begin(s.request(name, nil), testSecret, testNow); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.Finish("a", testSecret, testNow); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Finish("b", testSecret, testNow); code(err) != EnrolEK {
		t.Errorf("one TPM, two names: %v", err)
	}
}

// TestSecret is P04: an offer is answered once, in its time, with its secret.
func TestSecret(t *testing.T) {
	s := newTPM(t)
	var h testHosts
	begin := func() {
		t.Helper()
		if _, err := h.Begin(s.request("a", nil), testSecret, testNow); err != nil {
			t.Fatal(err)
		}
	}
	finish := func(secret []byte, after time.Duration) Code {
		_, err := h.Finish("a", secret, testNow.Add(after))
		return code(err)
	}
	begin()
	if got := finish([]byte("x"), 0); got != EnrolSecret {
		t.Errorf("wrong secret: %s", got)
	}
	if got := finish(testSecret, 0); got != EnrolSecret {
		t.Errorf("a second answer: %s", got)
	}
	begin()
	if got := finish(testSecret, Lifetime+1); got != EnrolSecret {
		t.Errorf("late: %s", got)
	}
	begin()
	if got := finish(testSecret, Lifetime); got != "" {
		t.Errorf("in time: %s", got)
	}
	if got := finish(testSecret, 0); got != EnrolSecret {
		t.Errorf("used twice: %s", got)
	}
	begin()
	o, _ := h.open.Take("a", testChannel)
	if _, err := o.Finish(Known{}, []byte("another"), testSecret, testNow); code(err) != EnrolSecret {
		t.Errorf("on another channel: %v", err)
	}
	if _, err := h.Begin(s.request("b", nil), testSecret[:15], testNow); code(err) != EnrolSecret {
		t.Errorf("a short secret: %v", err)
	}
}

func TestRequestRefusals(t *testing.T) {
	s := newTPM(t)
	for _, c := range []struct {
		id   string
		edit func(r *Request)
		want Code
	}{
		{"no AK", func(r *Request) { r.AK = nil }, AKMalformed},
		{"AK is not restricted", func(r *Request) {
			p := softPublic(&s.ak.PublicKey)
			p.ObjectAttributes.Restricted = false
			r.AK = tpm2.Marshal(p)
		}, AKAttributes},
		{"AK also decrypts", func(r *Request) {
			p := softPublic(&s.ak.PublicKey)
			p.ObjectAttributes.Decrypt = true
			r.AK = tpm2.Marshal(p)
		}, AKAttributes},
		{"EK also signs", func(r *Request) {
			p := s.ekPublic()
			p.ObjectAttributes.SignEncrypt = true
			r.EK = tpm2.Marshal(p)
		}, EKAttributes},
		{"AK is an EK", func(r *Request) { r.AK = r.EK }, AKAttributes},
		{"no EK", func(r *Request) { r.EK = nil }, EKMalformed},
		{"EK is an AK", func(r *Request) { r.EK = r.AK }, EKAttributes},
		{"no name", func(r *Request) { r.Name = "" }, EnrolName},
		{"path for a name", func(r *Request) { r.Name = "../x" }, EnrolName},
		{"long name", func(r *Request) { r.Name = strings.Repeat("a", 64) }, EnrolName},
		{"upper case", func(r *Request) { r.Name = "A" }, EnrolName},
	} {
		r := s.request("a", nil)
		c.edit(&r)
		if _, err := new(testHosts).Begin(r, testSecret, testNow); code(err) != c.want {
			t.Errorf("%s: got %v, want %s", c.id, err, c.want)
		}
	}
}

// TestFlood: open offers and challenges are bounded, and old ones make room.
func TestFlood(t *testing.T) {
	var o Open[int]
	for i := range maxOpen {
		if !o.Put(fmt.Sprint(i), nil, i, testNow, testNow) {
			t.Fatal(i)
		}
	}
	if o.Put("a", nil, 1, testNow, testNow) {
		t.Error("one more")
	}
	if !o.Put("1", nil, 7, testNow.Add(time.Minute), testNow) {
		t.Error("a host that is asked already")
	}
	if o.Put("a", nil, 1, testNow, testNow.Add(time.Second-1)) {
		t.Error("all were looked at twice in a second")
	}
	if !o.Put("a", nil, 1, testNow, testNow.Add(time.Second)) || len(o.hosts) != 2 || o.n != 2 {
		t.Errorf("%d open of %d hosts", o.n, len(o.hosts))
	}
	if v, ok := o.Take("1", nil); !ok || v != 7 {
		t.Errorf("got %d, %t", v, ok)
	}
	s, waiting := newTPM(t), testHosts{}
	for i := range maxPending {
		waiting.Load(Host{Record: Record{Name: fmt.Sprint(i), State: Pending, EKName: fmt.Append(nil, i)}})
	}
	if _, err := waiting.Begin(s.request("a", nil), testSecret, testNow); code(err) != EnrolBusy {
		t.Errorf("one more that waits: %v", err)
	}
	m := newMaker(t)
	waiting.Roots = m.roots()
	if got := enrol(t, &waiting, s.request("a", m.certify(t, &s.ek.PublicKey, nil))); got.Record.State != Active {
		t.Errorf("a certified TPM among many that wait: %s", got.Record.State)
	}
}

// TestChannels: a host has few channels, of which the oldest goes; another host
// loses nothing by it.
func TestChannels(t *testing.T) {
	var o Open[int]
	o.Put("b", []byte{0}, 100, testNow, testNow)
	for i := range maxChannels + 1 {
		o.Put("a", []byte{byte(i)}, i, testNow, testNow)
	}
	if o.n != maxChannels+1 {
		t.Errorf("%d open", o.n)
	}
	if _, ok := o.Take("a", []byte{0}); ok {
		t.Error("the oldest is open")
	}
	o.Put("c", []byte("proven"), 7, testNow.Add(time.Hour), testNow)
	for i := range 2 * maxChannels {
		o.Put("c", []byte{byte(i)}, i, testNow.Add(time.Minute), testNow)
	}
	if v, ok := o.Take("c", []byte("proven")); !ok || v != 7 {
		t.Error("others have made void what a proven channel was asked")
	}
	for i := range 2 * maxChannels {
		o.Take("c", []byte{byte(i)})
	}
	for i := 1; i <= maxChannels; i++ {
		if v, ok := o.Take("a", []byte{byte(i)}); !ok || v != i {
			t.Errorf("channel %d: %d, %t", i, v, ok)
		}
	}
	if v, ok := o.Take("b", []byte{0}); !ok || v != 100 || o.n != 0 || len(o.hosts) != 0 {
		t.Errorf("%d, %t, %d open", v, ok, o.n)
	}
}

// TestChallenge is P08: a challenge is for one host on one channel, once.
func TestChallenge(t *testing.T) {
	if _, ok := NewChallenge(testSecret[:15], nil, nil, testNow); ok {
		t.Error("a short nonce")
	}
	c, ok := NewChallenge(testSecret, []byte("s"), testChannel, testNow)
	if !ok || c.Expires != testNow.Add(Lifetime) {
		t.Fatalf("%+v", c)
	}
	var o Open[Challenge]
	o.Put("a", testChannel, c, c.Expires, testNow)
	if _, ok := o.Take("b", testChannel); ok {
		t.Error("another host's challenge")
	}
	o.Put("a", []byte("another channel"), Challenge{}, c.Expires, testNow) // voids nothing
	if got, ok := o.Take("a", testChannel); !ok || !bytes.Equal(got.ExtraData(), c.ExtraData()) {
		t.Error("not the challenge that was issued")
	}
	if _, ok := o.Take("a", testChannel); ok {
		t.Error("a challenge was used twice")
	}
}

// TestExtraData: no two challenges have the same bytes.
func TestExtraData(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range []Challenge{{}, {Nonce: []byte("ab")}, {Nonce: []byte("a"), ServerID: []byte("b")}, {Nonce: []byte("a"), ChannelKey: []byte("b")},
		{ServerID: []byte("ab")}, {ServerID: []byte("a"), ChannelKey: []byte("b")}, {ChannelKey: []byte("ab")}} {
		if d := string(c.ExtraData()); seen[d] || len(d) != 32 {
			t.Errorf("%+v is another one's", c)
		} else {
			seen[d] = true
		}
	}
}

// TestStanding is P10: a host that is silent for three intervals is unknown.
func TestStanding(t *testing.T) {
	s := newTPM(t)
	var h testHosts
	enrol(t, &h, s.request("host", nil))
	host, _ := h.Approve("host")
	const interval = time.Minute
	if got := host.Standing(interval, testNow); got != StandingUnknown {
		t.Errorf("never heard: %s", got)
	}
	f := genuine(t)
	f.key = s.ak
	v := Verify(f.build())
	if host.Judged(&v); !v.Proven() || host.LastSeen == nil || host.LastSeen.Clock.ResetCount != 6 {
		t.Fatalf("%+v", host)
	}
	for after, want := range map[time.Duration]Standing{0: StandingTrusted, 3 * interval: StandingTrusted, 3*interval + 1: StandingUnknown} {
		if got := host.Standing(interval, testNow.Add(after)); got != want {
			t.Errorf("after %s: %s, want %s", after, got, want)
		}
	}
	v.Trusted, v.Clock.ResetCount = false, 9
	host.Judged(&v)
	if got := host.Standing(interval, testNow); got != StandingRefused || host.LastSeen.Clock.ResetCount != 6 {
		t.Errorf("refused: %s, %+v", got, host.LastSeen)
	}
	v.Trusted = true
	host.Judged(&v)
	if host.Revoke(); host.Standing(interval, testNow) != StandingRefused {
		t.Error("a revoked host is trusted")
	}
}

// TestProven: what anybody can send says nothing about a host; what only its
// TPM can sign does.
func TestProven(t *testing.T) {
	f := genuine(t)
	if v := Verify(f.build()); !v.Proven() {
		t.Errorf("genuine: %+v", v)
	}
	foreign := newTPM(t)
	for name, edit := range map[string]func(*Case){
		"another key":   func(c *Case) { c.Evidence.AK = tpm2.Marshal(softPublic(&foreign.ak.PublicKey)) },
		"no signature":  func(c *Case) { c.Evidence.Signature = nil },
		"another quote": func(c *Case) { c.Evidence.Quote = append([]byte{}, c.Evidence.Quote...); c.Evidence.Quote[20] ^= 1 },
		"another nonce": func(c *Case) { c.Challenge.Nonce = testSecret },
		"late":          func(c *Case) { c.Challenge.Expires = c.Now.Add(-1) },
		"no host":       func(c *Case) { c.Record = nil },
	} {
		c := f.build()
		edit(&c)
		if v := Verify(c); v.Trusted || v.Proven() {
			t.Errorf("%s: %+v", name, v.Findings)
		}
	}
	c := f.build()
	c.References = nil
	if v := Verify(c); v.Trusted || !v.Proven() {
		t.Errorf("no reference: %+v", v.Findings)
	}
}

// TestBaseline: accepted firmware is what later evidence must have.
func TestBaseline(t *testing.T) {
	s := newTPM(t)
	var h testHosts
	enrol(t, &h, s.request("host", nil))
	host, _ := h.Approve("host")
	f := genuine(t)
	f.key = s.ak
	c := f.build()
	host.Baseline(c.Evidence.PCRs, 7)
	c.Record = &host.Record
	if v := Verify(c); !v.Trusted || v.Registers[0].Against == "" {
		t.Errorf("%+v", v)
	}
	host.Record.Firmware[pcr.SHA256][2] = pcr.SHA256.Sum(nil)
	if v := Verify(c); v.Reason() != FirmwareChanged {
		t.Errorf("%+v", v)
	}
	if host.Baseline(map[pcr.Bank]map[int]pcr.Digest{pcr.SHA256: {4: pcr.SHA256.Sum(nil)}}, 7); len(host.Record.Firmware[pcr.SHA256]) != 0 {
		t.Errorf("registers that were not quoted: %v", host.Record.Firmware)
	}
}
