package netboot

import "fmt"

// Arch is a client system architecture: a number of the registry "Processor
// Architecture Types" of RFC 5970 section 3.3, which option 93 (RFC 4578 section 2.1)
// and option 61 of DHCPv6 carry.
type Arch uint16

// The architectures that have a name here. RFC 4578's own table has 7 and 9 the wrong
// way round (erratum 4624): firmware for x86-64 sends 7.
const (
	BIOS        Arch = 0
	EFI32       Arch = 6
	EFIX64      Arch = 7
	EFIBC       Arch = 9 // EFI byte code; some firmware for x86-64 sends it
	EFIARM32    Arch = 10
	EFIARM64    Arch = 11
	HTTP32      Arch = 15
	HTTPX64     Arch = 16
	HTTPBC      Arch = 17
	HTTPARM32   Arch = 18
	HTTPARM64   Arch = 19
	HTTPBIOS    Arch = 20
	RaspberryPi Arch = 41
	Unknown     Arch = 0xffff // the client did not say
)

type archFacts struct {
	name string
	goes string // Go's name of the architecture; "" when no image of ours can run there
	http bool
	efi  bool
}

var archs = map[Arch]archFacts{
	BIOS: {"BIOS", "amd64", false, false}, HTTPBIOS: {"BIOS over HTTP", "amd64", true, false},
	EFI32: {"UEFI IA-32", "", false, true}, HTTP32: {"UEFI IA-32 over HTTP", "", true, true},
	EFIX64: {"UEFI x86-64", "amd64", false, true}, HTTPX64: {"UEFI x86-64 over HTTP", "amd64", true, true},
	EFIBC: {"UEFI byte code", "amd64", false, true}, HTTPBC: {"UEFI byte code over HTTP", "amd64", true, true},
	EFIARM32: {"UEFI ARM 32", "", false, true}, HTTPARM32: {"UEFI ARM 32 over HTTP", "", true, true},
	EFIARM64: {"UEFI ARM64", "arm64", false, true}, HTTPARM64: {"UEFI ARM64 over HTTP", "arm64", true, true},
	RaspberryPi: {"Raspberry Pi ROM", "", false, false},
}

// String is the architecture for people, with its number.
func (a Arch) String() string {
	if f, ok := archs[a]; ok {
		return fmt.Sprintf("%s (%d)", f.name, uint16(a))
	}
	if a == Unknown {
		return "not said"
	}
	return fmt.Sprintf("unknown (%d)", uint16(a))
}

// Known reports whether the number has a meaning here.
func (a Arch) Known() bool { _, ok := archs[a]; return ok }

// GOARCH is the architecture of images that run there, "" when there are none.
func (a Arch) GOARCH() string { return archs[a].goes }

// HTTP reports whether the firmware boots from a URL.
func (a Arch) HTTP() bool { return archs[a].http }

// UEFI reports whether the firmware starts PE programs.
func (a Arch) UEFI() bool { return archs[a].efi }
