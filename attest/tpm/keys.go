package tpm

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// attestationLabel makes the attestation key ours: another system that makes
// one from the usual template gets another key.
const attestationLabel = "ingot attestation key 1"

// signing are the attributes of an attestation key: made by this TPM, never
// leaving it, signing nothing but what the TPM itself has made.
var signing = tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true,
	NoDA: true, Restricted: true, SignEncrypt: true}

func attestationP256() tpm2.TPMTPublic {
	label := sha256.Sum256([]byte(attestationLabel))
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: signing,
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			CurveID: tpm2.TPMECCNistP256,
			Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})},
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: label[:]}, Y: tpm2.TPM2BECCParameter{Buffer: make([]byte, 32)}}),
	}
}

func attestationRSA() tpm2.TPMTPublic {
	label := sha256.Sum256([]byte(attestationLabel))
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: signing,
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{
			KeyBits: 2048,
			Scheme: tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgRSASSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256})},
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: append(label[:], make([]byte, 224)...)}),
	}
}

// AttestationKey makes the restricted signing key that quotes: P-256, or
// RSA-2048 on a TPM without P-256. It lies in the endorsement hierarchy, whose
// quotes carry the true clock and counters: those of other hierarchies are
// obfuscated (part 1, section 36.7).
func (t *TPM) AttestationKey() (*Key, error) {
	k, err := t.primary(attestationP256())
	if unsupported(err) {
		k, err = t.primary(attestationRSA())
	}
	if err != nil {
		return nil, fmt.Errorf("make attestation key: %w", err)
	}
	return k, nil
}

// EKType is a kind of endorsement key, by its template.
type EKType string

// The kinds, by the templates of the EK Credential Profile, appendix B.
const (
	P256    EKType = "p256"    // L-2
	P384    EKType = "p384"    // H-3
	RSA2048 EKType = "rsa2048" // L-1
)

// EKTypes are all kinds, quickest first.
var EKTypes = []EKType{P256, P384, RSA2048}

// certificateIndex is the NV index of a kind's certificate (section 2.2.1.4
// and 2.2.1.5).
var certificateIndex = map[EKType]tpm2.TPMHandle{RSA2048: 0x01c00002, P256: 0x01c0000a, P384: 0x01c00016}

// policyB384 is PolicyB with SHA-384 (appendix B.6.3); the template also lets
// the key be used by its empty password.
const policyB384 = "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12"

func template(kind EKType) (tpm2.TPMTPublic, error) {
	switch kind {
	case RSA2048:
		return tpm2.RSAEKTemplate, nil
	case P256:
		return tpm2.ECCEKTemplate, nil
	case P384:
		policy, err := hex.DecodeString(policyB384)
		return tpm2.TPMTPublic{
			Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA384,
			ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true,
				UserWithAuth: true, AdminWithPolicy: true, Restricted: true, Decrypt: true},
			AuthPolicy: tpm2.TPM2BDigest{Buffer: policy},
			Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
				CurveID: tpm2.TPMECCNistP384,
				Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgAES,
					KeyBits: tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, tpm2.TPMKeyBits(256)),
					Mode:    tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB)},
			}),
			Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{}),
		}, err
	}
	return tpm2.TPMTPublic{}, fmt.Errorf("endorsement key %q is not %v", kind, EKTypes)
}

// EK is an endorsement key: the identity that the TPM's maker has certified.
type EK struct {
	Key
	Type        EKType
	Certificate []byte // DER; nil when the TPM holds none
}

// EndorsementKey makes the first kind of key that the TPM holds a certificate
// for; without any certificate, the first kind that it can make.
func (t *TPM) EndorsementKey() (*EK, error) {
	certificates := map[EKType][]byte{}
	for _, kind := range EKTypes {
		cert, err := t.Certificate(kind)
		if err != nil {
			return nil, err
		}
		if cert != nil {
			certificates[kind] = cert
		}
	}
	var last error
	for _, kind := range EKTypes {
		cert := certificates[kind]
		if len(certificates) > 0 && cert == nil {
			continue
		}
		ek, err := t.EndorsementKeyOf(kind)
		if err == nil {
			ek.Certificate = cert
			return ek, nil
		}
		if last = err; !unsupported(err) {
			break
		}
	}
	return nil, last
}

// EndorsementKeyOf makes the endorsement key of one kind, without certificate.
func (t *TPM) EndorsementKeyOf(kind EKType) (*EK, error) {
	public, err := template(kind)
	if err != nil {
		return nil, err
	}
	k, err := t.primary(public)
	if err != nil {
		return nil, fmt.Errorf("make endorsement key %s: %w", kind, err)
	}
	return &EK{Key: *k, Type: kind}, nil
}

// Certificate reads the certificate of a kind from NV; nil when there is none.
// Some makers pad it, so what follows the DER is cut off.
func (t *TPM) Certificate(kind EKType) ([]byte, error) {
	b, err := t.readNV(certificateIndex[kind])
	if err != nil || b == nil {
		return nil, err
	}
	return cutDER(b), nil
}

// cutDER gives the first DER element with a length of two bytes, which every
// certificate has; anything else is left as it is, for the verifier to refuse.
func cutDER(b []byte) []byte {
	if len(b) < 4 || b[0] != 0x30 || b[1] != 0x82 {
		return b
	}
	if n := 4 + int(b[2])<<8 + int(b[3]); n <= len(b) {
		return b[:n]
	}
	return b
}

// nvChunk is read at once; every TPM gives at least 512 bytes.
const nvChunk = 512

// readNV reads an NV index that everyone who owns the index or the owner
// hierarchy may read; nil when it is not defined.
func (t *TPM) readNV(index tpm2.TPMHandle) ([]byte, error) {
	public, err := tpm2.NVReadPublic{NVIndex: index}.Execute(t.t)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read NV index %#x: %w", uint32(index), err)
	}
	area, err := public.NVPublic.Contents()
	if err != nil {
		return nil, fmt.Errorf("read NV index %#x: %w", uint32(index), err)
	}
	who := tpm2.TPMHandle(tpm2.TPMRHOwner)
	if area.Attributes.AuthRead {
		who = index
	}
	name := tpm2.TPM2BName{}
	if who == index {
		name = public.NVName
	}
	var out []byte
	for len(out) < int(area.DataSize) {
		r, err := tpm2.NVRead{
			AuthHandle: tpm2.AuthHandle{Handle: who, Name: name, Auth: tpm2.PasswordAuth(nil)},
			NVIndex:    tpm2.NamedHandle{Handle: index, Name: public.NVName},
			Size:       uint16(min(nvChunk, int(area.DataSize)-len(out))), Offset: uint16(len(out)),
		}.Execute(t.t)
		if err != nil {
			return nil, fmt.Errorf("read NV index %#x: %w", uint32(index), err)
		}
		if len(r.Data.Buffer) == 0 {
			return nil, fmt.Errorf("read NV index %#x: %d of %d bytes", uint32(index), len(out), area.DataSize)
		}
		out = append(out, r.Data.Buffer...)
	}
	return out, nil
}
