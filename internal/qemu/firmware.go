package qemu

import (
	"fmt"
	"os"
)

// Firmware is a pair of pflash images: the code, which is only read, and the
// template of the variable store.
type Firmware struct {
	Code, Vars string
	// Secure says that the code demands System Management Mode (a Secure Boot
	// build of OVMF).
	Secure bool
}

// known lists where distributions keep UEFI firmware, best first.
//
// Debian 12 has OVMF in two sizes. The PEI phase of the 4M build is 32-bit
// code, and with a TPM it hashes the rest of the firmware with four
// algorithms, two of them made of 64-bit words: 3.7 s under TCG. The 2M build
// reaches its boot entry 2.5 to 3 s sooner. Later releases have only 4M builds.
var known = map[string][]Firmware{
	AMD64: {
		{Code: "/usr/share/OVMF/OVMF_CODE.fd", Vars: "/usr/share/OVMF/OVMF_VARS.fd"},                       // Debian 12
		{Code: "/usr/share/OVMF/OVMF_CODE_4M.fd", Vars: "/usr/share/OVMF/OVMF_VARS_4M.fd"},                 // Debian, Ubuntu
		{Code: "/usr/share/edk2/ovmf/OVMF_CODE.fd", Vars: "/usr/share/edk2/ovmf/OVMF_VARS.fd"},             // Fedora
		{Code: "/usr/share/edk2/x64/OVMF_CODE.4m.fd", Vars: "/usr/share/edk2/x64/OVMF_VARS.4m.fd"},         // Arch
		{Code: "/usr/share/qemu/ovmf-x86_64-4m-code.bin", Vars: "/usr/share/qemu/ovmf-x86_64-4m-vars.bin"}, // openSUSE
	},
	ARM64: {
		{Code: "/usr/share/AAVMF/AAVMF_CODE.fd", Vars: "/usr/share/AAVMF/AAVMF_VARS.fd"},                                // Debian, Ubuntu
		{Code: "/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw", Vars: "/usr/share/edk2/aarch64/vars-template-pflash.raw"}, // Fedora
		{Code: "/usr/share/edk2/aarch64/QEMU_CODE.fd", Vars: "/usr/share/edk2/aarch64/QEMU_VARS.fd"},                    // Arch
	},
}

// enforcing lists firmware that checks signatures once it has keys. For amd64
// these are separate builds, which keep the variables out of the guest's reach
// by System Management Mode; their variable stores are the usual empty ones.
// Debian 12's smaller one, OVMF_CODE.secboot.fd, stays silent with QEMU 7.2.
// ArmVirt has one build for both in Debian, where a further name leads to it.
var enforcing = map[string][]Firmware{
	AMD64: {
		{Code: "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", Vars: "/usr/share/OVMF/OVMF_VARS_4M.fd", Secure: true},         // Debian, Ubuntu
		{Code: "/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd", Vars: "/usr/share/edk2/ovmf/OVMF_VARS.fd", Secure: true},     // Fedora
		{Code: "/usr/share/edk2/x64/OVMF_CODE.secboot.4m.fd", Vars: "/usr/share/edk2/x64/OVMF_VARS.4m.fd", Secure: true}, // Arch
	},
	ARM64: {
		{Code: "/usr/share/AAVMF/AAVMF_CODE.secboot.fd", Vars: "/usr/share/AAVMF/AAVMF_VARS.fd"}, // Debian 13, Ubuntu
		{Code: "/usr/share/AAVMF/AAVMF_CODE.ms.fd", Vars: "/usr/share/AAVMF/AAVMF_VARS.fd"},      // Debian 12
	},
}

// armFlash is the size of each pflash bank of QEMU's virt machine, in bytes.
// The machine refuses any other; some distributions ship smaller files.
const armFlash = 64 << 20

// FindFirmware returns the first installed pair for arch. The error is a
// *MissingError that names the package.
func FindFirmware(arch string) (Firmware, error) {
	return find(known[arch], Missing{Name: "UEFI firmware", Package: packages[arch].firmware, For: "to boot " + arch})
}

// FindSecureFirmware returns the first installed pair for arch that enforces
// Secure Boot once keys are enrolled into its variable store.
func FindSecureFirmware(arch string) (Firmware, error) {
	return find(enforcing[arch], Missing{Name: "UEFI firmware with Secure Boot", Package: packages[arch].firmware, For: "to boot " + arch})
}

func find(list []Firmware, missing Missing) (Firmware, error) {
	for _, f := range list {
		if isFile(f.Code) && isFile(f.Vars) {
			return f, nil
		}
	}
	return Firmware{}, &MissingError{[]Missing{missing}}
}

// vars reads the variable store template, padded to the size of its flash.
func (f Firmware) vars(arch string) ([]byte, error) {
	b, err := os.ReadFile(f.Vars)
	if err != nil {
		return nil, fmt.Errorf("read firmware: %w", err)
	}
	if arch == ARM64 && len(b) < armFlash {
		b = append(b, make([]byte, armFlash-len(b))...)
	}
	return b, nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
