package evidence

import (
	"encoding/hex"
	"fmt"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/quote"
)

// Summary is what identifies evidence. Nothing of it is verified.
type Summary struct {
	Nonce       string `json:"nonce"`        // hex
	AK          string `json:"ak"`           // name of the attestation key, hex
	EK          string `json:"ek,omitempty"` // name of the endorsement key, hex: the TPM's fingerprint
	Certificate bool   `json:"ekCertificate"`
	Firmware    string `json:"firmware,omitempty"`
}

// Summarize computes the names of the keys.
func Summarize(e *attest.Evidence) (Summary, error) {
	s := Summary{Nonce: hex.EncodeToString(e.Nonce), Certificate: len(e.EKCertificate) > 0, Firmware: e.Firmware}
	ak, err := quote.ParsePublic(e.AK)
	if err != nil {
		return s, fmt.Errorf("attestation key: %w", err)
	}
	s.AK = hex.EncodeToString(ak.Name())
	if len(e.EK) == 0 {
		return s, nil
	}
	ek, err := quote.ParsePublic(e.EK)
	if err != nil {
		return s, fmt.Errorf("endorsement key: %w", err)
	}
	s.EK = hex.EncodeToString(ek.Name())
	return s, nil
}
