package bootrule

import (
	"slices"
	"strings"
	"sync"

	"github.com/ingot-os/ingot/internal/strictyaml"
)

// Keys describes rules files for the decoder and docs/netboot-rules.md.
var Keys = sync.OnceValue(func() *strictyaml.Table {
	return strictyaml.NewTable(slices.Concat(topKeys,
		[]strictyaml.Key{{Path: "groups{}", Any: []string{"mac", "uuid", "host", "serial", "asset", "ek"}}}, strictyaml.Under("groups{}.", memberKeys),
		[]strictyaml.Key{{Path: "deny[]", Any: matchNames}}, strictyaml.Under("deny[].", slices.Concat(memberKeys, ruleKeys, denyKeys)),
		strictyaml.Under("rules[].", slices.Concat(memberKeys, ruleKeys, bootKeys)), strictyaml.Under("programs{}.", programKeys))...)
})

var matchNames = []string{"group", "mac", "uuid", "host", "serial", "asset", "ek", "subnet", "arch"}

const nameExpect = "letters, digits, dots, dashes and underscores, at most 63"

func isName(s string) bool { return validName(s) && len(s) <= 63 }

const namePattern = `^[A-Za-z0-9_][A-Za-z0-9._-]{0,62}$`

var topKeys = []strictyaml.Key{
	{Path: "format", Required: true, Values: []int64{Format}, Also: []string{"version"}, Doc: "Revision of the file; 1.", Example: "format: 1"},
	{Path: "groups", Match: isName, Pattern: namePattern, Expect: nameExpect, Doc: "Machines under a name. A machine that two groups name is an error.",
		Example: "groups:\n  web:\n    mac: [\"52:54:00:12:34:56\", \"52:54:00:00:01:*\"]\n    host: [web-1]"},
	{Path: "deny", Doc: "Machines that boot nothing from here, whatever rules, tickets and assignments say. They are told so, and go on with their next boot option.",
		Example: "deny:\n  - mac: [\"52:54:00:66:*\"]\n    reason: returned to the lessor"},
	{Path: "rules", Doc: "What machines boot. The first rule that matches counts.", Example: "rules:\n  - group: [web]\n    boot: hello@1.2.0"},
	{Path: "default", Default: "local", Doc: "What machines boot that no rule names: `local`, `NAME`, `NAME@VERSION`, `sha256:DIGITS` or `program:NAME`.", Example: "default: local"},
	{Path: "rescue", Default: "none", Doc: "Release that a ticket of the kind `rescue` boots.", Example: "rescue: rescue"},
	{Path: "programs", Match: isName, Pattern: namePattern, Expect: nameExpect, Doc: "UEFI programs that are no releases. `memtest` is the one of tickets of that kind.",
		Example: "programs:\n  memtest: {file: /usr/lib/memtest86+/memtest86+x64.efi, sha256: …}"},
}

var memberKeys = []strictyaml.Key{
	{Path: "mac", MinLen: 1, Also: []string{"macs", "macaddress", "hwaddr"}, Doc: "Hardware addresses. `*` stands for a byte, at the end for all that follow. Quote them.", Example: `mac: ["52:54:00:12:34:56", "52:54:00:*"]`},
	{Path: "uuid", MinLen: 1, Doc: "UUIDs of SMBIOS: as the attested machine reported it, else as its packet says. All zero and all ones, what firmware without one sends, are refused.", Example: `uuid: ["4c4c4544-0034-5310-8052-b4c04f4e4d32"]`},
	{Path: "host", MinLen: 1, Also: []string{"hosts", "hostname"}, Doc: "Names under which machines are enrolled; a `*` at the end stands for any rest. Known of a MAC address that attested.", Example: "host: [web-1, edge-*]"},
	{Path: "serial", MinLen: 1, Doc: "Serial numbers of SMBIOS, as the attested machine reported them; `*` as above.", Example: "serial: [CZ1234*]"},
	{Path: "asset", MinLen: 1, Also: []string{"asset-tag", "assetTag"}, Doc: "Asset tags of SMBIOS (of the chassis), as the attested machine reported them; `*` as above.", Example: "asset: [rack7-*]"},
	{Path: "ek", MinLen: 1, Also: []string{"tpm"}, Doc: "Endorsement keys of TPMs by which hosts enrolled, as `ingot hosts HOST` shows them; at least 16 digits.", Example: "ek: [0123456789abcdef]"},
}

var ruleKeys = []strictyaml.Key{
	{Path: "group", MinLen: 1, Also: []string{"groups"}, Doc: "Groups of this file.", Example: "group: [web]"},
	{Path: "subnet", MinLen: 1, Also: []string{"subnets", "network"}, Doc: "Networks that the machine asks from: its own address where it has one, its relay's, and without a relay the server's addresses on that link.", Example: "subnet: [192.0.2.0/24]"},
	{Path: "arch", MinLen: 1, Also: []string{"architecture"}, Doc: "What the firmware is: `bios`, `x64`, `arm64`, `ia32`, `arm32` (each over TFTP and HTTP), `http` (UEFI HTTP Boot of any processor), or a number of option 93.", Example: "arch: [x64]"},
}

var denyKeys = []strictyaml.Key{
	{Path: "reason", MaxLen: 200, Doc: "Why; it is shown and logged.", Example: "reason: returned to the lessor"},
}

var bootKeys = []strictyaml.Key{
	{Path: "name", MaxLen: 63, MinLen: 1, Doc: "Name of the rule in explanations.", Example: "name: web servers"},
	{Path: "boot", Required: true, Also: []string{"release", "image"}, Doc: "What they boot: `local` (their next boot option, said at once), `NAME` (the newest release of the appliance for their processor), `NAME@VERSION`, `sha256:DIGITS` (of the manifest), `program:NAME`.", Example: "boot: hello@1.2.0"},
	{Path: "chain", Enum: []string{"ipxe"}, Default: "direct", Doc: "`ipxe` has the firmware load iPXE first, which then loads the release by HTTP: for firmware whose TFTP does not take large files. It changes what is measured; BIOS machines always go this way.", Example: "chain: ipxe"},
}

var programKeys = []strictyaml.Key{
	{Path: "file", Required: true, MinLen: 1, Doc: "The program; a relative path begins at the rules file.", Example: "file: memtest.efi"},
	{Path: "sha256", Required: true, Match: isSum, Pattern: `^[0-9a-f]{64}$`, Expect: "64 hexadecimal digits in lower case", Doc: "Its digest: another file is not served.", Example: "sha256: …"},
	{Path: "arch", Enum: []string{"amd64", "arm64"}, Default: "amd64", Doc: "Its processor.", Example: "arch: amd64"},
}

func isSum(s string) bool { return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == "" }
