package tpm

import (
	"fmt"
	"io"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// Credential is a secret that one TPM alone can read, and only while it has
// loaded the attestation key that the secret was made for.
type Credential struct {
	Blob   []byte // TPMS_ID_OBJECT
	Secret []byte // the seed, encrypted to the endorsement key
}

// MakeCredential encrypts a secret to an endorsement key (TPMT_PUBLIC) and the
// name of an attestation key, as TPM2_MakeCredential does; it needs no TPM. The
// name must be computed from the attestation key's public area
// (quote.Public.Name), never be taken from whoever asks.
func MakeCredential(random io.Reader, ekPublic, akName, secret []byte) (Credential, error) {
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](ekPublic)
	if err != nil {
		return Credential{}, fmt.Errorf("make credential: endorsement key: %w", err)
	}
	key, err := tpm2.ImportEncapsulationKey(public)
	if err != nil {
		return Credential{}, fmt.Errorf("make credential: endorsement key: %w", err)
	}
	blob, seed, err := tpm2.CreateCredential(random, key, akName, secret)
	if err != nil {
		return Credential{}, fmt.Errorf("make credential: %w", err)
	}
	return Credential{blob, seed}, nil
}

// Activate gives the secret of a credential that was made for these two keys.
func (t *TPM) Activate(ak *Key, ek *EK, c Credential) ([]byte, error) {
	auth := tpm2.Session(tpm2.PasswordAuth(nil))
	if ek.Type != P384 { // the low range's templates know only PolicySecret(endorsement)
		auth = tpm2.Policy(tpm2.TPMAlgSHA256, 16, func(t transport.TPM, session tpm2.TPMISHPolicy, nonce tpm2.TPM2BNonce) error {
			_, err := tpm2.PolicySecret{
				AuthHandle:    tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)},
				PolicySession: session, NonceTPM: nonce,
			}.Execute(t)
			return err
		})
	}
	r, err := tpm2.ActivateCredential{
		ActivateHandle: tpm2.AuthHandle{Handle: ak.handle, Name: ak.name, Auth: tpm2.PasswordAuth(nil)},
		KeyHandle:      tpm2.AuthHandle{Handle: ek.handle, Name: ek.name, Auth: auth},
		CredentialBlob: tpm2.TPM2BIDObject{Buffer: c.Blob},
		Secret:         tpm2.TPM2BEncryptedSecret{Buffer: c.Secret},
	}.Execute(t.t)
	if err != nil {
		return nil, fmt.Errorf("activate credential: %w", err)
	}
	return r.CertInfo.Buffer, nil
}
