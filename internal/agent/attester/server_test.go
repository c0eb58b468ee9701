package attester

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/quote"
	"github.com/ingot-os/ingot/attest/tpm"
	"github.com/ingot-os/ingot/internal/attestapi"
)

// authority issues certificates for servers.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, from, to time.Time) *authority {
	t.Helper()
	a := &authority{t: t}
	a.cert, a.key = certificate(t, &x509.Certificate{Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: from, NotAfter: to}, nil)
	return a
}

// certificate signs a template, by itself without an issuer.
func certificate(t *testing.T, template *x509.Certificate, by *authority) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issuer, signer := template, key
	if by != nil {
		issuer, signer = by.cert, by.key
	}
	template.SerialNumber = big.NewInt(1)
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// server is the other side of the protocol: it enrols one host, verifies what it
// can of evidence, and does what a test tells it to.
type server struct {
	*httptest.Server
	t  *testing.T
	id []byte

	mu       sync.Mutex
	host     *attest.Record
	offered  []byte
	opened   attest.Challenge
	verdicts []attest.Verdict
	floors   []*attest.FloorProof // of the evidence
	requests []string

	pending  bool
	refuse   bool
	now      func() time.Time
	interval float64
	next     bool // answers bring the next challenge
	secrets  map[string]string
	spoil    func(*attestapi.Secret)
	hangUp   bool // closes the connection behind each answer
}

// serve starts a server for 127.0.0.1 whose certificate is valid from and to.
func serve(t *testing.T, by *authority, from, to time.Time) *server {
	t.Helper()
	cert, key := certificate(t, &x509.Certificate{Subject: pkix.Name{CommonName: "test server"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: from, NotAfter: to, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, by)
	s := &server{t: t, id: attestapi.KeyID(cert.RawSubjectPublicKeyInfo), now: time.Now, interval: 1}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.answer))
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAnyClientCert,
		Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func (s *server) refused(w http.ResponseWriter, code attest.Code, detail string) {
	w.WriteHeader(http.StatusForbidden)
	json.NewEncoder(w).Encode(attestapi.Error{Code: code, Detail: detail})
}

func (s *server) answer(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r.URL.Path)
	if s.hangUp {
		w.Header().Set("Connection", "close")
	}
	channel := attestapi.KeyID(r.TLS.PeerCertificates[0].RawSubjectPublicKeyInfo)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Error(err)
	}
	switch r.URL.Path {
	case "/base" + attestapi.EnrolPath:
		s.enrol(w, body)
	case "/base" + attestapi.ActivatePath:
		s.activate(w, body)
	case "/base" + attestapi.ChallengePath:
		switch {
		case s.host == nil:
			s.refused(w, attest.HostUnknown, "not enrolled")
		case s.pending:
			s.refused(w, attest.HostPending, "an operator must approve")
		default:
			json.NewEncoder(w).Encode(s.challenge(channel))
		}
	case "/base" + attestapi.EvidencePath:
		s.evidence(w, body, channel)
	default:
		http.NotFound(w, r)
	}
}

func (s *server) enrol(w http.ResponseWriter, body []byte) {
	var r attestapi.EnrolRequest
	if err := json.Unmarshal(body, &r); err != nil {
		s.t.Error(err)
	}
	ak, err := quote.ParsePublic(r.AK)
	if err != nil {
		s.t.Error(err)
		return
	}
	s.offered = make([]byte, 32)
	rand.Read(s.offered)
	c, err := tpm.MakeCredential(rand.Reader, r.EK, ak.Name(), s.offered)
	if err != nil {
		s.t.Error(err)
	}
	ek, err := quote.ParsePublic(r.EK)
	if err != nil {
		s.t.Error(err)
		return
	}
	s.host = &attest.Record{Name: r.Name, State: attest.Pending, AKName: ak.Name(), EKName: ek.Name()}
	json.NewEncoder(w).Encode(attestapi.EnrolOffer{Credential: attestapi.Credential(c), Expires: s.now().Add(time.Minute)})
}

func (s *server) activate(w http.ResponseWriter, body []byte) {
	var r attestapi.ActivateRequest
	if err := json.Unmarshal(body, &r); err != nil {
		s.t.Error(err)
	}
	if !bytes.Equal(r.Secret, s.offered) {
		s.refused(w, attest.EnrolSecret, "another secret")
		return
	}
	s.host.State = attest.Active
	json.NewEncoder(w).Encode(attestapi.Enrolled{Name: r.Name, State: s.host.State})
}

func (s *server) challenge(channel []byte) *attestapi.Challenge {
	nonce := make([]byte, 32)
	rand.Read(nonce)
	now := s.now()
	s.opened = attest.Challenge{Nonce: nonce, ServerID: s.id, ChannelKey: channel, Expires: now.Add(time.Minute)}
	return &attestapi.Challenge{Nonce: nonce, Bank: pcr.SHA256, PCRs: attest.DefaultPCRs, Time: now, Expires: s.opened.Expires}
}

// evidence judges as far as it goes without a reference: everything but the
// comparison with a release.
func (s *server) evidence(w http.ResponseWriter, body []byte, channel []byte) {
	var m attestapi.Evidence
	if err := json.Unmarshal(body, &m); err != nil {
		s.t.Error(err)
	}
	v := attest.Verify(attest.Case{Evidence: &m.Evidence, Record: s.host, Challenge: s.opened, Now: s.now()})
	s.verdicts, s.floors = append(s.verdicts, v), append(s.floors, m.Floor)
	a := attestapi.Answer{Interval: s.interval, Trusted: v.Reason() == attest.ReferenceNone}
	if !a.Trusted {
		a.Findings = v.Findings
	}
	if s.refuse {
		a.Trusted, a.Findings = false, []attest.Finding{{Code: attest.ImageUnknown, PCR: 11, Section: ".initrd", Detail: "another"}}
	}
	if a.Trusted {
		a.Certificate = [][]byte{[]byte("a certificate")}
		for name, value := range s.secrets {
			a.Secrets = append(a.Secrets, s.secret(m.EK, name, value))
		}
	}
	if s.next {
		a.Next = s.challenge(channel)
	}
	json.NewEncoder(w).Encode(a)
}

func (s *server) secret(ek []byte, name, value string) attestapi.Secret {
	key, nonce := make([]byte, 32), make([]byte, 12)
	rand.Read(key)
	rand.Read(nonce)
	c, err := tpm.MakeCredential(rand.Reader, ek, s.host.AKName, key)
	if err != nil {
		s.t.Error(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		s.t.Error(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		s.t.Error(err)
	}
	out := attestapi.Secret{Name: name, Credential: attestapi.Credential(c), Nonce: nonce, Ciphertext: gcm.Seal(nil, nonce, []byte(value), []byte(name))}
	if s.spoil != nil {
		s.spoil(&out)
	}
	return out
}

func (s *server) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// refuseAll knows the host, and wants nothing of it.
func refuseAll(code attest.Code, detail string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/base"+attestapi.ChallengePath {
			code, detail := attest.HostUnknown, "not enrolled"
			new(server).refused(w, code, detail)
			return
		}
		new(server).refused(w, code, detail)
	})
}

// emulator is the data socket of swtpm as if it were the kernel's device.
type emulator struct{ net.Conn }

func emulate(path string) (emulator, error) {
	c, err := net.Dial("unix", path)
	return emulator{c}, err
}

// Send implements transport.TPM.
func (e emulator) Send(command []byte) ([]byte, error) {
	if _, err := e.Write(command); err != nil {
		return nil, err
	}
	answer := make([]byte, 4096)
	n, err := e.Read(answer)
	return answer[:n], err
}
