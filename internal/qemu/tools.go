package qemu

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// Missing is a program or file that is not installed.
type Missing struct {
	Name    string // "qemu-system-x86_64", "UEFI firmware"
	Package string // the Debian package that has it
	For     string // what it is needed for
}

// MissingError says what has to be installed before a machine can start.
type MissingError struct{ Missing []Missing }

// Error implements error.
func (e *MissingError) Error() string {
	var names []string
	for _, m := range e.Missing {
		names = append(names, fmt.Sprintf("%s (%s)", m.Name, m.For))
	}
	return "start machine: not installed: " + strings.Join(names, ", ")
}

// Hint is the command that installs all of it on Debian.
func (e *MissingError) Hint() string {
	var names []string
	for _, m := range e.Missing {
		names = append(names, m.Package)
	}
	return "apt-get install " + strings.Join(names, " ")
}

// packages are the Debian packages and the program of an architecture.
var packages = map[string]struct{ program, qemu, firmware string }{
	AMD64: {"qemu-system-x86_64", "qemu-system-x86", "ovmf"},
	ARM64: {"qemu-system-aarch64", "qemu-system-arm", "qemu-efi-aarch64"},
}

const swtpmProgram = "swtpm"

// Tools returns what is missing to boot arch with a TPM, nil when all is there.
func Tools(arch string) []Missing {
	p, ok := packages[arch]
	if !ok {
		return []Missing{{Name: "QEMU for " + arch, Package: "qemu-system-misc", For: "not supported"}}
	}
	var out []Missing
	if _, err := exec.LookPath(p.program); err != nil {
		out = append(out, Missing{p.program, p.qemu, "to run " + arch})
	}
	var missing *MissingError
	if _, err := FindFirmware(arch); errors.As(err, &missing) {
		out = append(out, missing.Missing...)
	}
	if _, err := exec.LookPath(swtpmProgram); err != nil {
		out = append(out, Missing{swtpmProgram, "swtpm", "the TPM"})
	}
	return out
}
