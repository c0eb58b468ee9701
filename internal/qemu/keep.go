package qemu

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// erstSize is the size of the error record storage in bytes: 8 records of 8 KiB.
const erstSize = 64 << 10

// kept are the files of a machine beside its disk. For a throwaway machine the
// directory is private and goes with it; for a persistent one it is Disk+".machine".
type kept struct {
	dir  string
	vars *os.File // variable store
	erst *os.File // ACPI error record storage (amd64): what a dying kernel saved
}

func dirOf(path string) string { return filepath.Dir(path) }

func (m *Machine) keep(private string) (*kept, error) {
	k := &kept{dir: private}
	if m.Disk != "" {
		k.dir = m.Disk + ".machine"
	}
	if err := os.MkdirAll(filepath.Join(k.dir, "tpm"), 0o700); err != nil {
		return nil, fmt.Errorf("create machine directory: %w", err)
	}
	var err error
	if !m.BIOS {
		if k.vars, err = m.openVars(k.dir); err != nil {
			return nil, err
		}
	}
	if m.Arch != AMD64 {
		return k, nil
	}
	if k.erst, err = os.OpenFile(filepath.Join(k.dir, "erst"), os.O_RDWR|os.O_CREATE, 0o600); err == nil {
		err = k.erst.Truncate(erstSize)
	}
	if err != nil {
		k.close()
		return nil, fmt.Errorf("create error record storage: %w", err)
	}
	return k, nil
}

// openVars opens the variable store, made from the template at first.
func (m *Machine) openVars(dir string) (*os.File, error) {
	path := filepath.Join(dir, "vars.fd")
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil {
		if err := m.checkKept(path, f); err != nil {
			return nil, err
		}
		return f, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	b, err := m.Firmware.vars(m.Arch)
	if err != nil {
		return nil, err
	}
	if m.Vars != nil {
		if b, err = m.Vars(b); err != nil {
			return nil, fmt.Errorf("prepare firmware variables: %w", err)
		}
	}
	if err := writeSparse(path, b); err != nil {
		return nil, fmt.Errorf("create variable store: %w", err)
	}
	return os.OpenFile(path, os.O_RDWR, 0)
}

// checkKept closes the store when it is not as wanted.
func (m *Machine) checkKept(path string, f *os.File) error {
	if m.Kept == nil {
		return nil
	}
	b, err := os.ReadFile(path)
	if err == nil {
		err = m.Kept(b)
	}
	if err != nil {
		f.Close()
		return fmt.Errorf("start machine: %w", err)
	}
	return nil
}

// writeSparse writes a file under its name at once, without the zeros at its
// end: an arm64 variable store is 64 MiB of which 768 KiB are used.
func writeSparse(path string, b []byte) error {
	n := len(b)
	for n > 0 && b[n-1] == 0 {
		n--
	}
	temp := path + ".new"
	if err := os.WriteFile(temp, b[:n], 0o600); err != nil {
		return err
	}
	if err := os.Truncate(temp, int64(len(b))); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

func (k *kept) close() {
	for _, f := range []*os.File{k.vars, k.erst} {
		if f != nil {
			f.Close()
		}
	}
}
