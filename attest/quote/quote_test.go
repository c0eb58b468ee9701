package quote

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/ingot-os/ingot/attest/pcr"
)

// structure is a TPMS_ATTEST as go-tpm writes it.
func structure() tpm2.TPMSAttest {
	return tpm2.TPMSAttest{
		Magic: tpm2.TPMGeneratedValue, Type: tpm2.TPMSTAttestQuote,
		QualifiedSigner: tpm2.TPM2BName{Buffer: []byte("signer")}, ExtraData: tpm2.TPM2BData{Buffer: []byte("extra")},
		ClockInfo: tpm2.TPMSClockInfo{Clock: 1 << 40, ResetCount: 7, RestartCount: 2, Safe: true}, FirmwareVersion: 3,
		Attested: tpm2.NewTPMUAttest(tpm2.TPMSTAttestQuote, &tpm2.TPMSQuoteInfo{
			PCRSelect: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: []byte{0x11, 8, 0x80}}}},
			PCRDigest: tpm2.TPM2BDigest{Buffer: []byte("digest")},
		}),
	}
}

func TestParse(t *testing.T) {
	q, err := Parse(tpm2.Marshal(structure()))
	if err != nil {
		t.Fatal(err)
	}
	if string(q.Signer) != "signer" || string(q.ExtraData) != "extra" || string(q.Digest) != "digest" || q.FirmwareVersion != 3 {
		t.Errorf("%+v", q)
	}
	if want := (Clock{1 << 40, 7, 2, true}); q.Clock != want {
		t.Errorf("%+v, want %+v", q.Clock, want)
	}
	s := q.Selections[0]
	if s.Bank != pcr.SHA256 || s.Mask != 0x800811 || !s.Has(11) || s.Has(1) || s.Has(-1) || s.Has(40) {
		t.Errorf("%+v", s)
	}
}

func TestParseRefuses(t *testing.T) {
	good := tpm2.Marshal(structure())
	for n := range good {
		if _, err := Parse(good[:n]); err == nil {
			t.Errorf("the first %d bytes are a quote", n)
		}
	}
	for name, c := range map[string]struct {
		edit func(b []byte) []byte
		kind error
		off  int
	}{
		"magic":    {func(b []byte) []byte { b[0] = 0; return b }, ErrMagic, 0},
		"type":     {func(b []byte) []byte { b[5] = 0x17; return b }, ErrType, 4},
		"trailing": {func(b []byte) []byte { return append(b, 0) }, ErrTrailing, len(good)},
		"safe":     {func(b []byte) []byte { b[bytes.Index(b, []byte{0, 0, 0, 2, 1})+4] = 2; return b }, nil, 37},
		"banks":    {func(b []byte) []byte { b[bytes.Index(b, []byte{0, 0, 0, 1, 0, 11})+3] = 17; return b }, nil, 46},
		"select":   {func(b []byte) []byte { b[bytes.Index(b, []byte{0, 11, 3})+2] = 5; return b }, nil, 52},
	} {
		_, err := Parse(c.edit(bytes.Clone(good)))
		var f *FormatError
		if !errors.As(err, &f) || c.kind != nil && !errors.Is(err, c.kind) || f.Off != c.off {
			t.Errorf("%s: %v", name, err)
		}
	}
	twice := structure()
	info, _ := twice.Attested.Quote()
	info.PCRSelect.PCRSelections = append(info.PCRSelect.PCRSelections, info.PCRSelect.PCRSelections[0])
	if _, err := Parse(tpm2.Marshal(twice)); err == nil {
		t.Error("one bank selected twice")
	}
}

func eccPublic(key *ecdsa.PublicKey) tpm2.TPMTPublic {
	size := (key.Curve.Params().BitSize + 7) / 8
	curve := map[int]tpm2.TPMECCCurve{32: tpm2.TPMECCNistP256, 48: tpm2.TPMECCNistP384}[size]
	point, err := key.Bytes() // 4, X, Y: SEC 1, section 2.3.3
	if err != nil {
		panic(err)
	}
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, Restricted: true, SignEncrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: curve,
			Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})}}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: point[1 : 1+size]},
			Y: tpm2.TPM2BECCParameter{Buffer: point[1+size:]}}),
	}
}

func rsaPublic(key *rsa.PublicKey) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA384,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, Restricted: true, SignEncrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: tpm2.TPMIRSAKeyBits(key.N.BitLen()),
			Scheme: tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgRSASSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256})}}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: key.N.Bytes()}),
	}
}

// TestPublic: keys and names are those that go-tpm finds.
func TestPublic(t *testing.T) {
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	r2048, _ := rsa.GenerateKey(rand.Reader, 2048)
	for _, public := range []tpm2.TPMTPublic{eccPublic(&p256.PublicKey), eccPublic(&p384.PublicKey), rsaPublic(&r2048.PublicKey)} {
		b := tpm2.Marshal(public)
		p, err := ParsePublic(b)
		if err != nil {
			t.Fatal(err)
		}
		name, err := tpm2.ObjectName(&public)
		if err != nil || !bytes.Equal(name.Buffer, p.Name()) {
			t.Errorf("name %x, go-tpm says %x (%v)", p.Name(), name.Buffer, err)
		}
		switch key := p.Key.(type) {
		case *ecdsa.PublicKey:
			if !key.Equal(&p256.PublicKey) && !key.Equal(&p384.PublicKey) {
				t.Error("another key")
			}
		case *rsa.PublicKey:
			if !key.Equal(&r2048.PublicKey) {
				t.Error("another key")
			}
		}
		for n := range b {
			if _, err := ParsePublic(b[:n]); err == nil {
				t.Errorf("the first %d bytes are a key", n)
			}
		}
		if _, err := ParsePublic(append(bytes.Clone(b), 0)); !errors.Is(err, ErrTrailing) {
			t.Errorf("a byte more: %v", err)
		}
	}
}

func TestPublicRefuses(t *testing.T) {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	good := tpm2.Marshal(eccPublic(&key.PublicKey))
	off := bytes.Clone(good)
	off[len(off)-1] ^= 1
	sha := bytes.Clone(good)
	sha[3] = 4
	for name, b := range map[string][]byte{"a point off the curve": off, "names by SHA-1": sha} {
		if _, err := ParsePublic(b); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParsePublic(tpm2.Marshal(rsaPublic(&small.PublicKey))); err == nil {
		t.Error("RSA-1024 was taken")
	}
}

func signature(alg tpm2.TPMAlgID, hash tpm2.TPMAlgID, r, s []byte) []byte {
	if alg == tpm2.TPMAlgRSASSA {
		return tpm2.Marshal(tpm2.TPMTSignature{SigAlg: alg, Signature: tpm2.NewTPMUSignature(alg,
			&tpm2.TPMSSignatureRSA{Hash: hash, Sig: tpm2.TPM2BPublicKeyRSA{Buffer: r}})})
	}
	return tpm2.Marshal(tpm2.TPMTSignature{SigAlg: alg, Signature: tpm2.NewTPMUSignature(alg, &tpm2.TPMSSignatureECC{Hash: hash,
		SignatureR: tpm2.TPM2BECCParameter{Buffer: r}, SignatureS: tpm2.TPM2BECCParameter{Buffer: s}})})
}

func TestVerify(t *testing.T) {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	message := []byte("message")
	digest, weak := sha256.Sum256(message), sha1.Sum(message)
	r, s, _ := ecdsa.Sign(rand.Reader, key, digest[:])
	wr, ws, _ := ecdsa.Sign(rand.Reader, key, weak[:])
	p, err := ParsePublic(tpm2.Marshal(eccPublic(&key.PublicKey)))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		sig  []byte
		want error
	}{
		"good":         {signature(tpm2.TPMAlgECDSA, tpm2.TPMAlgSHA256, r.Bytes(), s.Bytes()), nil},
		"s = 0":        {signature(tpm2.TPMAlgECDSA, tpm2.TPMAlgSHA256, r.Bytes(), nil), ErrSignature},
		"r = 0, s = 0": {signature(tpm2.TPMAlgECDSA, tpm2.TPMAlgSHA256, make([]byte, 32), make([]byte, 32)), ErrSignature},
		"SHA-1":        {signature(tpm2.TPMAlgECDSA, tpm2.TPMAlgSHA1, wr.Bytes(), ws.Bytes()), ErrWeakHash},
		"other hash":   {signature(tpm2.TPMAlgECDSA, tpm2.TPMAlgSHA384, r.Bytes(), s.Bytes()), ErrSignature},
		"other scheme": {signature(tpm2.TPMAlgRSASSA, tpm2.TPMAlgSHA256, r.Bytes(), nil), ErrSignature},
	} {
		parsed, err := ParseSignature(c.sig)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := p.Verify(message, parsed); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
	good := signature(tpm2.TPMAlgECDSA, tpm2.TPMAlgSHA256, r.Bytes(), s.Bytes())
	for _, b := range [][]byte{nil, good[:10], append(bytes.Clone(good), 0), {0, 0x16, 0, 0xb, 0, 0}} {
		if _, err := ParseSignature(b); err == nil {
			t.Errorf("%x is a signature", b)
		}
	}
}

func FuzzParse(f *testing.F) {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	f.Add(tpm2.Marshal(structure()))
	f.Add(tpm2.Marshal(eccPublic(&key.PublicKey)))
	f.Add(signature(tpm2.TPMAlgECDSA, tpm2.TPMAlgSHA256, []byte{1}, []byte{2}))
	f.Fuzz(func(t *testing.T, b []byte) {
		// go-tpm reads leniently in places, so only what we take is compared.
		if q, err := Parse(b); err == nil {
			theirs, err := tpm2.Unmarshal[tpm2.TPMSAttest](b)
			if err != nil || !bytes.Equal(theirs.ExtraData.Buffer, q.ExtraData) || theirs.ClockInfo.ResetCount != q.Clock.ResetCount {
				t.Errorf("go-tpm reads %+v (%v), we %+v", theirs, err, q)
			}
		}
		p, err := ParsePublic(b)
		if err == nil {
			p.Name()
		}
		if s, err := ParseSignature(b); err == nil && p != nil {
			p.Verify(b, s)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	in := tpm2.Marshal(structure())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(in); err != nil {
			b.Fatal(err)
		}
	}
}

// certified is a TPMS_ATTEST about an NV counter, as go-tpm writes it.
func certified() tpm2.TPMSAttest {
	a := structure()
	a.Type = tpm2.TPMSTAttestNV
	a.Attested = tpm2.NewTPMUAttest(a.Type, &tpm2.TPMSNVCertifyInfo{IndexName: tpm2.TPM2BName{Buffer: []byte("index")}, Offset: 0x0102,
		NVContents: tpm2.TPM2BData{Buffer: []byte("contents")}})
	return a
}

func TestParseNV(t *testing.T) {
	good := tpm2.Marshal(certified())
	v, err := ParseNV(good)
	if err != nil {
		t.Fatal(err)
	}
	if string(v.Index) != "index" || string(v.Contents) != "contents" || v.Offset != 0x0102 || string(v.ExtraData) != "extra" || v.Clock != (Clock{1 << 40, 7, 2, true}) || v.FirmwareVersion != 3 {
		t.Errorf("%+v", v)
	}
	for n := range good {
		if _, err := ParseNV(good[:n]); err == nil {
			t.Errorf("the first %d bytes are a certification", n)
		}
	}
	for name, c := range map[string]struct {
		edit func(b []byte) []byte
		kind error
		off  int
	}{
		"magic":    {func(b []byte) []byte { b[0] = 0; return b }, ErrMagic, 0},
		"quote":    {func([]byte) []byte { return tpm2.Marshal(structure()) }, ErrType, 4},
		"digest":   {func(b []byte) []byte { b[5] = 0x1c; return b }, ErrType, 4},
		"trailing": {func(b []byte) []byte { return append(b, 0) }, ErrTrailing, len(good)},
		"name":     {func(b []byte) []byte { b[bytes.Index(b, []byte("index"))-1] = 67; return b }, nil, bytes.Index(good, []byte("index")) - 2},
		"contents": {func(b []byte) []byte { b[bytes.Index(b, []byte("contents"))-2] = 9; return b }, nil, bytes.Index(good, []byte("contents")) - 2},
	} {
		_, err := ParseNV(c.edit(bytes.Clone(good)))
		var f *FormatError
		if !errors.As(err, &f) || c.kind != nil && !errors.Is(err, c.kind) || f.Off != c.off {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Parse(good); !errors.Is(err, ErrType) {
		t.Errorf("a certification is a quote: %v", err)
	}
}

func FuzzParseNV(f *testing.F) {
	f.Add(tpm2.Marshal(certified()))
	f.Add(tpm2.Marshal(structure()))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := ParseNV(b)
		if err != nil {
			return
		}
		if _, err := Parse(b); err == nil {
			t.Error("a quote, too")
		}
		theirs, err := tpm2.Unmarshal[tpm2.TPMSAttest](b)
		if err != nil {
			t.Fatalf("go-tpm does not read it: %v", err)
		}
		info, err := theirs.Attested.NV()
		if err != nil || !bytes.Equal(info.IndexName.Buffer, v.Index) || !bytes.Equal(info.NVContents.Buffer, v.Contents) || info.Offset != v.Offset || !bytes.Equal(theirs.ExtraData.Buffer, v.ExtraData) {
			t.Errorf("go-tpm reads %+v (%v), we %+v", theirs, err, v)
		}
	})
}
