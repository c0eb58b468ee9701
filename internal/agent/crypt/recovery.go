package crypt

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/ingot-os/ingot/attest/policy"
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

// How long a boot is held up by somebody who types: attempts, and in all.
const (
	maxTries = 5
	askLimit = 10 * time.Minute
)

// byPerson opens slot 1 with a typed key, and then seals slot 0 anew, so that
// the next boot needs nobody, where keepsFloor allows it. cause is why the TPM
// did not open it, and what the caller gets when no key was typed.
func byPerson(ctx context.Context, r volume.Request, d luks.Device, h *luks.Header, cause error) (unlocked, error) {
	ctx, stop := context.WithTimeout(ctx, askLimit)
	defer stop()
	for range maxTries {
		typed, err := r.Ask(ctx, cause)
		if err != nil || ctx.Err() != nil {
			return unlocked{}, cause // nobody there
		}
		text, err := ParseKey(typed)
		if err != nil {
			continue // an empty line, a slip
		}
		key, err := h.Unlock(d, slotRecovery, []byte(text))
		if err == nil {
			return recovered(ctx, r, d, h, key, cause), nil
		}
	}
	r.Logf("data: %d lines were typed, none was the recovery key", maxTries)
	return unlocked{}, cause
}

// recovered is a volume that the recovery key has opened.
func recovered(ctx context.Context, r volume.Request, d luks.Device, h *luks.Header, key []byte, cause error) unlocked {
	u := unlocked{key: key, header: h, by: volume.ByRecovery}
	m, err := openMachine(ctx, r)
	if err != nil {
		u.warning = err
		return u
	}
	defer m.Close()
	if !m.keepsFloor(r, h, cause) {
		u.warning = cause
		return u
	}
	if u.warning = m.sealAnew(r, d, h, key); u.warning == nil {
		u.floor, u.sealed = r.Epoch, true
	}
	return u
}

// keepsFloor says whether sealing anew for this release cannot lower the floor:
// it makes the release's epoch the floor, wherever the counter stands. Without
// a counter there is no floor any more. With one the volume's base says what it
// means, and who holds the disk could write another base there, or put a header
// from before the floor was raised beside an old release. So a base counts only
// when this TPM has sealed a blob to it, and otherwise the data are for this
// boot alone.
func (m *machine) keepsFloor(r volume.Request, h *luks.Header, cause error) bool {
	if m.lost != nil {
		return true
	}
	var e *volume.Error
	if errors.As(cause, &e) && slices.Contains([]string{volume.BelowFloor, volume.FloorLost, volume.Damaged, volume.Substituted}, e.Code) {
		return false
	}
	t, err := readToken(h)
	if err != nil || t.floor(m.counter.Value) > int64(r.Epoch) {
		return false
	}
	return slices.ContainsFunc(t.Blobs, func(b blob) bool { return m.sealed(t, b) })
}

// sealed says whether this TPM has sealed a blob as the token describes it: to
// its registers, its policy key and its limit, and so to its base.
func (m *machine) sealed(t token, b blob) bool {
	pcr7, err := hex.DecodeString(t.PCR7)
	name, nameErr := hex.DecodeString(t.Policy)
	if err != nil || nameErr != nil || len(pcr7) != 32 {
		return false
	}
	p := policy.Sealed(policy.Key{Name: name}, policy.Ref(b.Floor), policy.Values{7: [32]byte(pcr7)}, m.counter.Policy(b.Limit))
	return m.SealedHere(m.parent, b.Blob, p) == nil
}

// sealAnew gives slot 0 a new passphrase that this TPM gives to this release.
// A cut in it leaves a volume that opens by the recovery key.
func (m *machine) sealAnew(r volume.Request, d luks.Device, h *luks.Header, key []byte) error {
	secret, t, err := m.first(r)
	if err != nil {
		return err
	}
	defer clear(secret)
	if err := h.Repair(d); err != nil {
		return fail(volume.Failed, err)
	}
	if err := h.SetSlot(d, rand.Reader, slotTPM, luks.Slot{Passphrase: secret}, key); err != nil {
		return fail(volume.Failed, err)
	}
	if err := t.put(h); err != nil {
		return fail(volume.Failed, err)
	}
	return fail(volume.Failed, h.Store(d))
}

// makeRoom deletes what is at the counter's index and is no such counter:
// anybody who has once run on this machine could have put it there.
func (m *machine) makeRoom() error {
	if !errors.Is(m.lost, tpm.ErrOtherIndex) {
		return nil
	}
	if err := m.DeleteCounter(tpm.FloorIndex); err != nil {
		return fail(volume.FloorLost, fmt.Errorf("something else is in the place of the version floor's counter: %w", err))
	}
	return nil
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
		if err := m.makeRoom(); err != nil {
			return nil, token{}, err
		}
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
