package policy

import (
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
)

// Sign makes the file of a release of a security epoch: each of the approved
// digests, as Digest.PCR gives them for values of Register, signed for every
// floor from 0 to the epoch, in this order. The signer is an RSA key that signs
// by PKCS #1 v1.5, so the same input gives the same bytes; random is handed to
// it and may be nil for a key in memory.
func Sign(random io.Reader, signer crypto.Signer, epoch int, approved ...Digest) (File, error) {
	spki, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return File{}, fmt.Errorf("sign policies: %w", err)
	}
	f := File{Format: Format, PCR: Register, Bank: "sha256", Key: spki}
	for _, d := range approved {
		for floor := range epoch + 1 {
			sum := Approval(d, Ref(floor))
			sig, err := signer.Sign(random, sum[:], crypto.SHA256)
			if err != nil {
				return File{}, fmt.Errorf("sign policies: %w", err)
			}
			f.Policies = append(f.Policies, Signed{hex.EncodeToString(d[:]), floor, Ref(floor), sig})
		}
	}
	if err := f.check(); err != nil {
		return File{}, fmt.Errorf("sign policies: %w", err)
	}
	if err := f.Verify(spki); err != nil { // a key of another kind, a broken token
		return File{}, fmt.Errorf("sign policies: %w", err)
	}
	return f, nil
}

// Bytes is the file as it is written: JSON, indented, with a line break at its
// end.
func (f File) Bytes() ([]byte, error) {
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write policy signatures: %w", err)
	}
	return append(b, '\n'), nil
}
