package crypt

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/ingot-os/ingot/attest/tpm"
	"github.com/ingot-os/ingot/internal/agent/volume"
	"github.com/ingot-os/ingot/partition/luks"
)

// Floor is the version floor of a machine: the TPM's counter, above the base that
// the volume's header has.
type Floor struct{}

// Read returns the floor. That of a blank partition is 0.
func (Floor) Read(ctx context.Context, node string, device func(context.Context) (string, error)) (floor int, err error) {
	err = withCounter(ctx, node, device, func(t token, chip *tpm.TPM) error {
		c, err := counter(chip)
		if err == nil {
			floor = int(t.floor(c))
		}
		return err
	})
	if errors.Is(err, luks.ErrBlank) {
		return 0, nil
	}
	return floor, err
}

// Raise makes the floor of the machine that of a release that has proved itself:
// sealed keys of lower floors are dead from then on, copies of them included.
// Open has prepared the key of the new floor; without it nothing is raised. It
// can be called again at any time and after any cut.
func (Floor) Raise(ctx context.Context, node string, device func(context.Context) (string, error), epoch int) (floor int, err error) {
	err = withCounter(ctx, node, device, func(t token, chip *tpm.TPM) error {
		floor, err = t.raise(chip, epoch)
		return err
	})
	return floor, err
}

// withCounter opens what the floor is made of: the volume's token and the TPM.
func withCounter(ctx context.Context, node string, device func(context.Context) (string, error), f func(token, *tpm.TPM) error) error {
	file, err := os.Open(node)
	if err != nil {
		return fail(volume.Failed, err)
	}
	defer file.Close()
	h, err := luks.Read(file)
	if err != nil {
		return fail(volume.Damaged, err)
	}
	t, err := readToken(h)
	if err != nil {
		return fail(volume.Damaged, err)
	}
	path, err := device(ctx)
	if err != nil {
		return fail(volume.NoTPM, err)
	}
	chip, err := tpm.Open(path)
	if err != nil {
		return fail(volume.NoTPM, err)
	}
	defer chip.Close()
	return f(t, chip)
}

func counter(chip *tpm.TPM) (uint64, error) {
	c, err := chip.Counter(tpm.FloorIndex)
	if errors.Is(err, tpm.ErrNoCounter) {
		return 0, fail(volume.FloorLost, err)
	}
	if err != nil {
		return 0, fail(volume.NoTPM, err)
	}
	return c.Value, nil
}

func (t token) raise(chip *tpm.TPM, epoch int) (int, error) {
	c, err := counter(chip)
	if err != nil {
		return 0, err
	}
	prepared := false
	for _, b := range t.Blobs {
		prepared = prepared || b.Floor == epoch
	}
	floor := t.floor(c)
	switch {
	case floor >= int64(epoch):
		return int(floor), nil
	case !prepared:
		return int(floor), fail(volume.Failed, fmt.Errorf("raise the version floor from %d to %d: no key is sealed for it", floor, epoch))
	case floor < 0:
		return 0, fail(volume.FloorLost, fmt.Errorf("the counter stands at %d, below the base %d of the volume", c, t.Base))
	}
	for ; floor < int64(epoch); floor++ { // at most 63 times
		if _, err := chip.Increment(tpm.FloorIndex); err != nil {
			return int(floor), fail(volume.NoTPM, err)
		}
	}
	return int(floor), nil
}
