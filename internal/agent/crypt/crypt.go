// Package crypt opens the encrypted data partition of the machine, and makes
// it when the partition is blank (S3).
//
// The partition is a LUKS2 volume with two key slots. The passphrase of slot 0
// is sealed by the TPM: to a PCR 11 that the release's policy key has signed,
// to PCR 7 as it was when the volume was made, and to a counter that the
// version floor raises. The passphrase of slot 1 is the recovery key, told once.
// The sealed blobs are in a token of the volume's header, so whoever moves the
// disk moves them too, and they are worth nothing elsewhere.
//
// Nothing is ever made anew in the place of something: a partition that is not
// blank and does not open stays as it is.
//
// Shape of use: Open in the boot, before PCR 11 is extended by phase.Services;
// Raise when a release has proved itself.
package crypt

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/attest/policy"
	"github.com/ingot-os/ingot/attest/tpm"
	"github.com/ingot-os/ingot/internal/agent/disk"
	"github.com/ingot-os/ingot/internal/agent/volume"
	"github.com/ingot-os/ingot/partition/luks"
)

// mapName is the name of the device-mapper device.
const mapName = "ingot-data"

// Sealer is a volume.Sealer.
type Sealer struct{ Floor }

// Open implements volume.Sealer.
func (Sealer) Open(ctx context.Context, r volume.Request) (volume.Volume, error) {
	d, err := openDevice(r.Node)
	if err != nil {
		return volume.Volume{}, fail(volume.Failed, err)
	}
	u, err := unlock(ctx, withSignatures(r), d)
	d.Close() // the device mapper wants it for itself
	if err != nil {
		return volume.Volume{}, err
	}
	defer clear(u.key)
	return u.mapped(r)
}

// device is an open partition.
type device struct{ *os.File }

func openDevice(node string) (device, error) {
	f, err := os.OpenFile(node, os.O_RDWR|unix.O_EXCL, 0)
	return device{f}, err
}

// fail gives an error its code. One that has a code keeps it.
func fail(code string, err error) error {
	var coded *volume.Error
	if err == nil || errors.As(err, &coded) {
		return err
	}
	return &volume.Error{Code: code, Err: err}
}

// unlocked is a volume whose key is known.
type unlocked struct {
	key     []byte
	header  *luks.Header
	by      string
	created bool
	sealed  bool // anew, by this TPM
	floor   int
	warning error
}

// unlock finds the volume key: it makes a volume, or asks the TPM, or a person.
func unlock(ctx context.Context, r volume.Request, d luks.Device) (unlocked, error) {
	h, err := luks.Read(d)
	switch {
	case errors.Is(err, luks.ErrBlank):
		return provision(ctx, r, d)
	case errors.Is(err, luks.ErrForeign):
		return unlocked{}, fail(volume.Foreign, fmt.Errorf("%s holds something that is not encrypted: it is left alone: %w", r.Node, err))
	case err != nil:
		return unlocked{}, fail(volume.Damaged, err)
	}
	u, err := byTPM(ctx, r, d, h)
	if err == nil || r.Ask == nil {
		return u, err
	}
	r.Logf("data: the TPM does not open it: %v", err)
	return byPerson(ctx, r, d, h, err)
}

// byTPM unseals the passphrase of slot 0.
func byTPM(ctx context.Context, r volume.Request, d luks.Device, h *luks.Header) (unlocked, error) {
	t, err := readToken(h)
	if err != nil {
		return unlocked{}, fail(volume.Damaged, err)
	}
	m, err := openMachine(ctx, r)
	if err != nil {
		return unlocked{}, err
	}
	defer m.Close()
	secret, b, err := m.unseal(r, t)
	if err != nil {
		return unlocked{}, err
	}
	defer clear(secret)
	key, err := h.Unlock(d, slotTPM, secret)
	if err != nil {
		return unlocked{}, fail(volume.Damaged, err)
	}
	u := unlocked{key: key, header: h, by: volume.ByTPM, floor: b.Floor}
	if u.warning = fail(volume.Failed, h.Repair(d)); u.warning == nil {
		u.warning = m.prepare(r, d, h, t, secret)
	}
	return u, nil
}

// mapped gives the volume to the kernel.
func (u unlocked) mapped(r volume.Request) (volume.Volume, error) {
	s, err := u.header.Segment()
	if err != nil {
		return volume.Volume{}, fail(volume.Damaged, err)
	}
	c := disk.Crypt{Name: mapName, Device: r.Node, Offset: s.Offset, Cipher: s.Cipher, IVTweak: s.IVTweak, SectorSize: s.SectorSize,
		Size: (r.Size - s.Offset) / int64(s.SectorSize) * int64(s.SectorSize)}
	if s.Size != 0 {
		c.Size = min(c.Size, s.Size)
	}
	node, err := c.Open(u.key)
	if err != nil {
		return volume.Volume{}, fail(volume.Failed, err)
	}
	return volume.Volume{Node: node, Size: c.Size, UnlockedBy: u.by, Created: u.created, Floor: u.floor, Base: u.base(), Warning: u.warning, Close: c.Close}, nil
}

// base is where the counter of this TPM counts from, when the volume is sealed
// by it: opened by it, or sealed anew.
func (u unlocked) base() *int64 {
	if u.by != volume.ByTPM && !u.sealed {
		return nil
	}
	t, err := readToken(u.header)
	if err != nil {
		return nil
	}
	return &t.Base
}

// machine is the open TPM with what its policies are about.
type machine struct {
	*tpm.TPM
	parent  *tpm.Key
	policy  policy.Key
	values  policy.Values // of PCR 7 and 11
	counter tpm.Counter
	lost    error // why there is no counter
}

// openMachine opens the TPM and reads it. Its errors have codes.
func openMachine(ctx context.Context, r volume.Request) (*machine, error) {
	key, err := policy.ParseKey(r.Policy)
	if err != nil {
		return nil, fail(volume.NoPolicy, err)
	}
	node, err := r.TPM(ctx)
	if err != nil {
		return nil, fail(volume.NoTPM, err)
	}
	t, err := tpm.Open(node)
	if err != nil {
		return nil, fail(volume.NoTPM, err)
	}
	m := &machine{TPM: t, policy: key}
	if m.values, err = t.Values(7, policy.Register); err == nil {
		m.parent, err = t.StorageKey()
	}
	if err != nil {
		t.Close()
		return nil, fail(volume.NoTPM, err)
	}
	m.counter, m.lost = t.Counter(tpm.FloorIndex)
	if m.lost != nil && !errors.Is(m.lost, tpm.ErrNoCounter) {
		err, m.lost = m.lost, nil
		m.Close()
		return nil, fail(volume.NoTPM, err)
	}
	return m, nil
}

// Close ends the use of the TPM.
func (m *machine) Close() {
	if m.parent != nil {
		m.Flush(m.parent)
	}
	m.TPM.Close()
}

// approved is the digest that the policy key has to have signed.
func (m *machine) approved() policy.Digest {
	return policy.Digest{}.PCR(policy.Values{policy.Register: m.values[policy.Register]})
}

// literal is the register that a blob binds as it is.
func (m *machine) literal() policy.Values { return policy.Values{7: m.values[7]} }
