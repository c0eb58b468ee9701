package crypt

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ingot-os/ingot/attest/tpm"
	"github.com/ingot-os/ingot/internal/agent/volume"
	"github.com/ingot-os/ingot/partition/luks"
)

// A recovery key is 200 random bits, as eight groups of five: no guessing, so
// no slow derivation either, and something that a person can read out. The
// letters i, l, o and u are left out. It is the passphrase of slot 1 as it is
// written here, so cryptsetup takes it elsewhere.
const (
	keyBytes  = 25
	keyGroup  = 5
	keyLength = 40 // without the dashes
)

var keyAlphabet = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// NewKey makes a recovery key.
func NewKey(random io.Reader) (string, error) {
	b := make([]byte, keyBytes)
	if _, err := io.ReadFull(random, b); err != nil {
		return "", fmt.Errorf("make recovery key: %w", err)
	}
	return grouped(keyAlphabet.EncodeToString(b)), nil
}

func grouped(s string) string {
	var groups []string
	for ; len(s) > 0; s = s[keyGroup:] {
		groups = append(groups, s[:keyGroup])
	}
	return strings.Join(groups, "-")
}

// ParseKey reads what a person has typed: in upper or lower case, with or
// without dashes and spaces, with the letters that look like digits.
func ParseKey(typed string) (string, error) {
	plain := strings.NewReplacer("-", "", " ", "", "\t", "", "o", "0", "i", "1", "l", "1").Replace(strings.ToLower(strings.TrimSpace(typed)))
	if len(plain) != keyLength {
		return "", fmt.Errorf("parse recovery key: %d letters and digits, want %d", len(plain), keyLength)
	}
	if _, err := keyAlphabet.DecodeString(plain); err != nil {
		return "", errors.New("parse recovery key: it has a letter that no recovery key has")
	}
	return grouped(plain), nil
}

// byPerson opens slot 1 with a typed key, and then seals slot 0 anew so that
// the next boot needs nobody; not for a release below the floor, which would
// lower it for good. cause is why the TPM did not.
func byPerson(ctx context.Context, r volume.Request, d luks.Device, h *luks.Header, cause error) (unlocked, error) {
	for {
		typed, err := r.Ask(ctx, cause)
		if err != nil {
			return unlocked{}, cause // nobody there
		}
		text, err := ParseKey(typed)
		if err == nil {
			var key []byte
			if key, err = h.Unlock(d, slotRecovery, []byte(text)); err == nil {
				u := unlocked{key: key, header: h, by: volume.ByRecovery}
				if u.warning = cause; !below(cause) {
					u.floor, u.warning = sealAnew(ctx, r, d, h, key)
				}
				return u, nil
			}
		}
		r.Logf("data: %v", err)
	}
}

func below(cause error) bool {
	var e *volume.Error
	return errors.As(cause, &e) && e.Code == volume.BelowFloor
}

// sealAnew gives slot 0 a new passphrase that this TPM gives to this release.
// A cut in it leaves a volume that opens by the recovery key.
func sealAnew(ctx context.Context, r volume.Request, d luks.Device, h *luks.Header, key []byte) (int, error) {
	m, err := openMachine(ctx, r)
	if err != nil {
		return 0, err
	}
	defer m.Close()
	secret, t, err := m.first(r)
	if err != nil {
		return 0, err
	}
	defer clear(secret)
	if err := h.SetSlot(d, rand.Reader, slotTPM, luks.Slot{Passphrase: secret}, key); err != nil {
		return 0, fail(volume.Failed, err)
	}
	if err := t.put(h); err != nil {
		return 0, fail(volume.Failed, err)
	}
	return r.Epoch, fail(volume.Failed, h.Store(d))
}

// first makes a passphrase and seals it for the running release: at its epoch,
// where the counter stands now. It asks the TPM for it once: what does not open
// now would not open after the next start.
func (m *machine) first(r volume.Request) ([]byte, token, error) {
	if err := r.OwnSecureBoot(); err != nil {
		return nil, token{}, fail(volume.SecureBoot, err)
	}
	f, err := m.signatures(r)
	if err != nil {
		return nil, token{}, err
	}
	s, ok := f.Find(m.approved(), r.Epoch)
	if !ok {
		return nil, token{}, fail(volume.Unsigned, fmt.Errorf("the signatures of the release are for epoch %d at most, it has %d", f.Epoch(m.approved()), r.Epoch))
	}
	if m.lost != nil {
		if m.counter, err = m.DefineCounter(tpm.FloorIndex); err != nil {
			return nil, token{}, fail(volume.NoTPM, err)
		}
		m.lost = nil
	}
	secret := make([]byte, 32)
	rand.Read(secret) // never fails
	b, err := m.seal(secret, s, m.counter.Value)
	if err != nil {
		return nil, token{}, fail(volume.NoTPM, err)
	}
	again, _, err := m.unseal(r, newToken(m, r.Epoch, b))
	clear(again)
	if err != nil {
		return nil, token{}, fmt.Errorf("try the sealed key (%s): %w", s.Ref, err)
	}
	return secret, newToken(m, r.Epoch, b), nil
}
