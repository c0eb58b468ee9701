package agent

import (
	"errors"
	"io/fs"
	"math"
	"os"
)

// nobodys owns what no service may use. Root without capabilities owns what root
// owns, the TPM and the key of the machine's identity among it; an account of
// nobody's shuts it out. PID 1 overrides permissions, as does a service with the
// capability DAC_OVERRIDE.
const nobodys = 0x7fffff00

// tpmNodes are the ways to the TPM: as it is, and by the kernel's resource manager.
var tpmNodes = []string{"/dev/tpm0", tpmDevice}

// hide shuts services out of files, of which none has to be there.
func hide(paths ...string) error {
	var errs []error
	for _, path := range paths {
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && owned(info, nobodys, nobodys) {
			continue
		}
		if err == nil {
			err = errors.Join(os.Chmod(path, 0o600), os.Chown(path, nobodys, nobodys))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// hideTPM hides the TPM whenever its driver comes: a service that can use it could
// have the machine's attestation key sign for it, and so take the secrets of all.
func (m *Machine) hideTPM() {
	told := ""
	m.devices.Wait(m.ctx, math.MaxInt64, func() bool {
		if err := hide(tpmNodes...); err != nil && err.Error() != told {
			told = err.Error()
			m.problem("hide the TPM from services: %v", err)
		}
		return false
	})
}
