package crypt

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

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
