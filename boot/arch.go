package boot

import (
	"fmt"

	"github.com/ingot-os/ingot/boot/pe"
)

// Arch is an architecture by its Go name, which is Debian's name too.
type Arch string

// The architectures that ingot boots.
const (
	AMD64 Arch = "amd64"
	ARM64 Arch = "arm64"
)

// archFacts is what UEFI and systemd call an architecture.
type archFacts struct {
	machine uint16
	suffix  string // of systemd's file names
	loader  string // UEFI 2.10 section 3.5.1.1, table 3.4
}

var archs = map[Arch]archFacts{
	AMD64: {machine: pe.MachineAMD64, suffix: "x64", loader: "BOOTX64.EFI"},
	ARM64: {machine: pe.MachineARM64, suffix: "aa64", loader: "BOOTAA64.EFI"},
}

// ParseArch returns the Arch of that name.
func ParseArch(name string) (Arch, error) {
	if _, ok := archs[Arch(name)]; !ok {
		return "", fmt.Errorf("architecture %q is neither amd64 nor arm64", name)
	}
	return Arch(name), nil
}

// archOf returns the Arch of a PE machine value, or "".
func archOf(machine uint16) Arch {
	for a, f := range archs {
		if f.machine == machine {
			return a
		}
	}
	return ""
}

// Machine returns the PE machine value.
func (a Arch) Machine() uint16 { return archs[a].machine }

// RemovableName returns the file name that firmware starts from \EFI\BOOT when
// no boot entry works: BOOTX64.EFI or BOOTAA64.EFI.
func (a Arch) RemovableName() string { return archs[a].loader }

// RemovablePath returns the path of that file on an EFI system partition, with
// slashes and without a leading one: EFI/BOOT/BOOTX64.EFI.
func (a Arch) RemovablePath() string { return "EFI/BOOT/" + archs[a].loader }

// StubPath returns where the package systemd-boot-efi has the stub, relative to the root.
func (a Arch) StubPath() string {
	return "usr/lib/systemd/boot/efi/linux" + archs[a].suffix + ".efi.stub"
}

// LoaderPath returns where the package systemd-boot-efi has systemd-boot, relative to the root.
func (a Arch) LoaderPath() string {
	return "usr/lib/systemd/boot/efi/systemd-boot" + archs[a].suffix + ".efi"
}
