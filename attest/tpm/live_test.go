package tpm

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/eventlog"
	"github.com/ingot-os/ingot/attest/pcr"
)

// bootLog is the log of a recorded boot of an image of ingot's.
func bootLog(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile("../testdata/boot-257.json")
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		Log []byte `json:"log"`
	}
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	return r.Log
}

// boot extends what the recorded boot has measured, as its firmware did.
func (e *emulator) boot(t *testing.T) []byte {
	t.Helper()
	log := bootLog(t)
	l, err := eventlog.Parse(log)
	if err != nil {
		t.Fatal(err)
	}
	for i := range l.Events {
		x := &l.Events[i]
		if !x.Extends() {
			continue
		}
		digests := map[pcr.Bank]pcr.Digest{}
		for _, b := range l.Banks {
			digests[b] = x.Digest(b)
		}
		if err := e.Extend(int(x.PCR), digests); err != nil {
			t.Fatal(err)
		}
	}
	return log
}

// release is a reference that expects the recorded programs and sections.
func release(t *testing.T) attest.Reference {
	t.Helper()
	l, err := eventlog.Parse(bootLog(t))
	if err != nil {
		t.Fatal(err)
	}
	p := attest.Path{Boot: "disk", Empty: []int{12}}
	for i := range l.Events {
		if x := &l.Events[i]; slices.Contains([]uint32{4, 5, 9, 11}, x.PCR) {
			p.Events = append(p.Events, attest.Expected{PCR: int(x.PCR), Type: x.Type, Name: x.Text(),
				Digests: map[pcr.Bank]pcr.Digest{pcr.SHA256: x.Digest(pcr.SHA256), pcr.SHA384: x.Digest(pcr.SHA384)}})
		}
	}
	return attest.Reference{Name: "hello", Version: "1", Paths: []attest.Path{p}}
}

// collect is the machine's side: evidence for a challenge.
func (e *emulator) collect(t *testing.T, ak *Key, log []byte, c attest.Challenge) *attest.Evidence {
	t.Helper()
	q, err := e.Quote(ak, c.ExtraData(), Want{pcr.SHA256, attest.DefaultPCRs}, Want{pcr.SHA384, attest.DefaultPCRs})
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(attest.Evidence{Format: attest.Format, Nonce: c.Nonce, AK: ak.Public, Quote: q.Attest, Signature: q.Signature, PCRs: q.PCRs, EventLog: log})
	if err != nil {
		t.Fatal(err)
	}
	out, err := attest.ParseEvidence(b)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func pemCertificates(t *testing.T, b []byte) (roots, intermediates []*x509.Certificate) {
	t.Helper()
	for len(b) > 0 {
		var p *pem.Block
		if p, b = pem.Decode(b); p == nil {
			break
		}
		c, err := x509.ParseCertificate(p.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if roots == nil {
			roots = append(roots, c)
		} else {
			intermediates = append(intermediates, c)
		}
	}
	return roots, intermediates
}

// enrolled goes through the protocol of enrolment.
func enrolled(t *testing.T, e *emulator, h *attest.Rules, name string) (*Key, attest.Host) {
	t.Helper()
	ak := mustKey(t, e)
	ek, err := e.EndorsementKey()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Flush(&ek.Key)
	secret := random(t, 32)
	o, err := h.Begin(attest.Request{Name: name, AK: ak.Public, EK: ek.Public, EKCertificate: ek.Certificate}, attest.Known{}, nil, secret, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c, err := MakeCredential(rand.Reader, o.EK, o.AKName, secret)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := e.Activate(ak, ek, c)
	if err != nil {
		t.Fatal(err)
	}
	host, err := o.Finish(attest.Known{}, nil, answer, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return ak, host
}

// TestProtocol is the whole of it on a TPM with certificates: enrolment, a
// genuine boot, a power cut, a foreign TPM, a stale nonce.
func TestProtocol(t *testing.T) {
	e, pems := certified(t)
	var h attest.Rules
	h.RequireChain = true
	h.Roots.Roots, h.Roots.Intermediates = pemCertificates(t, pems)
	ak, host := enrolled(t, e, &h, "a")
	if host.Record.State != attest.Active || !host.Record.Chained {
		t.Fatalf("%+v", host.Record)
	}
	refs := []attest.Reference{release(t)}
	judge := func(e *emulator, ak *Key, log []byte, wait time.Duration) attest.Verdict {
		t.Helper()
		c, ok := attest.NewChallenge(random(t, 32), []byte("server"), []byte("channel"), time.Now())
		if !ok {
			t.Fatal("no challenge")
		}
		v := attest.Verify(attest.Case{Evidence: e.collect(t, ak, log, c), References: refs, Record: &host.Record,
			LastSeen: host.LastSeen, Challenge: c, Now: time.Now().Add(wait)})
		if v.Proven() {
			host.Judged(&v)
		}
		return v
	}
	log := e.boot(t)
	if v := judge(e, ak, log, 0); !v.Trusted || v.Compared != 5 || v.Slot != "a" {
		t.Fatalf("genuine: %+v", v)
	}
	if v := judge(e, ak, log, attest.Lifetime+time.Second); v.Reason() != attest.NonceExpired {
		t.Errorf("late: %+v", v)
	}
	if err := e.Extend(4, map[pcr.Bank]pcr.Digest{pcr.SHA256: pcr.SHA256.Sum([]byte("evil")), pcr.SHA384: pcr.SHA384.Sum(nil)}); err != nil {
		t.Fatal(err)
	}
	if v := judge(e, ak, log, 0); v.Reason() != attest.LogReplay {
		t.Errorf("an image that is not in the log: %+v", v)
	}
	e.kill()
	again := start(t, e.dir)
	ak = mustKey(t, again)
	log = again.boot(t)
	if v := judge(again, ak, log, 0); !v.Trusted || len(v.Notes) != 1 || v.Notes[0].Code != attest.ClockUnsafe {
		t.Errorf("after a power cut: %+v", v)
	}
	foreign := blank(t)
	foreign.boot(t)
	if v := judge(foreign, mustKey(t, foreign), log, 0); v.Reason() != attest.AKKey {
		t.Errorf("P09: another TPM: %+v", v)
	}
}

// TestUnknownMaker is P01 on a TPM: without the root of its authority a host
// waits for an operator, or is refused.
func TestUnknownMaker(t *testing.T) {
	e, _ := certified(t)
	var h attest.Rules
	if _, host := enrolled(t, e, &h, "a"); host.Record.State != attest.Pending {
		t.Errorf("%+v", host.Record)
	}
}

// TestForeignCertificate is P02 on a TPM: the certificate of the RSA key beside
// the P-384 key.
func TestForeignCertificate(t *testing.T) {
	e, pems := certified(t)
	var h attest.Rules
	h.Roots.Roots, h.Roots.Intermediates = pemCertificates(t, pems)
	cert, err := e.Certificate(RSA2048)
	if err != nil {
		t.Fatal(err)
	}
	ek, err := e.EndorsementKeyOf(P384)
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.Begin(attest.Request{Name: "a", AK: mustKey(t, e).Public, EK: ek.Public, EKCertificate: cert}, attest.Known{}, nil, random(t, 32), time.Now())
	var refused *attest.EnrolError
	if !errors.As(err, &refused) || refused.Code != attest.EKCertificate {
		t.Errorf("got %v", err)
	}
}
