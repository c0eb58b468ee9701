package verifier

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/eventlog"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/tpm"
	"github.com/ingot-os/ingot/internal/attestapi"
	"github.com/ingot-os/ingot/internal/audit"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/reference"
	"github.com/ingot-os/ingot/internal/simhost"
	"github.com/ingot-os/ingot/internal/tpmtest"
)

const (
	recording     = "../../attest/testdata/boot-257-secureboot.json"
	referenceFile = "../../attest/testdata/reference-257.json"
)

func TestMain(m *testing.M) {
	code := m.Run()
	tpmtest.Clean()
	os.Exit(code)
}

// authority makes a root, or an authority below one.
func authority(t testing.TB, name string, by *Authority, usage x509.ExtKeyUsage) *Authority {
	t.Helper()
	key := newTestKey(t)
	c := &x509.Certificate{SerialNumber: big.NewInt(int64(len(name))), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(200, 0, 0), KeyUsage: x509.KeyUsageCertSign}
	parent, signer := c, key
	if by != nil {
		parent, signer = by.Certificate, by.Key.(*ecdsa.PrivateKey)
		c.ExtKeyUsage = []x509.ExtKeyUsage{usage}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err == nil {
		c, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &Authority{c, key}
}

func newTestKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// served is a server on a real socket, with a clock that tests move.
type served struct {
	*Server
	t                       testing.TB
	store                   *fleet.SQLite
	address                 string
	servers, people, attest *Authority
	mu                      sync.Mutex
	offset                  time.Duration
}

func (s *served) wait(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offset += d
}

const testInterval = time.Minute

// serve starts a server with the recorded release, edited by f.
func serve(t testing.TB, f func(*Options)) *served {
	t.Helper()
	root := authority(t, "fleet", nil, 0)
	s := &served{t: t, servers: authority(t, "servers", root, x509.ExtKeyUsageServerAuth),
		people: authority(t, "people", root, x509.ExtKeyUsageClientAuth), attest: authority(t, "hosts!", root, x509.ExtKeyUsageClientAuth)}
	var err error
	dir := filepath.Join(t.TempDir(), "state")
	if s.store, err = fleet.Open(dir, fleet.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.store.Close() })
	cert, err := ServerCertificate(dir, *s.servers, []string{"127.0.0.1"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	boot, err := simhost.ReadBoot(recording)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Store: s.store, Certificate: cert, Operators: s.people.Certificate, Hosts: s.attest, Interval: testInterval,
		Policy: attest.Policy{SecureBoot: true, Keys: []attest.Keys{boot.Keys()}},
		Now: func() time.Time {
			s.mu.Lock()
			defer s.mu.Unlock()
			return time.Now().Add(s.offset)
		}}
	if f != nil {
		f(&o)
	}
	if s.Server, err = New(o); err != nil {
		t.Fatal(err)
	}
	if err := s.SetCatalog(context.Background(), recorded(t, 0)); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

// recorded is the release of the recorded boot.
func recorded(t testing.TB, epoch int64) *Catalog {
	t.Helper()
	b, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	var ref attest.Reference
	if err := json.Unmarshal(b, &ref); err != nil {
		t.Fatal(err)
	}
	ref.Epoch, ref.Phases = epoch, []string{"services"}
	document, err := reference.Marshal(&ref)
	if err != nil {
		t.Fatal(err)
	}
	sum := audit.Sum(document)
	return &Catalog{Releases: []Release{{Name: ref.Name, Version: ref.Version, Epoch: epoch, Sum: sum, document: document, parsed: ref}},
		references: []attest.Reference{ref}, sums: []audit.Digest{sum}}
}

// client speaks to the server with a certificate; nil shows none.
func (s *served) client(cert *tls.Certificate) *http.Client {
	roots := x509.NewCertPool()
	roots.AddCert(s.servers.Certificate)
	c := &tls.Config{RootCAs: roots}
	if cert != nil {
		c.Certificates = []tls.Certificate{*cert}
	}
	t := &http.Transport{TLSClientConfig: c}
	s.t.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t, Timeout: 20 * time.Second}
}

func (s *served) operator() *Client {
	s.t.Helper()
	cert, err := OperatorCertificate(*s.people, "alice", time.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := NewClient("https://"+s.address, s.servers.Certificate, cert)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func (s *served) act(name, action string) *Detail {
	s.t.Helper()
	a := Action{Action: action}
	a.About(s.detail(name))
	d, err := s.operator().Act(context.Background(), name, a)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

func (s *served) detail(name string) *Detail {
	s.t.Helper()
	d, err := s.operator().Host(context.Background(), name)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

// maxLine is what a record may have, in bytes, with a key on P-256; maxFloor is
// what the counter of a version floor adds.
const (
	maxLine  = 1200
	maxFloor = 360
)

// kinds are those of a host's records; the chain must hold.
func (s *served) kinds(host string) (list []audit.Kind) {
	s.t.Helper()
	var chain audit.Chain
	err := s.store.Records(context.Background(), fleet.Query{Host: host}, func(line []byte) error {
		r, err := chain.Next(line)
		if err != nil {
			return err
		}
		if len(line) > maxLine && r.Floor == nil || len(line) > maxLine+maxFloor {
			s.t.Errorf("a record of %d bytes: %s", len(line), line)
		}
		if list = append(list, r.Kind); r.Kind == audit.KindVerdict {
			_, err = audit.Replay(r, func(d audit.Digest) ([]byte, error) { return s.store.Blob(context.Background(), d) })
		}
		return err
	})
	if err != nil {
		s.t.Error(err)
	}
	return list
}

// channel is a connection of a machine: a key, and a certificate by itself.
type channel struct {
	s    *served
	cert tls.Certificate
	id   []byte
	http *http.Client
}

func (s *served) channel() *channel {
	s.t.Helper()
	key := newTestKey(s.t)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "machine"}, NotAfter: time.Now().AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err == nil {
		c, err = x509.ParseCertificate(der)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	out := &channel{s: s, cert: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: c}, id: attestapi.KeyID(c.RawSubjectPublicKeyInfo)}
	out.http = s.client(&out.cert)
	return out
}

// post sends a message; code is that of a refusal.
func (c *channel) post(path string, message, answer any) (code attest.Code) {
	c.s.t.Helper()
	status, body := c.send(path, message)
	if status == http.StatusOK {
		if err := json.Unmarshal(body, answer); err != nil {
			c.s.t.Fatal(err)
		}
		return ""
	}
	var e attestapi.Error
	if err := json.Unmarshal(body, &e); err != nil || e.Code == "" || e.Detail == "" {
		c.s.t.Fatalf("%s: status %d: %s", path, status, body)
	}
	return e.Code
}

func (c *channel) send(path string, message any) (int, []byte) {
	c.s.t.Helper()
	b, err := json.Marshal(message)
	if err != nil {
		c.s.t.Fatal(err)
	}
	resp, err := c.http.Post("https://"+c.s.address+path, "application/json", bytes.NewReader(b))
	if err != nil {
		c.s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.s.t.Fatal(err)
	}
	return resp.StatusCode, body
}

// machine is a TPM that has booted the recorded release.
type machine struct {
	t    testing.TB
	e    *tpmtest.Emulator
	tpm  *tpm.TPM
	ak   *tpm.Key
	ek   *tpm.EK
	log  []byte
	init []byte // log
}

func boot(t testing.TB, e *tpmtest.Emulator) *machine {
	t.Helper()
	m := &machine{t: t, e: e}
	m.open()
	b, err := simhost.ReadBoot(recording)
	if err != nil {
		t.Fatal(err)
	}
	m.log = b.Log
	l, err := eventlog.Parse(m.log)
	if err != nil {
		t.Fatal(err)
	}
	for i := range l.Events {
		x := &l.Events[i]
		if !x.Extends() {
			continue
		}
		digests := map[pcr.Bank]pcr.Digest{}
		for _, bank := range l.Banks {
			digests[bank] = x.Digest(bank)
		}
		m.must(m.tpm.Extend(int(x.PCR), digests))
	}
	return m
}

func (m *machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) open() {
	m.t.Helper()
	var err error
	m.tpm, err = tpm.Open(m.e.Socket)
	m.must(err)
	m.t.Cleanup(func() { m.tpm.Close() })
	m.ak, err = m.tpm.AttestationKey()
	m.must(err)
	m.ek, err = m.tpm.EndorsementKey()
	m.must(err)
}

func (m *machine) request(name string) attest.Request {
	return attest.Request{Name: name, AK: m.ak.Public, EK: m.ek.Public, EKCertificate: m.ek.Certificate}
}

func (m *machine) activate(c attestapi.Credential) ([]byte, error) {
	return m.tpm.Activate(m.ak, m.ek, tpm.Credential(c))
}

// enrol goes through the protocol; code is that of a refusal.
func (m *machine) enrol(c *channel, name string) (attest.State, attest.Code) {
	m.t.Helper()
	var offer attestapi.EnrolOffer
	if code := c.post(attestapi.EnrolPath, m.request(name), &offer); code != "" {
		return "", code
	}
	secret, err := m.activate(offer.Credential)
	m.must(err)
	var out attestapi.Enrolled
	code := c.post(attestapi.ActivatePath, attestapi.ActivateRequest{Name: name, Secret: secret}, &out)
	return out.State, code
}

// join enrols and has an operator approve.
func (m *machine) join(c *channel, name string) {
	m.t.Helper()
	state, code := m.enrol(c, name)
	if code != "" {
		m.t.Fatalf("enrol %s: %s", name, code)
	}
	if state == attest.Pending {
		c.s.act(name, ActionApprove)
	}
}

func (c *channel) ask(name string) (ch attestapi.Challenge, code attest.Code) {
	c.s.t.Helper()
	code = c.post(attestapi.ChallengePath, attestapi.ChallengeRequest{Name: name}, &ch)
	return ch, code
}

// evidence answers a challenge, as one that was made on a channel.
func (m *machine) evidence(c *channel, name string, ch attestapi.Challenge) attestapi.Evidence {
	m.t.Helper()
	extra := attest.Challenge{Nonce: ch.Nonce, ServerID: c.s.serverID, ChannelKey: c.id}.ExtraData()
	q, err := m.tpm.Quote(m.ak, extra, tpm.Want{Bank: ch.Bank, PCRs: ch.PCRs})
	m.must(err)
	return attestapi.Evidence{Name: name, Evidence: attest.Evidence{Format: attest.Format, Nonce: ch.Nonce, AK: m.ak.Public, EK: m.ek.Public,
		Quote: q.Attest, Signature: q.Signature, PCRs: q.PCRs, EventLog: m.log, InitLog: m.init}}
}

// attest is one round; code is that of a refusal of any kind.
func (m *machine) attest(c *channel, name string) (a attestapi.Answer, code attest.Code) {
	m.t.Helper()
	ch, code := c.ask(name)
	if code != "" {
		return a, code
	}
	return c.answer(m.evidence(c, name, ch))
}

func (c *channel) answer(e attestapi.Evidence) (a attestapi.Answer, code attest.Code) {
	c.s.t.Helper()
	if code = c.post(attestapi.EvidencePath, e, &a); code == "" && !a.Trusted {
		code = a.Findings[0].Code
	}
	return a, code
}

func (m *machine) banks() []pcr.Bank {
	l, err := eventlog.Parse(m.log)
	m.must(err)
	return l.Banks
}

func (m *machine) word(w string) map[pcr.Bank]pcr.Digest {
	digests := map[pcr.Bank]pcr.Digest{}
	for _, b := range m.banks() {
		digests[b] = b.Sum([]byte(w))
	}
	return digests
}

// writes makes the log of init, of words in PCR 11.
func (m *machine) writes(words ...string) {
	m.t.Helper()
	banks := m.banks()
	m.init = eventlog.AppendHeader(nil, banks...)
	for _, w := range words {
		var err error
		m.init, err = eventlog.AppendEvent(m.init, 11, eventlog.IPL, []byte(w), banks, m.word(w))
		m.must(err)
	}
}

// opens decrypts a secret of an answer.
func (m *machine) opens(s attestapi.Secret) (string, error) {
	key, err := m.activate(s.Credential)
	if err != nil {
		return "", err
	}
	block, err := aes.NewCipher(key)
	m.must(err)
	gcm, err := cipher.NewGCM(block)
	m.must(err)
	b, err := gcm.Open(nil, s.Nonce, s.Ciphertext, []byte(s.Name))
	return string(b), err
}

func parseRoots(t testing.TB, b []byte) (r attest.Roots) {
	t.Helper()
	for p, rest := pem.Decode(b); p != nil; p, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(p.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(c.RawIssuer, c.RawSubject) {
			r.Roots = append(r.Roots, c)
		} else {
			r.Intermediates = append(r.Intermediates, c)
		}
	}
	return r
}
