package crypt

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/ingot-os/ingot/attest/policy"
	"github.com/ingot-os/ingot/attest/tpm"
	"github.com/ingot-os/ingot/partition/luks"
)

// Key slots of the volume.
const (
	slotTPM      = 0
	slotRecovery = 1
)

// tokenType is the type of our token in the volume's header.
const tokenType = "ingot-tpm2"

// maxBlobs bounds a token: the blob that opens now, the one of the next floor and
// the one of the floor after it.
const maxBlobs = 3

// token is what the header says about the sealed passphrase of slot 0.
type token struct {
	Type     string   `json:"type"`
	Keyslots []string `json:"keyslots"`
	Version  int      `json:"version"`
	Counter  uint32   `json:"counter"`     // NV index
	Base     int64    `json:"base,string"` // floor = counter - base
	Storage  string   `json:"storageKey"`  // hex name of the TPM's storage key; this and the next two are for messages, not for the policy
	PCR7     string   `json:"pcr7"`        // hex; for the message, not for the policy
	Policy   string   `json:"policyKey"`   // hex name of the policy key
	Blobs    []blob   `json:"blobs"`       // newest first
}

// blob is the passphrase, sealed at a floor.
type blob struct {
	Floor int    `json:"floor"`
	Limit uint64 `json:"limit,string"` // of the counter
	tpm.Blob
	// PCR11 is what the register held when the blob was made, and Approved says
	// that this was a release at or above the floor.
	PCR11    string        `json:"pcr11"` // hex
	Approved policy.Signed `json:"approved"`
}

// maker gives the registers that the blob must have been made with: PCR 11 of
// a release, by its signature, and the same PCR 7 as now.
func (b blob) maker(key []byte, pcr7 [32]byte) (policy.Values, error) {
	raw, err := hex.DecodeString(b.PCR11)
	if err != nil || len(raw) != 32 {
		return nil, fmt.Errorf("%w: pcr11 %.70q", tpm.ErrMade, b.PCR11)
	}
	v := policy.Values{7: pcr7, policy.Register: [32]byte(raw)}
	d, err := b.Approved.Policy()
	if err != nil || d != (policy.Digest{}).PCR(policy.Values{policy.Register: v[policy.Register]}) {
		return nil, fmt.Errorf("%w: its signature is for another PCR 11", tpm.ErrMade)
	}
	if b.Approved.Floor != b.Floor || b.Approved.Ref != policy.Ref(b.Floor) {
		return nil, fmt.Errorf("%w: its signature is for floor %d, not %d", tpm.ErrMade, b.Approved.Floor, b.Floor)
	}
	if err := (policy.File{Policies: []policy.Signed{b.Approved}}).Verify(key); err != nil {
		return nil, fmt.Errorf("%w: %w", tpm.ErrMade, err)
	}
	return v, nil
}

// readToken finds our token and looks whether it can be what we wrote. Nothing
// in it is trusted: floor, limit and policy key are the TPM's to check, by the
// policy; PCR11 and Approved are blob.maker's; the rest is for messages.
func readToken(h *luks.Header) (token, error) {
	_, raw := h.Token(tokenType)
	if raw == nil {
		return token{}, fmt.Errorf("the volume has no token of type %s: this system did not make it", tokenType)
	}
	var t token
	if err := json.Unmarshal(raw, &t); err != nil {
		return t, fmt.Errorf("parse token: %w", err)
	}
	switch {
	case t.Version != 1:
		return t, fmt.Errorf("parse token: version %d, this system reads 1", t.Version)
	case t.Counter != tpm.FloorIndex:
		return t, fmt.Errorf("parse token: counter %#x, this system uses %#x", t.Counter, tpm.FloorIndex)
	case len(t.Blobs) == 0 || len(t.Blobs) > maxBlobs:
		return t, fmt.Errorf("parse token: %d blobs", len(t.Blobs))
	}
	for i, b := range t.Blobs {
		if b.Floor < 0 || b.Floor > policy.MaxEpoch || b.Limit != t.limit(b.Floor) {
			return t, fmt.Errorf("parse token: blobs[%d]: floor %d, limit %d", i, b.Floor, b.Limit)
		}
	}
	return t, nil
}

// limit is the counter's highest value at a floor.
func (t token) limit(floor int) uint64 { return uint64(t.Base + int64(floor)) }

// floor is what a value of the counter means.
func (t token) floor(value uint64) int64 { return int64(value) - t.Base }

// put writes the token into the header, in memory.
func (t token) put(h *luks.Header) error {
	raw, err := json.Marshal(t)
	if err != nil {
		return err
	}
	id, old := h.Token(tokenType)
	if old == nil {
		id = "0"
	}
	h.SetToken(id, raw)
	return nil
}

// newToken describes a volume that is sealed for the first time, or anew.
func newToken(m *machine, floor int, blobs ...blob) token {
	pcr7 := m.values[7]
	return token{Type: tokenType, Keyslots: []string{strconv.Itoa(slotTPM)}, Version: 1, Counter: tpm.FloorIndex,
		Base: int64(m.counter.Value) - int64(floor), Storage: hex.EncodeToString(m.parent.Name()), PCR7: hex.EncodeToString(pcr7[:]), Policy: hex.EncodeToString(m.policy.Name), Blobs: blobs}
}

var errNoBlob = errors.New("no sealed key is for this release")
