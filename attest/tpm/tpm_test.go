package tpm

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/quote"
)

func mustKey(t testing.TB, e *emulator) *Key {
	t.Helper()
	k, err := e.AttestationKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestAttestationKey: the key is restricted, the parser and the TPM agree about
// its name, and the next start gives the same key.
func TestAttestationKey(t *testing.T) {
	e := blank(t)
	k := mustKey(t, e)
	p, err := quote.ParsePublic(k.Public)
	if err != nil {
		t.Fatal(err)
	}
	want := quote.FixedTPM | quote.FixedParent | quote.SensitiveDataOrigin | quote.Restricted | quote.Sign
	if !p.Attributes.Has(want) || p.Attributes.Has(quote.Decrypt) {
		t.Errorf("attributes %#x", p.Attributes)
	}
	if _, ok := p.Key.(*ecdsa.PublicKey); !ok {
		t.Errorf("a %T", p.Key)
	}
	if got, want := p.Name(), k.Name(); !bytes.Equal(got, want) {
		t.Errorf("name %x, the TPM says %x", got, want)
	}
	e.kill()
	if again := mustKey(t, start(t, e.dir)); !bytes.Equal(again.Public, k.Public) {
		t.Error("another key after a restart")
	}
}

// without is a TPM where each CreatePrimary of a P-256 key fails.
type without struct {
	*TPM
	refused int
}

func (w *without) Send(command []byte) ([]byte, error) {
	const create = "\x00\x00\x01\x31" // TPM_CC_CreatePrimary
	curve := []byte{0, 0x03, 0, 0x10} // TPM_ECC_NIST_P256, then kdf NULL
	if string(command[6:10]) == create && bytes.Contains(command, curve) {
		w.refused++
		rc := uint32(tpm2.TPMRCCurve) | 0x2c0 // of parameter 2
		return []byte{0x80, 1, 0, 0, 0, 10, byte(rc >> 24), byte(rc >> 16), byte(rc >> 8), byte(rc)}, nil
	}
	return w.t.Send(command)
}

// TestRSAFallback: without P-256 the key is RSA-2048, and its quotes verify.
func TestRSAFallback(t *testing.T) {
	e := blank(t)
	w := &without{TPM: e.TPM}
	k, err := (&TPM{w}).AttestationKey()
	if err != nil || w.refused != 1 {
		t.Fatal(err, w.refused)
	}
	checkQuote(t, e, k)
	p, _ := quote.ParsePublic(k.Public)
	if _, ok := p.Key.(*rsa.PublicKey); !ok || !bytes.Equal(p.Name(), k.Name()) {
		t.Errorf("%T with the name %x, the TPM says %x", p.Key, p.Name(), k.Name())
	}
}

func TestQuote(t *testing.T) {
	e := blank(t)
	checkQuote(t, e, mustKey(t, e))
}

// checkQuote quotes two banks and reads it back by our parser.
func checkQuote(t *testing.T, e *emulator, k *Key) {
	t.Helper()
	d := pcr.SHA256.Sum([]byte("an event"))
	if err := e.Extend(11, map[pcr.Bank]pcr.Digest{pcr.SHA256: d, pcr.SHA384: pcr.SHA384.Sum(nil)}); err != nil {
		t.Fatal(err)
	}
	extra := random(t, 32)
	got, err := e.Quote(k, extra, Want{pcr.SHA256, []int{0, 4, 7, 11, 23}}, Want{pcr.SHA384, []int{11, 17}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := quote.ParsePublic(k.Public)
	if err != nil {
		t.Fatal(err)
	}
	s, err := quote.ParseSignature(got.Signature)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Verify(got.Attest, s); err != nil {
		t.Fatal(err)
	}
	q, err := quote.Parse(got.Attest)
	if err != nil {
		t.Fatal(err)
	}
	clock, err := e.Clock()
	if err != nil {
		t.Fatal(err)
	}
	if q.Clock.ResetCount != clock.ResetCount || q.Clock.Millis > clock.Millis || q.Clock.RestartCount != clock.RestartCount {
		t.Errorf("the quote says %+v, the TPM %+v: an obfuscated clock", q.Clock, clock)
	}
	if !bytes.Equal(q.ExtraData, extra) || len(q.Selections) != 2 || q.Selections[0].Mask != 1|1<<4|1<<7|1<<11|1<<23 {
		t.Errorf("%+v", q)
	}
	model := pcr.Start(pcr.SHA256, 0)
	model.Extend(11, d)
	if !bytes.Equal(model.Value(11), got.PCRs[pcr.SHA256][11]) || len(got.PCRs[pcr.SHA256]) != 5 || len(got.PCRs[pcr.SHA384][17]) != 48 {
		t.Errorf("%v", got.PCRs)
	}
	flipped := bytes.Clone(got.Attest)
	flipped[20] ^= 1
	if err := p.Verify(flipped, s); !errors.Is(err, quote.ErrSignature) {
		t.Errorf("a flipped bit: %v", err)
	}
}

// extending extends PCR 11 behind the back of the reader, n times, each time
// before a quote.
type extending struct {
	*TPM
	n int
}

func (x *extending) Send(command []byte) ([]byte, error) {
	const quoteCode = "\x00\x00\x01\x58" // TPM_CC_Quote
	if string(command[6:10]) == quoteCode && x.n > 0 {
		x.n--
		if err := x.Extend(11, map[pcr.Bank]pcr.Digest{pcr.SHA256: pcr.SHA256.Sum(nil)}); err != nil {
			return nil, err
		}
	}
	return x.t.Send(command)
}

// TestExtendedInBetween (P18): a register that changes between reading and
// quote is read again; one that never stops is an error.
func TestExtendedInBetween(t *testing.T) {
	e := blank(t)
	k := mustKey(t, e)
	x := &extending{e.TPM, 2}
	got, err := (&TPM{x}).Quote(k, nil, Want{pcr.SHA256, []int{11}})
	if err != nil || x.n != 0 {
		t.Fatal(err)
	}
	now, err := e.PCRs(pcr.SHA256, 11)
	if err != nil || !bytes.Equal(now[11], got.PCRs[pcr.SHA256][11]) {
		t.Errorf("values of before: %v", err)
	}
	x.n = attempts
	if _, err := (&TPM{x}).Quote(k, nil, Want{pcr.SHA256, []int{11}}); !errors.Is(err, ErrChanging) {
		t.Errorf("got %v", err)
	}
}

func TestPCRs(t *testing.T) {
	e := blank(t)
	var all []int
	for i := range pcr.Count {
		all = append(all, i)
	}
	for _, bank := range []pcr.Bank{pcr.SHA1, pcr.SHA256, pcr.SHA384, pcr.SHA512} {
		got, err := e.PCRs(bank, all...)
		if err != nil {
			t.Fatal(err)
		}
		want := pcr.Start(bank, 0)
		for i := range pcr.Count {
			if !bytes.Equal(got[i], want.Value(i)) {
				t.Errorf("%s PCR %d: %s", bank, i, got[i])
			}
		}
	}
	if _, err := e.PCRs(pcr.SHA256, 24); err == nil {
		t.Error("PCR 24 was read")
	}
	banks, err := e.Banks()
	if err != nil || len(banks) != 4 {
		t.Errorf("%v, %v", banks, err)
	}
}

// TestCredential: each kind of endorsement key gives the secret back to its own
// attestation key, and to no other name.
func TestCredential(t *testing.T) {
	e := blank(t)
	ak := mustKey(t, e)
	for _, kind := range EKTypes {
		t.Run(string(kind), func(t *testing.T) {
			ek, err := e.EndorsementKeyOf(kind)
			if err != nil {
				t.Fatal(err)
			}
			defer e.Flush(&ek.Key)
			p, err := quote.ParsePublic(ek.Public)
			if err != nil || !bytes.Equal(p.Name(), ek.Name()) {
				t.Fatalf("%v, or another name", err)
			}
			secret := random(t, 32)
			c, err := MakeCredential(rand.Reader, ek.Public, ak.Name(), secret)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := e.Activate(ak, ek, c); err != nil || !bytes.Equal(got, secret) {
				t.Errorf("%x, %v", got, err)
			}
			other := bytes.Clone(ak.Name())
			other[5] ^= 1
			if c, err = MakeCredential(rand.Reader, ek.Public, other, secret); err != nil {
				t.Fatal(err)
			}
			if _, err := e.Activate(ak, ek, c); err == nil {
				t.Error("a credential for another key was opened")
			}
		})
	}
	if _, err := MakeCredential(rand.Reader, []byte{1}, ak.Name(), nil); err == nil {
		t.Error("no public area, and no error")
	}
}

// TestMakeCredentialOracle: what tpm2_makecredential makes is what Activate
// opens.
func TestMakeCredentialOracle(t *testing.T) {
	program := tool(t, "tpm2_makecredential", "tpm2-tools")
	e := blank(t)
	ak := mustKey(t, e)
	ek, err := e.EndorsementKeyOf(RSA2048)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	secret := random(t, 20)
	public := append([]byte{byte(len(ek.Public) >> 8), byte(len(ek.Public))}, ek.Public...) // TPM2B_PUBLIC
	writeFile(t, path("ek.pub"), public)
	writeFile(t, path("secret"), secret)
	run(t, program, "-T", "none", "-u", path("ek.pub"), "-s", path("secret"), "-n", hexText(ak.Name()), "-o", path("out"))
	b, err := os.ReadFile(path("out"))
	if err != nil {
		t.Fatal(err)
	}
	b = b[8:] // the tool's own magic and version
	n := int(b[0])<<8 | int(b[1])
	c := Credential{Blob: b[2 : 2+n], Secret: b[2+n+2:]}
	if got, err := e.Activate(ak, ek, c); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("%x, %v", got, err)
	}
}

// TestCheckQuoteOracle: tpm2_checkquote takes our quote and refuses it for
// another nonce.
func TestCheckQuoteOracle(t *testing.T) {
	program := tool(t, "tpm2_checkquote", "tpm2-tools")
	e := blank(t)
	ak := mustKey(t, e)
	nonce := random(t, 32)
	q, err := e.Quote(ak, nonce, Want{pcr.SHA256, []int{0, 4, 11}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := quote.ParsePublic(ak.Public)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(p.Key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	writeFile(t, path("ak.pem"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	writeFile(t, path("msg"), q.Attest)
	writeFile(t, path("sig"), q.Signature)
	args := []string{"-u", path("ak.pem"), "-m", path("msg"), "-s", path("sig"), "-g", "sha256", "-q"}
	run(t, program, append(args, hexText(nonce))...)
	if err := command(program, append(args, hexText(random(t, 32)))...).Run(); err == nil {
		t.Error("the tool takes another nonce")
	}
}

// TestCertificates: the certificates that swtpm's local authority writes are
// found, and are those of the keys.
func TestCertificates(t *testing.T) {
	e, _ := certified(t)
	for _, kind := range []EKType{RSA2048, P384} {
		ek, err := e.EndorsementKeyOf(kind)
		if err != nil {
			t.Fatal(err)
		}
		der, err := e.Certificate(kind)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		p, err := quote.ParsePublic(ek.Public)
		if err != nil {
			t.Fatal(err)
		}
		if !p.Same(cert) {
			t.Errorf("%s: the certificate is about another key", kind)
		}
		e.Flush(&ek.Key)
	}
	ek, err := e.EndorsementKey()
	if err != nil || ek.Type != P384 || ek.Certificate == nil {
		t.Errorf("%+v, %v", ek, err)
	}
	if der, err := e.Certificate(P256); der != nil || err != nil {
		t.Errorf("a certificate that is not there: %v", err)
	}
}

// TestNoCertificate: a TPM without certificates has a P-256 key.
func TestNoCertificate(t *testing.T) {
	ek, err := blank(t).EndorsementKey()
	if err != nil || ek.Type != P256 || ek.Certificate != nil {
		t.Errorf("%+v, %v", ek, err)
	}
}

// TestPowerCut: after a kill the TPM counts a reset, and says that its clock
// may have gone back.
func TestPowerCut(t *testing.T) {
	e := blank(t)
	before, err := e.Clock()
	if err != nil {
		t.Fatal(err)
	}
	e.kill()
	after, err := start(t, e.dir).Clock()
	if err != nil {
		t.Fatal(err)
	}
	if after.ResetCount <= before.ResetCount || after.RestartCount != 0 || after.Safe {
		t.Errorf("%+v, then %+v", before, after)
	}
}

func TestOpenMissing(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "tpm")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestCutDER(t *testing.T) {
	cert := append([]byte{0x30, 0x82, 0, 3}, 1, 2, 3)
	if got := cutDER(append(bytes.Clone(cert), 0xff, 0xff)); !bytes.Equal(got, cert) {
		t.Errorf("%x", got)
	}
	for _, b := range [][]byte{nil, {1}, {0x30, 0x82, 0xff, 0xff, 0}} {
		if got := cutDER(b); !bytes.Equal(got, b) {
			t.Errorf("%x became %x", b, got)
		}
	}
}
