package crypt

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/ingot-os/ingot/attest/policy"
	"github.com/ingot-os/ingot/attest/tpm"
	"github.com/ingot-os/ingot/internal/agent/volume"
	"github.com/ingot-os/ingot/partition/luks"
)

// unseal tries the blobs that this release may open.
func (m *machine) unseal(r volume.Request, t token) ([]byte, blob, error) {
	if err := m.obstacle(r, t); err != nil {
		return nil, blob{}, err
	}
	f, err := m.signatures(r)
	if err != nil {
		return nil, blob{}, err
	}
	last := errNoBlob
	for _, b := range t.Blobs {
		s, ok := f.Find(m.approved(), b.Floor)
		if !ok || m.counter.Value > b.Limit {
			continue
		}
		secret, err := m.unsealOne(r, b, s)
		if err == nil {
			return secret, b, nil
		}
		last = err
	}
	return nil, blob{}, refusal(last)
}

func (m *machine) unsealOne(r volume.Request, b blob, s policy.Signed) ([]byte, error) {
	made, err := b.maker(r.Policy, m.values[7])
	if err != nil {
		return nil, err
	}
	return m.Unseal(m.parent, b.Blob, tpm.Proof{Key: m.policy, Signed: s, Literal: []int{7}, Counter: m.counter, Limit: b.Limit, Made: made})
}

// obstacle says in words what the TPM would refuse without any.
func (m *machine) obstacle(r volume.Request, t token) error {
	if name := hex.EncodeToString(m.parent.Name()); t.Storage != name {
		return fail(volume.OtherTPM, fmt.Errorf("the key was sealed by a TPM whose storage key begins with %.20s, that of this one with %.20s", t.Storage, name))
	}
	if m.lost != nil {
		return fail(volume.FloorLost, fmt.Errorf("the counter of the version floor is gone: %w", m.lost))
	}
	top := int64(-1)
	for _, b := range t.Blobs {
		top = max(top, int64(b.Floor))
	}
	switch floor := t.floor(m.counter.Value); {
	case floor > top:
		return fail(volume.FloorLost, fmt.Errorf("the counter of the version floor stands at %d, the key was sealed for %d at most: it was made anew or raised by somebody else", m.counter.Value, t.limit(int(top))))
	case floor > int64(r.Epoch):
		return fail(volume.BelowFloor, fmt.Errorf("this release has security epoch %d, the version floor of this machine is %d", r.Epoch, floor))
	}
	if name := hex.EncodeToString(m.policy.Name); t.Policy != name {
		return fail(volume.NoPolicy, fmt.Errorf("the key was sealed for a policy key that begins with %.20s, that of this image with %.20s", t.Policy, name))
	}
	if pcr7 := m.values[7]; t.PCR7 != hex.EncodeToString(pcr7[:]) {
		if err := r.OwnSecureBoot(); err != nil {
			return fail(volume.SecureBoot, err)
		}
		return fail(volume.Firmware, fmt.Errorf("PCR 7 is %x, the key was sealed to %.64s: the Secure Boot keys of the firmware have changed", pcr7, t.PCR7))
	}
	return nil
}

// signatures are those of the release, checked, with one for what was booted.
func (m *machine) signatures(r volume.Request) (policy.File, error) {
	b, err := r.Signatures()
	if err != nil {
		return policy.File{}, fail(volume.Unsigned, err)
	}
	f, err := policy.ParseFile(b)
	if err == nil {
		err = f.Verify(r.Policy)
	}
	if err != nil {
		return f, fail(volume.Unsigned, err)
	}
	if f.Epoch(m.approved()) < 0 {
		return f, fail(volume.Changed, fmt.Errorf("PCR 11 is %x, which the policy key has not signed: what was booted is not the release that the signatures belong to", m.values[policy.Register]))
	}
	return f, nil
}

// refusal gives an error of the TPM its code.
func refusal(err error) error {
	switch {
	case errors.Is(err, tpm.ErrParent):
		return fail(volume.OtherTPM, err)
	case errors.Is(err, tpm.ErrMade):
		return fail(volume.Substituted, err)
	case errors.Is(err, tpm.ErrAbove), errors.Is(err, errNoBlob):
		return fail(volume.BelowFloor, err)
	case errors.Is(err, tpm.ErrApproval):
		return fail(volume.Changed, err)
	case errors.Is(err, tpm.ErrNoCounter):
		return fail(volume.FloorLost, err)
	case errors.Is(err, tpm.ErrPolicy):
		return fail(volume.Firmware, err)
	}
	return fail(volume.NoTPM, err)
}

// seal seals the passphrase at a floor, by the release's signature for it.
func (m *machine) seal(secret []byte, by policy.Signed, limit uint64) (blob, error) {
	b, err := m.Seal(m.parent, secret, policy.Sealed(m.policy, by.Ref, m.literal(), m.counter.Policy(limit)))
	pcr11 := m.values[policy.Register]
	return blob{by.Floor, limit, b, hex.EncodeToString(pcr11[:]), by}, err
}

// prepare seals the passphrase for the floor of the running release, beside
// what there is: when the release has proved itself, the counter is all that is
// raised, and nothing has to keep the passphrase until then. Until then both
// open, so the release before still can.
func (m *machine) prepare(r volume.Request, d luks.Device, h *luks.Header, t token, secret []byte) error {
	f, err := m.signatures(r)
	if err != nil {
		return err
	}
	by, ok := f.Find(m.approved(), r.Epoch)
	if !ok {
		return fail(volume.Unsigned, fmt.Errorf("the signatures of the release are for epoch %d at most, it has %d", f.Epoch(m.approved()), r.Epoch))
	}
	now := t.floor(m.counter.Value)
	var keep []blob
	for _, b := range t.Blobs {
		if b.Floor == r.Epoch && m.gives(r, b, by, secret) == nil {
			return nil // prepared, or at it already
		}
		if b.Floor == r.Epoch {
			continue // made by somebody else, or damaged
		}
		if int64(b.Floor) >= now {
			keep = append(keep, b)
		}
	}
	keep = needed(keep, r.Epoch)
	next, err := m.seal(secret, by, t.limit(r.Epoch))
	if err != nil {
		return fail(volume.NoTPM, err)
	}
	if err := m.gives(r, next, by, secret); err != nil {
		return err // the floor would be raised to a key that nobody gets
	}
	t.Blobs = append([]blob{next}, keep...)
	if err := t.put(h); err != nil {
		return fail(volume.Failed, err)
	}
	return fail(volume.Failed, h.Store(d))
}

// needed are the blobs that stay beside the one of an epoch: the lowest, which the
// release before opens, and the highest below the epoch. That is the epoch of the
// release before when it has raised it, too: the floor rises to it first, and only
// to a floor that a key is sealed for.
func needed(blobs []blob, epoch int) []blob {
	slices.SortStableFunc(blobs, func(x, y blob) int { return y.Floor - x.Floor })
	for len(blobs) >= maxBlobs {
		drop := len(blobs) - 2
		if blobs[0].Floor > epoch {
			drop = 0
		}
		blobs = slices.Delete(blobs, drop, drop+1)
	}
	return blobs
}

// gives sees that a blob opens for this release, and that the passphrase is in
// it.
func (m *machine) gives(r volume.Request, b blob, by policy.Signed, secret []byte) error {
	got, err := m.unsealOne(r, b, by)
	defer clear(got)
	if err != nil {
		return refusal(fmt.Errorf("try the sealed key (%s): %w", by.Ref, err))
	}
	if !bytes.Equal(got, secret) {
		return fail(volume.Substituted, fmt.Errorf("try the sealed key (%s): it holds another passphrase", by.Ref))
	}
	return nil
}
