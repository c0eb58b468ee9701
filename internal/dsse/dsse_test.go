package dsse

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"sync"
	"testing"

	reference "github.com/secure-systems-lab/go-securesystemslib/dsse"
)

const testType = "application/x-test"

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func keysOfEachKind(t testing.TB) map[string]crypto.Signer {
	t.Helper()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{"ed25519": ed, "p256": ec, "rsa": rsaKey()}
}

func signer(t testing.TB, k crypto.Signer) Signer {
	t.Helper()
	s, err := NewSigner(k)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sign(t testing.TB, payload string, keys ...crypto.Signer) []byte {
	t.Helper()
	var signers []Signer
	for _, k := range keys {
		signers = append(signers, signer(t, k))
	}
	env, err := Sign(testType, []byte(payload), signers...)
	if err != nil {
		t.Fatal(err)
	}
	return env
}

func policy(threshold int, keys ...crypto.Signer) Policy {
	p := Policy{Threshold: threshold, Types: []string{testType}}
	for _, k := range keys {
		p.Keys = append(p.Keys, k.Public())
	}
	return p
}

func TestPAE(t *testing.T) {
	for _, c := range []struct{ typ, payload, want string }{
		{"http://example.com/HelloWorld", "hello world", "DSSEv1 29 http://example.com/HelloWorld 11 hello world"}, // protocol.md
		{"", "", "DSSEv1 0  0 "},
		{"é", "a\x00b", "DSSEv1 2 é 3 a\x00b"}, // lengths count bytes
	} {
		if got := string(PAE(c.typ, []byte(c.payload))); got != c.want {
			t.Errorf("PAE(%q, %q) = %q, want %q", c.typ, c.payload, got, c.want)
		}
	}
}

// TestSpecificationVector verifies the signature that protocol.md prints. It
// has r and s side by side; the ASN.1 form is what signers write today.
func TestSpecificationVector(t *testing.T) {
	number := func(s string) *big.Int {
		n, ok := new(big.Int).SetString(s, 10)
		if !ok {
			t.Fatal(s)
		}
		return n
	}
	key := &ecdsa.PublicKey{
		Curve: elliptic.P256(),
		X:     number("46950820868899156662930047687818585632848591499744589407958293238635476079160"),
		Y:     number("5640078356564379163099075877009565129882514886557779369047442380624545832820"),
	}
	raw, err := base64.StdEncoding.DecodeString("A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA==")
	if err != nil {
		t.Fatal(err)
	}
	sig, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])})
	if err != nil {
		t.Fatal(err)
	}
	message := PAE("http://example.com/HelloWorld", []byte("hello world"))
	if !valid(key, message, sig) {
		t.Error("the signature of the specification does not verify")
	}
	message[len(message)-1] ^= 1
	if valid(key, message, sig) {
		t.Error("a changed message verifies")
	}
}

func TestSignAndVerify(t *testing.T) {
	for name, key := range keysOfEachKind(t) {
		t.Run(name, func(t *testing.T) {
			env := sign(t, "payload", key)
			got, err := Verify(env, policy(1, key))
			if err != nil {
				t.Fatal(err)
			}
			if id := signer(t, key).KeyID(); string(got.Payload) != "payload" || got.Type != testType || len(got.Signers) != 1 || got.Signers[0] != id {
				t.Errorf("got %+v, signed by %s", got, id)
			}
			if again := sign(t, "payload", key); !bytes.Equal(env, again) {
				t.Error("a second signing gives other bytes")
			}
		})
	}
}

func TestThreshold(t *testing.T) {
	k := keysOfEachKind(t)
	a, b, c := k["ed25519"], k["p256"], k["rsa"]
	for _, x := range []struct {
		name      string
		env       []byte
		threshold int
		keys      []crypto.Signer
		ok        bool
	}{
		{"two of three", sign(t, "p", a, b), 2, []crypto.Signer{a, b, c}, true},
		{"one of two demanded", sign(t, "p", a), 2, []crypto.Signer{a, b}, false},
		{"one key twice in the envelope", sign(t, "p", a, a), 2, []crypto.Signer{a, b}, false},
		{"only foreign keys", sign(t, "p", c), 1, []crypto.Signer{a, b}, false},
		{"foreign and own", sign(t, "p", c, a), 1, []crypto.Signer{a, b}, true},
		{"one key twice in the policy", sign(t, "p", a, a), 2, []crypto.Signer{a, a}, false},
		{"threshold 0", sign(t, "p", a), 0, []crypto.Signer{a}, false},
		{"no keys", sign(t, "p", a), 1, nil, false},
	} {
		_, err := Verify(x.env, policy(x.threshold, x.keys...))
		if (err == nil) != x.ok {
			t.Errorf("%s: error %v, want ok %v", x.name, err, x.ok)
		}
	}
	if _, err := Verify(sign(t, "p", c), policy(1, a)); !errors.Is(err, ErrUntrusted) {
		t.Errorf("foreign key: %v, want ErrUntrusted", err)
	}
}

// TestKeyIDIsAHint: an attacker's key id neither makes a signature count nor
// stops a good one.
func TestKeyIDIsAHint(t *testing.T) {
	k := keysOfEachKind(t)
	good, evil := k["ed25519"], k["p256"]
	e, err := Parse(sign(t, "p", evil))
	if err != nil {
		t.Fatal(err)
	}
	e.Signatures[0].KeyID = signer(t, good).KeyID()
	data, _ := e.Marshal()
	if _, err := Verify(data, policy(1, good)); !errors.Is(err, ErrUntrusted) {
		t.Errorf("borrowed key id: %v, want ErrUntrusted", err)
	}
	if e, err = Parse(sign(t, "p", good)); err != nil {
		t.Fatal(err)
	}
	e.Signatures[0].KeyID = "other"
	data, _ = e.Marshal()
	if _, err := Verify(data, policy(1, good)); err != nil {
		t.Errorf("wrong hint: %v", err)
	}
}

func TestVerifyRefusesChanges(t *testing.T) {
	key := keysOfEachKind(t)["ed25519"]
	env := sign(t, "payload", key)
	if _, err := Verify(env, Policy{Keys: policy(1, key).Keys, Threshold: 1, Types: []string{TypeInToto}}); err == nil || !strings.Contains(err.Error(), "payload type") {
		t.Errorf("other payload type: %v", err)
	}
	for i := range env {
		bad := bytes.Clone(env)
		bad[i] ^= 1
		got, err := Verify(bad, policy(1, key))
		if err == nil && (string(got.Payload) != "payload" || got.Type != testType) {
			t.Fatalf("byte %d changed: accepted %q", i, got.Payload)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	long := strings.Repeat("x", 300)
	for name, text := range map[string]string{
		"nothing":          ``,
		"no object":        `[]`,
		"no payload":       `{"payloadType":"t","signatures":[{"sig":""}]}`,
		"no type":          `{"payload":"","signatures":[{"sig":""}]}`,
		"empty type":       `{"payload":"","payloadType":"","signatures":[{"sig":""}]}`,
		"long type":        `{"payload":"","payloadType":"` + long + `","signatures":[{"sig":""}]}`,
		"no signatures":    `{"payload":"","payloadType":"t","signatures":[]}`,
		"no sig":           `{"payload":"","payloadType":"t","signatures":[{"keyid":"a"}]}`,
		"long key id":      `{"payload":"","payloadType":"t","signatures":[{"sig":"","keyid":"` + long + `"}]}`,
		"long sig":         `{"payload":"","payloadType":"t","signatures":[{"sig":"` + strings.Repeat("AAAA", 400) + `"}]}`,
		"many signatures":  `{"payload":"","payloadType":"t","signatures":[` + strings.Repeat(`{"sig":""},`, 100) + `{"sig":""}]}`,
		"bad base64":       `{"payload":"%","payloadType":"t","signatures":[{"sig":""}]}`,
		"later revision":   `{"version":2,"payload":"","payloadType":"t","signatures":[{"sig":""}]}`,
		"something behind": `{"payload":"","payloadType":"t","signatures":[{"sig":""}]} {}`,
	} {
		var fe *FormatError
		if _, err := Parse([]byte(text)); !errors.As(err, &fe) {
			t.Errorf("%s: %v, want a FormatError", name, err)
		}
	}
	if _, err := Parse(make([]byte, MaxEnvelope+1)); err == nil {
		t.Error("an envelope above the limit is read")
	}
}

func TestURLBase64(t *testing.T) {
	e, err := Parse([]byte(`{"payload":"_-8=","payloadType":"t","signatures":[{"sig":"-_8="}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(e.Payload, []byte{0xff, 0xef}) || !bytes.Equal(e.Signatures[0].Sig, []byte{0xfb, 0xff}) {
		t.Errorf("got % x and % x", e.Payload, e.Signatures[0].Sig)
	}
}

func TestAttach(t *testing.T) {
	k := keysOfEachKind(t)
	inline := sign(t, "p", k["ed25519"], k["rsa"])
	e, err := Parse(sign(t, "p", k["ed25519"]))
	if err != nil {
		t.Fatal(err)
	}
	sig, err := signer(t, k["rsa"]).Sign(e.Message())
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Attach(k["p256"].Public(), sig); !errors.Is(err, ErrUntrusted) {
		t.Errorf("signature of another key: %v, want ErrUntrusted", err)
	}
	for range 2 {
		if err := e.Attach(k["rsa"].Public(), sig); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := e.Marshal(); !bytes.Equal(got, inline) {
		t.Error("attaching gives other bytes than signing inline")
	}
}

func TestKeysThatAreRefused(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weak := &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 1023), E: 65537}
	for _, k := range []crypto.PublicKey{nil, "key", &p384.PublicKey, weak, ed25519.PublicKey{1}, (*rsa.PublicKey)(nil), (*ecdsa.PublicKey)(nil)} {
		if id, err := KeyID(k); err == nil {
			t.Errorf("KeyID(%T) = %s, want an error", k, id)
		}
	}
	if _, err := NewSigner(p384); err == nil {
		t.Error("a P-384 signer is accepted")
	}
}

// referenceKey lets the reference implementation use one of our keys.
type referenceKey struct {
	Signer
	public crypto.PublicKey
}

func (k referenceKey) KeyID() (string, error)   { return k.Signer.KeyID(), nil }
func (k referenceKey) Public() crypto.PublicKey { return k.public }
func (k referenceKey) Sign(_ context.Context, message []byte) ([]byte, error) {
	return k.Signer.Sign(message)
}
func (k referenceKey) Verify(_ context.Context, message, sig []byte) error {
	if !valid(k.public, message, sig) {
		return errors.New("invalid")
	}
	return nil
}

func TestAgreesWithReference(t *testing.T) {
	for name, key := range keysOfEachKind(t) {
		k := referenceKey{signer(t, key), key.Public()}
		theirs, err := reference.NewEnvelopeVerifier(k)
		if err != nil {
			t.Fatal(err)
		}
		var env reference.Envelope
		if err := json.Unmarshal(sign(t, "payload", key), &env); err != nil {
			t.Fatal(err)
		}
		if _, body, err := theirs.VerifyAndDecode(t.Context(), &env); err != nil || string(body) != "payload" {
			t.Errorf("%s: the reference reads %q, %v", name, body, err)
		}
		s, err := reference.NewEnvelopeSigner(k)
		if err != nil {
			t.Fatal(err)
		}
		made, err := s.SignPayload(t.Context(), testType, []byte("payload"))
		if err != nil {
			t.Fatal(err)
		}
		data, _ := json.Marshal(made)
		if _, err := Verify(data, policy(1, key)); err != nil {
			t.Errorf("%s: the reference's envelope: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"payload":"aGVsbG8=","payloadType":"t","signatures":[{"keyid":"a","sig":"AAAA"}]}`))
	f.Add([]byte(`{"payload":"_-8=","payloadType":"t","signatures":[{"sig":"-_8="}]}`))
	f.Add([]byte(`{"payload":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := Parse(data)
		if err != nil {
			return
		}
		out, err := e.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(out)
		if err != nil || again.Type != strings.ToValidUTF8(e.Type, "\ufffd") || !bytes.Equal(again.Payload, e.Payload) {
			t.Fatalf("read %+v again as %+v: %v", e, again, err)
		}
	})
}
