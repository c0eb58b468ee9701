// Package simhost imitates machines for measurements: keys of a TPM in
// software, quotes over the log of a recorded boot. Nothing that such a host
// says proves anything; a server sees no difference.
//
// Limits: keys on P-256, quotes by SHA-256; the TPM's clock is counted up by
// one second for each quote. A Host is for one goroutine.
//
// Shape of use:
//
//	boot, err := simhost.ReadBoot("attest/testdata/boot-257-secureboot.json")
//	h, err := simhost.New("host-1", boot)
//	request := h.Request()
//	secret, err := h.Activate(blob, seed)
//	evidence, err := h.Evidence(challenge, pcr.SHA256, attest.DefaultPCRs)
package simhost

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/quote"
)

// Host is an imitated machine.
type Host struct {
	Name  string
	Boot  *Boot
	Clock quote.Clock // of the TPM at its last quote

	ak       *ecdsa.PrivateKey
	ek       *ecdh.PrivateKey
	akPublic []byte // TPMT_PUBLIC
	ekPublic []byte
	akName   []byte

	ekCertificate []byte // nil: no maker vouches
}

// New makes a host with keys of its own, and a clock that was just started.
func New(name string, boot *Boot) (*Host, error) {
	h := &Host{Name: name, Boot: boot, Clock: quote.Clock{Millis: 60_000, ResetCount: 1, Safe: true}}
	var err error
	if h.ak, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	if h.ek, err = ecdh.P256().GenerateKey(rand.Reader); err != nil {
		return nil, err
	}
	point, err := h.ak.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	h.akPublic = tpm2.Marshal(attestationKey(point))
	ek := tpm2.ECCEKTemplate // of the TCG, low range
	ek.Unique = unique(h.ek.PublicKey().Bytes())
	h.ekPublic = tpm2.Marshal(ek)
	key, err := quote.ParsePublic(h.akPublic)
	if err != nil {
		return nil, err
	}
	h.akName = key.Name()
	return h, nil
}

// attestationKey is the public area of a key that signs quotes only.
func attestationKey(point []byte) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true,
			NoDA: true, Restricted: true, SignEncrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256,
			Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})}}),
		Unique: unique(point),
	}
}

// unique takes an uncompressed point.
func unique(point []byte) tpm2.TPMUPublicID {
	return tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
		X: tpm2.TPM2BECCParameter{Buffer: point[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: point[33:]}})
}

// Request asks for the host's name, with a certificate if a Maker has given one.
func (h *Host) Request() attest.Request {
	return attest.Request{Name: h.Name, AK: h.akPublic, EK: h.ekPublic, EKCertificate: h.ekCertificate}
}

// Record is what a server keeps after the enrolment.
func (h *Host) Record() *attest.Record {
	ek, _ := quote.ParsePublic(h.ekPublic) // made above
	return &attest.Record{Name: h.Name, State: attest.Active, AKName: h.akName, EKName: ek.Name()}
}

// Activate gives the secret of a credential for this host's keys, as
// TPM2_ActivateCredential does (Library specification part 1, section 24).
func (h *Host) Activate(blob, seed []byte) ([]byte, error) {
	point, err := tpm2.Unmarshal[tpm2.TPMSECCPoint](seed)
	if err != nil {
		return nil, fmt.Errorf("activate credential: %w", err)
	}
	ephemeral, err := ecdh.P256().NewPublicKey(slices.Concat([]byte{4}, point.X.Buffer, point.Y.Buffer))
	if err != nil {
		return nil, fmt.Errorf("activate credential: %w", err)
	}
	z, err := h.ek.ECDH(ephemeral)
	if err != nil {
		return nil, fmt.Errorf("activate credential: %w", err)
	}
	shared := tpm2.KDFe(crypto.SHA256, z, "IDENTITY", point.X.Buffer, h.ek.PublicKey().Bytes()[1:33], 256)
	return h.open(blob, shared)
}

// open checks and decrypts a TPMS_ID_OBJECT.
func (h *Host) open(blob, seed []byte) ([]byte, error) {
	if len(blob) < 2+sha256.Size+2 || blob[0] != 0 || blob[1] != sha256.Size {
		return nil, errors.New("activate credential: not a TPMS_ID_OBJECT with a SHA-256")
	}
	integrity, identity := blob[2:2+sha256.Size], blob[2+sha256.Size:]
	mac := hmac.New(sha256.New, tpm2.KDFa(crypto.SHA256, seed, "INTEGRITY", nil, nil, 256))
	mac.Write(identity)
	mac.Write(h.akName)
	if !hmac.Equal(mac.Sum(nil), integrity) {
		return nil, errors.New("activate credential: not for these keys")
	}
	block, err := aes.NewCipher(tpm2.KDFa(crypto.SHA256, seed, "STORAGE", h.akName, nil, 128))
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(identity))
	//lint:ignore SA1019 CFB is what the TPM specification says
	cipher.NewCFBDecrypter(block, make([]byte, aes.BlockSize)).XORKeyStream(plain, identity)
	secret, err := tpm2.Unmarshal[tpm2.TPM2BDigest](plain)
	if err != nil {
		return nil, fmt.Errorf("activate credential: %w", err)
	}
	return secret.Buffer, nil
}

// Evidence answers a challenge with a quote over registers of one bank.
func (h *Host) Evidence(c attest.Challenge, bank pcr.Bank, registers []int) (*attest.Evidence, error) {
	h.Clock.Millis += 1000
	e := &attest.Evidence{Format: attest.Format, Nonce: c.Nonce, AK: h.akPublic, EK: h.ekPublic, EventLog: h.Boot.Log, Clock: h.Clock,
		PCRs: map[pcr.Bank]map[int]pcr.Digest{bank: {}}, Firmware: "simulated"}
	digest, mask := sha256.New(), make([]byte, 3)
	for _, i := range slices.Sorted(slices.Values(registers)) {
		value := h.Boot.Values[bank][i]
		if value == nil {
			return nil, fmt.Errorf("quote: the boot has no PCR %d of %s", i, bank)
		}
		e.PCRs[bank][i] = value
		digest.Write(value)
		mask[i/8] |= 1 << (i % 8)
	}
	e.Quote = tpm2.Marshal(tpm2.TPMSAttest{
		Magic: tpm2.TPMGeneratedValue, Type: tpm2.TPMSTAttestQuote, QualifiedSigner: tpm2.TPM2BName{Buffer: h.akName},
		ExtraData: tpm2.TPM2BData{Buffer: c.ExtraData()}, FirmwareVersion: 1,
		ClockInfo: tpm2.TPMSClockInfo{Clock: h.Clock.Millis, ResetCount: h.Clock.ResetCount, RestartCount: h.Clock.RestartCount, Safe: h.Clock.Safe},
		Attested: tpm2.NewTPMUAttest(tpm2.TPMSTAttestQuote, &tpm2.TPMSQuoteInfo{
			PCRSelect: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgID(bank), PCRSelect: mask}}},
			PCRDigest: tpm2.TPM2BDigest{Buffer: digest.Sum(nil)}}),
	})
	var err error
	e.Signature, err = h.sign(e.Quote)
	return e, err
}

func (h *Host) sign(attested []byte) ([]byte, error) {
	sum := sha256.Sum256(attested)
	r, s, err := ecdsa.Sign(rand.Reader, h.ak, sum[:])
	if err != nil {
		return nil, err
	}
	return tpm2.Marshal(tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgECDSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA,
		&tpm2.TPMSSignatureECC{Hash: tpm2.TPMAlgSHA256, SignatureR: tpm2.TPM2BECCParameter{Buffer: r.FillBytes(make([]byte, 32))},
			SignatureS: tpm2.TPM2BECCParameter{Buffer: s.FillBytes(make([]byte, 32))}})}), nil
}
