package slots

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/agent/power"
	"golang.org/x/sys/unix"
)

// Kexec loads a kernel into the running one and starts it. dir is a directory in
// memory. flush is called last, when only the jump is left.
//
// A kernel under lockdown takes only kernels whose own signature it trusts; the
// signature of the boot file around it does not count.
func Kexec(dir string, kernel, initrd []byte, cmdline string, flush func()) error {
	k, err := readOnly(dir, "kernel", kernel)
	if err != nil {
		return err
	}
	defer k.Close()
	i, err := readOnly(dir, "initrd", initrd)
	if err != nil {
		return err
	}
	defer i.Close()
	if err := unix.KexecFileLoad(int(k.Fd()), int(i.Fd()), cmdline, 0); err != nil {
		return fmt.Errorf("load the kernel: %w", refused(err))
	}
	flush()
	if err := power.Reboot(unix.LINUX_REBOOT_CMD_KEXEC); err != nil {
		return fmt.Errorf("jump into the kernel: %w", err)
	}
	return errors.New("the jump into the kernel came back")
}

// refused says what an error of kexec_file_load means.
func refused(err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.ENOKEY), errors.Is(err, unix.EKEYREJECTED), errors.Is(err, unix.EBADMSG):
		return fmt.Errorf("%w: %w: Secure Boot has locked this kernel down and it does not trust the signature of the other: repair the boot variables, or turn Secure Boot off", slot.ErrRefused, err)
	case errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("%w: %w: this kernel is built without kexec_file_load", slot.ErrRefused, err)
	}
	return err
}

// readOnly gives a file that nobody has open for writing: the kernel refuses
// any other (ETXTBSY), a memfd too.
func readOnly(dir, name string, b []byte) (*os.File, error) {
	path := filepath.Join(dir, ".kexec-"+name)
	if err := os.WriteFile(path, b, 0o400); err != nil {
		return nil, err
	}
	defer os.Remove(path)
	return os.Open(path)
}
