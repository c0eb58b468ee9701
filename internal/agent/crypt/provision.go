package crypt

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/google/uuid"

	"github.com/ingot-os/ingot/attest/tpm"
	"github.com/ingot-os/ingot/internal/agent/disk"
	"github.com/ingot-os/ingot/internal/agent/volume"
	"github.com/ingot-os/ingot/partition/luks"
)

// MinSize is the smallest partition in bytes that can be encrypted: the
// volume's header and the smallest file system.
const MinSize = luks.DataOffset + disk.MinData

// provision makes a volume on a blank partition. The recovery key is told
// before the volume exists: a cut between leaves a key to nothing, never a
// volume whose key nobody has.
func provision(ctx context.Context, r volume.Request, d luks.Device) (unlocked, error) {
	if r.Size < MinSize {
		return unlocked{}, fail(volume.Failed, fmt.Errorf("make encrypted volume: the partition has %d bytes, it needs %d", r.Size, int64(MinSize)))
	}
	m, err := openMachine(ctx, r)
	if err != nil {
		return unlocked{}, err
	}
	defer m.Close()
	secret, t, err := m.first(r)
	if err != nil {
		return unlocked{}, err
	}
	defer clear(secret)
	recovery, err := NewKey(rand.Reader)
	if err != nil {
		return unlocked{}, fail(volume.Failed, err)
	}
	if err := r.Escrow(recovery); err != nil {
		return unlocked{}, fail(volume.Failed, fmt.Errorf("hand over the recovery key: %w", err))
	}
	raw, err := json.Marshal(t)
	if err != nil {
		return unlocked{}, fail(volume.Failed, err)
	}
	key, err := luks.Format(d, rand.Reader, luks.Volume{UUID: uuid.NewString(), Label: label(r.Name), Size: r.Size, SectorSize: sectorSize(r.Size),
		Slots:  []luks.Slot{slotTPM: {Passphrase: secret}, slotRecovery: {Passphrase: []byte(recovery)}},
		Tokens: map[string]json.RawMessage{"0": raw}})
	if err != nil {
		return unlocked{}, fail(volume.Failed, err)
	}
	h, err := luks.Read(d)
	if err != nil {
		return unlocked{}, fail(volume.Failed, err)
	}
	return unlocked{key: key, header: h, by: volume.ByTPM, created: true, floor: r.Epoch}, nil
}

// label fits into the header.
func label(name string) string { return name[:min(len(name), 40)] + "-data" }

// sectorSize is what the file system's blocks are made of, where it fits.
func sectorSize(size int64) int {
	if size%4096 == 0 {
		return 4096
	}
	return 512
}

// Raise makes the floor of the machine that of the running release, which has
// proved itself: sealed keys of lower floors are dead from then on, copies of
// them included. Open has prepared the key of the new floor; without it nothing
// is raised. It can be called again at any time and after any cut.
func Raise(ctx context.Context, node string, device func(context.Context) (string, error), epoch int) (floor int, err error) {
	f, err := os.Open(node)
	if err != nil {
		return 0, fail(volume.Failed, err)
	}
	defer f.Close()
	h, err := luks.Read(f)
	if err != nil {
		return 0, fail(volume.Damaged, err)
	}
	t, err := readToken(h)
	if err != nil {
		return 0, fail(volume.Damaged, err)
	}
	path, err := device(ctx)
	if err != nil {
		return 0, fail(volume.NoTPM, err)
	}
	chip, err := tpm.Open(path)
	if err != nil {
		return 0, fail(volume.NoTPM, err)
	}
	defer chip.Close()
	return t.raise(chip, epoch)
}

func (t token) raise(chip *tpm.TPM, epoch int) (int, error) {
	c, err := chip.Counter(tpm.FloorIndex)
	if errors.Is(err, tpm.ErrNoCounter) {
		return 0, fail(volume.FloorLost, err)
	}
	if err != nil {
		return 0, fail(volume.NoTPM, err)
	}
	prepared := false
	for _, b := range t.Blobs {
		prepared = prepared || b.Floor == epoch
	}
	floor := t.floor(c.Value)
	switch {
	case floor >= int64(epoch):
		return int(floor), nil
	case !prepared:
		return int(floor), fail(volume.Failed, fmt.Errorf("raise the version floor from %d to %d: no key is sealed for it", floor, epoch))
	case floor < 0:
		return 0, fail(volume.FloorLost, fmt.Errorf("the counter stands at %d, below the base %d of the volume", c.Value, t.Base))
	}
	for ; floor < int64(epoch); floor++ { // at most 63 times
		if _, err := chip.Increment(tpm.FloorIndex); err != nil {
			return int(floor), fail(volume.NoTPM, err)
		}
	}
	return int(floor), nil
}
