package recipe

import "github.com/ingot-os/ingot/internal/strictyaml"

var netbootKeys = []strictyaml.Key{
	{Path: "netboot", Also: []string{"pxe"},
		Doc:     "For machines that boot over the network and run from memory: [netboot-ram.md](netboot-ram.md). They need no key for it.",
		Example: "netboot: {server: \"http://192.0.2.1:8080\"}"},
	{Path: "netboot.server", MinLen: 1, Also: []string{"url", "address"},
		Doc:     "Base address of the boot server that a machine without a disk fetches its root payload from (`root/DIGEST` below it), used when DHCP names none. Plain HTTP: the digest is in the signed boot file, so it does not matter who answers.",
		Example: "server: http://192.0.2.1:8080"},
}
