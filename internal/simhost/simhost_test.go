package simhost

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/quote"
	"github.com/ingot-os/ingot/attest/tpm"
)

const recording = "../../attest/testdata/boot-257-secureboot.json"

func boots(t testing.TB) (as, server *Boot) {
	t.Helper()
	as, err := ReadBoot(recording)
	if err != nil {
		t.Fatal(err)
	}
	if server, err = as.Server(); err != nil {
		t.Fatal(err)
	}
	return as, server
}

// TestCredential: what the server encrypts comes back, and not from another host.
func TestCredential(t *testing.T) {
	boot, _ := boots(t)
	h, err := New("host-1", boot)
	if err != nil {
		t.Fatal(err)
	}
	other, err := New("host-2", boot)
	if err != nil {
		t.Fatal(err)
	}
	ak, err := quote.ParsePublic(h.Request().AK)
	if err != nil {
		t.Fatal(err)
	}
	secret := bytes.Repeat([]byte{7}, 32)
	c, err := tpm.MakeCredential(rand.Reader, h.Request().EK, ak.Name(), secret)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := h.Activate(c.Blob, c.Secret); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("got %x, %v", got, err)
	}
	if got, err := other.Activate(c.Blob, c.Secret); err == nil {
		t.Errorf("another host reads %x", got)
	}
}

// TestCertified: a server that trusts the maker enrols the host at once.
func TestCertified(t *testing.T) {
	boot, _ := boots(t)
	h, err := New("host-1", boot)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	m, err := NewMaker(now)
	if err == nil {
		err = m.Certify(h, now)
	}
	if err != nil {
		t.Fatal(err)
	}
	ek, err := quote.ParsePublic(h.Request().EK)
	if err != nil {
		t.Fatal(err)
	}
	roots := attest.Roots{Roots: []*x509.Certificate{m.Root}}
	if c, err := roots.Chain(h.Request().EKCertificate, ek, now); err != nil || !c.Chained {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestTrusted: the imitated boots are those that the recorded image's reference
// describes; both firmwares are real enough for every check.
func TestTrusted(t *testing.T) {
	b, err := os.ReadFile("../../attest/testdata/reference-257.json")
	if err != nil {
		t.Fatal(err)
	}
	var ref attest.Reference
	if err := json.Unmarshal(b, &ref); err != nil {
		t.Fatal(err)
	}
	as, server := boots(t)
	if n, events := len(server.Log), server.Events(); n < 33_500 || n > 34_500 || events != 83 {
		t.Errorf("the log of the server has %d bytes, %d events", n, events)
	}
	path := slices.IndexFunc(ref.Paths, func(p attest.Path) bool { return p.Boot == "pxe" && p.SecureBoot })
	other, err := server.Of(ref.Paths[path])
	if err != nil {
		t.Fatal(err)
	}
	for _, boot := range []*Boot{as, server, other} {
		h, err := New("host", boot)
		if err != nil {
			t.Fatal(err)
		}
		c := attest.Challenge{Nonce: []byte("a nonce of this test"), ChannelKey: []byte("channel")}
		e, err := h.Evidence(c, pcr.SHA256, attest.DefaultPCRs)
		if err != nil {
			t.Fatal(err)
		}
		v := attest.Verify(attest.Case{Evidence: e, References: []attest.Reference{ref}, Record: h.Record(), Challenge: c, Now: time.Unix(0, 0),
			Policy: attest.Policy{SecureBoot: true, Keys: []attest.Keys{boot.Keys()}}})
		if !v.Trusted || v.Compared != 6 || !v.SecureBoot {
			t.Errorf("%+v", v)
		}
	}
}
