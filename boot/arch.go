package boot

import "github.com/ingot-os/ingot/boot/pe"

// The architectures that ingot boots, by their Go names, which are Debian's too.
const (
	AMD64 = "amd64"
	ARM64 = "arm64"
)

// archFacts is what UEFI and systemd call an architecture.
type archFacts struct {
	machine uint16
	suffix  string // of systemd's file names
	loader  string // UEFI 2.10 section 3.5.1.1, table 3.4
}

var archs = map[string]archFacts{
	AMD64: {machine: pe.MachineAMD64, suffix: "x64", loader: "BOOTX64.EFI"},
	ARM64: {machine: pe.MachineARM64, suffix: "aa64", loader: "BOOTAA64.EFI"},
}

// archOf returns the architecture of a PE machine value, or "".
func archOf(machine uint16) string {
	for a, f := range archs {
		if f.machine == machine {
			return a
		}
	}
	return ""
}

// KnownArch reports whether arch is one that the functions here know. For any
// other, each of them returns a path that no package and no firmware has.
func KnownArch(arch string) bool { return archs[arch].loader != "" }

// FallbackPath returns the path of the program that firmware starts from an
// EFI system partition when no boot entry works, slash separated and without a
// leading slash: EFI/BOOT/BOOTX64.EFI.
func FallbackPath(arch string) string { return "EFI/BOOT/" + archs[arch].loader }

// SparePath returns the path of the second copy of that program on the EFI
// system partition, for a boot entry of its own. Updates write neither of them.
func SparePath(arch string) string { return "EFI/INGOT/" + archs[arch].loader }

// PolicyPath is the path of a release's policy signatures on the partition that
// its boot file is started from: a slot, or with systemd-boot the EFI system
// partition. They depend on the boot file, so they lie beside it.
const PolicyPath = "EFI/INGOT/release.pcrsig"

// StubPath returns where the package systemd-boot-efi has the stub, relative
// to the root.
func StubPath(arch string) string {
	return "usr/lib/systemd/boot/efi/linux" + archs[arch].suffix + ".efi.stub"
}

// LoaderPath returns where the package systemd-boot-efi has systemd-boot,
// relative to the root.
func LoaderPath(arch string) string {
	return "usr/lib/systemd/boot/efi/systemd-boot" + archs[arch].suffix + ".efi"
}
