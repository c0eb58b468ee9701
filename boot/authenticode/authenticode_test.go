package authenticode_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/boot/authenticode"
	"github.com/ingot-os/ingot/boot/pe"
	"github.com/ingot-os/ingot/boot/pkcs7"
)

func request(t *testing.T, b []byte) authenticode.Request {
	t.Helper()
	r, err := authenticode.NewRequest(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestSplitIsInline: the steps by hand give the bytes of Sign, twice.
func TestSplitIsInline(t *testing.T) {
	for name, b := range map[string][]byte{"plain": plain(), "odd length": image(13, sec{name: ".text", content: "code"})} {
		db, req := people()["db"], request(t, b)
		sig, err := pkcs7.SignMessage(db.key, db.cert, req.Message)
		if err != nil {
			t.Fatal(err)
		}
		p7, err := authenticode.Assemble(req.Digest, db.cert, sig)
		if err != nil {
			t.Fatal(err)
		}
		var split bytes.Buffer
		if err := authenticode.Attach(&split, bytes.NewReader(b), int64(len(b)), p7); err != nil {
			t.Fatal(err)
		}
		inline := sign(t, b, "db")
		if !bytes.Equal(inline, split.Bytes()) || !bytes.Equal(inline, sign(t, b, "db")) {
			t.Errorf("%s: signed inline, in steps and inline again differ", name)
		}
		if len(inline)%8 != 0 {
			t.Errorf("%s: signed image of %d bytes", name, len(inline))
		}
		if again := request(t, inline); again.Digest != req.Digest {
			t.Errorf("%s: digest %v signed, %v unsigned", name, again.Digest, req.Digest)
		}
		r, err := verify(inline, trusting("other", "db"))
		if err != nil || r.Digest != req.Digest || !r.Anchor.Equal(db.cert) || r.Expired {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

// TestGolden holds the SHA-256 of a signed image: the same on every machine, at
// any time.
func TestGolden(t *testing.T) {
	const want = "8a313f48f50a101f6601a71f6db53cadbd5b1a8c6c9ba41ac0e1808b11c2b23d"
	if got := fmt.Sprintf("%x", sha256.Sum256(sign(t, plain(), "db"))); got != want {
		t.Errorf("signed image has sha256 %s, want %s", got, want)
	}
}

// TestSigningKeepsTheDigest is why an unsigned UKI is padded: its digest in
// PCR 4 is that of the signed one.
func TestSigningKeepsTheDigest(t *testing.T) {
	b := plain()
	before, err := pe.Authenticode(bytes.NewReader(b), int64(len(b)), 5)
	if err != nil {
		t.Fatal(err)
	}
	if got := request(t, b).Digest; !bytes.Equal(got[:], before) {
		t.Errorf("digest to sign %v, of the unsigned image %x", got, before)
	}
}

func TestSeveralSignatures(t *testing.T) {
	both := sign(t, sign(t, plain(), "other"), "db")
	sigs, err := authenticode.Signatures(bytes.NewReader(both), int64(len(both)))
	if err != nil || len(sigs) != 2 || !sigs[0].Signer.Equal(people()["other"].cert) || sigs[1].Digest != request(t, plain()).Digest {
		t.Fatalf("signatures %v, %v", sigs, err)
	}
	for _, who := range []string{"db", "other"} {
		if r, err := verify(both, trusting(who)); err != nil || !r.Signer.Equal(people()[who].cert) {
			t.Errorf("trusting %s: %v", who, err)
		}
	}
	if _, err := verify(both, trusting("expired")); !errors.Is(err, authenticode.ErrUnknownKey) {
		t.Errorf("trusting another: %v", err)
	}
	trust := trusting("db")
	trust.RevokedCertificates = trusting("other").Certificates
	if _, err := verify(both, trust); !errors.Is(err, authenticode.ErrRevoked) {
		t.Errorf("one signer revoked: %v", err)
	}
}

func TestVerifyRefuses(t *testing.T) {
	signed := sign(t, plain(), "db")
	changed := func(at int) []byte { b := bytes.Clone(signed); b[at] ^= 1; return b }
	table := int(le.Uint32(signed[atSecurity:]))
	foreign := sign(t, image(0, sec{name: ".text", content: "other"}), "db")
	copy(foreign[headersSize:], plain()[headersSize:])
	trust := trusting("db")
	revoked := trusting("db")
	revoked.RevokedHashes = []authenticode.Digest{request(t, plain()).Digest}
	revokedKey := trusting("db")
	revokedKey.RevokedCertificates = revokedKey.Certificates
	for _, c := range []struct {
		name  string
		image []byte
		trust authenticode.Trust
		want  error
	}{
		{"unsigned", plain(), trust, authenticode.ErrUnsigned},
		{"section changed", changed(headersSize), trust, authenticode.ErrDigest},
		{"DOS stub changed", changed(8), trust, authenticode.ErrDigest},
		{"signature of another image", foreign, trust, authenticode.ErrDigest},
		{"signature value changed", changed(table + 8 + int(le.Uint32(signed[table:])) - 20), trust, authenticode.ErrSignature},
		{"no keys", signed, authenticode.Trust{}, authenticode.ErrUnknownKey},
		{"other key", signed, trusting("other", "issued"), authenticode.ErrUnknownKey},
		{"same key, other certificate", signed, trusting("expired"), authenticode.ErrUnknownKey},
		{"revoked hash", signed, revoked, authenticode.ErrRevoked},
		{"revoked key", signed, revokedKey, authenticode.ErrRevoked},
		{"revoked hash, unsigned", plain(), revoked, authenticode.ErrRevoked},
		{"revision", changed(table + 4), trust, authenticode.ErrMalformed},
		{"certificate type", changed(table + 6), trust, authenticode.ErrMalformed},
		{"length", changed(table + 3), trust, authenticode.ErrMalformed},
		{"version", changed(table + 8 + 25), trust, authenticode.ErrMalformed},
	} {
		if _, err := verify(c.image, c.trust); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// TestEveryByteCounts flips each byte of a signed image. CheckSum is the only
// field that nothing covers; the rest must be refused for one reason or another.
func TestEveryByteCounts(t *testing.T) {
	signed := sign(t, plain(), "db")
	trust := trusting("db")
	for i := range signed {
		for _, bit := range []byte{0x01, 0x80} {
			b := bytes.Clone(signed)
			b[i] ^= bit
			_, err := verify(b, trust)
			if free := i >= atCheckSum && i < atCheckSum+4; (err == nil) != free {
				t.Errorf("byte %#x ^ %#x: %v", i, bit, err)
			}
		}
	}
}

// TestAuthority: a certificate in db vouches for those it issued.
func TestAuthority(t *testing.T) {
	signed := sign(t, plain(), "issued")
	r, err := verify(signed, trusting("db"))
	if err != nil || !r.Anchor.Equal(people()["db"].cert) || !r.Signer.Equal(people()["issued"].cert) {
		t.Errorf("%+v, %v", r, err)
	}
	trust := trusting("issued")
	trust.RevokedCertificates = trusting("db").Certificates
	if _, err := verify(signed, trust); !errors.Is(err, authenticode.ErrRevoked) {
		t.Errorf("authority revoked: %v", err)
	}
}

// TestExpired: firmware does not look at dates, so they are said and not judged.
func TestExpired(t *testing.T) {
	signed, trust := sign(t, plain(), "expired"), trusting("expired")
	if r, err := verify(signed, trust); err != nil || r.Expired {
		t.Errorf("no date to judge at: %+v, %v", r, err)
	}
	trust.At = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	if r, err := verify(signed, trust); err != nil || !r.Expired {
		t.Errorf("five years late: %+v, %v", r, err)
	}
	trust.At = time.Date(2020, 6, 1, 0, 0, 0, 0, time.UTC)
	if r, err := verify(signed, trust); err != nil || r.Expired {
		t.Errorf("in time: %+v, %v", r, err)
	}
}

// TestSignRefuses: bad input gives a clear error and no bytes.
func TestSignRefuses(t *testing.T) {
	db, text := people()["db"], sec{name: ".text", content: "code"}
	linux := sec{name: ".linux", content: "kernel"}
	narrow := plain()
	le.PutUint32(narrow[atOptional+108:], 4)
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	small := newIdentity("small", short, nil, nil)
	for _, c := range []struct {
		name  string
		image []byte
		who   identity
		want  string
	}{
		{"empty", nil, db, "MZ"},
		{"truncated headers", plain()[:0x100], db, "SizeOfHeaders"},
		{"truncated section", plain()[:headersSize+10], db, "SizeOfRawData"},
		{"two sections of one name", image(0, text, text), db, `second section named ".text"`},
		{"two sections of one name in a UKI", image(0, linux, text, text), db, `second section named ".text"`},
		{"VirtualSize larger than the content", image(0, linux, sec{name: ".cmdline", content: "quiet", virtual: 0x900}), db, `section ".cmdline" has 0x900 bytes in memory and 0x200`},
		{"no room for a signature", narrow, db, "NumberOfRvaAndSizes"},
		{"ECDSA", plain(), people()["ecdsa"], "this is ECDSA P-256"},
		{"short RSA", plain(), small, "this is RSA of 1024 bits"},
		{"key of another certificate", plain(), identity{db.key, people()["other"].cert}, "not that of certificate"},
		{"ECDSA certificate", plain(), identity{db.key, people()["ecdsa"].cert}, "this is ECDSA P-256"},
	} {
		var out bytes.Buffer
		err := authenticode.Sign(&out, bytes.NewReader(c.image), int64(len(c.image)), c.who.key, c.who.cert)
		if err == nil || !strings.Contains(err.Error(), c.want) || out.Len() != 0 {
			t.Errorf("%s: %v and %d bytes, want %q", c.name, err, out.Len(), c.want)
		}
	}
}

// TestAttachRefuses: signatures that are not of the image, and images that
// cannot take one.
func TestAttachRefuses(t *testing.T) {
	db := people()["db"]
	p7 := func(b []byte) []byte {
		signed := sign(t, b, "db")
		sigs, err := authenticode.Signatures(bytes.NewReader(signed), int64(len(signed)))
		if err != nil {
			t.Fatal(err)
		}
		return sigs[0].PKCS7
	}
	other := image(0, sec{name: ".text", content: "other"})
	broken := sign(t, plain(), "db")
	broken[len(plain())+4] = 9 // wRevision
	for _, c := range []struct {
		name      string
		image, p7 []byte
		want      error
	}{
		{"other image", other, p7(plain()), authenticode.ErrDigest},
		{"no signature", plain(), []byte("-----BEGIN PKCS7-----"), authenticode.ErrMalformed},
		{"bytes behind", plain(), append(p7(plain()), 0), authenticode.ErrMalformed},
		{"damaged table", broken, p7(plain()), authenticode.ErrMalformed},
	} {
		var out bytes.Buffer
		if err := authenticode.Attach(&out, bytes.NewReader(c.image), int64(len(c.image)), c.p7); !errors.Is(err, c.want) || out.Len() != 0 {
			t.Errorf("%s: %v and %d bytes, want %v", c.name, err, out.Len(), c.want)
		}
	}
	if _, err := authenticode.Assemble(request(t, plain()).Digest, db.cert, make([]byte, 256)); !errors.Is(err, authenticode.ErrSignature) {
		t.Errorf("assemble with a signature of nothing: %v", err)
	}
	if err := authenticode.Attach(brokenWriter{}, bytes.NewReader(plain()), int64(len(plain())), p7(plain())); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("writer that fails: %v", err)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// FuzzVerify: whatever the table holds, reading it ends, and only the genuine
// signature is accepted.
func FuzzVerify(f *testing.F) {
	signed := sign(f, plain(), "db")
	at := len(plain())
	f.Add(signed[at:])
	f.Add(sign(f, signed, "other")[at:])
	f.Add(signed[at : at+64])
	genuine := signed[at+8:]
	trust := trusting("db")
	f.Fuzz(func(t *testing.T, table []byte) {
		b := append(bytes.Clone(signed[:at]), table...)
		le.PutUint32(b[atSecurity+4:], uint32(len(table)))
		if _, err := verify(b, trust); err == nil && !bytes.Contains(table, genuine[:900]) {
			t.Error("accepted a table without the signature")
		}
	})
}
