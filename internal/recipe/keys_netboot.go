package recipe

import "github.com/ingot-os/ingot/internal/strictyaml"

var netbootKeys = []strictyaml.Key{
	{Path: "netboot", Also: []string{"pxe"},
		Doc:     "For machines that boot over the network and run from memory: [netboot-ram.md](netboot-ram.md). They need no key for it.",
		Example: "netboot: {server: \"http://192.0.2.1:8080\"}"},
	{Path: "netboot.server", MinLen: 1, Also: []string{"url", "address"},
		Doc:     "Base address of the boot server that a machine without a disk fetches its root payload from (`root/DIGEST` below it), used when DHCP names none. Plain HTTP: the digest is in the signed boot file, so it does not matter who answers.",
		Example: "server: http://192.0.2.1:8080"},
	{Path: "install",
		Doc: "Lets a machine that was booted over the network put itself on a disk and start from there. It does so only with a ticket of its server (`ingot hosts HOST --boot-once install`), never on a disk that an ingot system has run from (the ticket may force it), and, without `wipe`, only on an empty one. Needs `attest` and `trust`.",
		Example: `install:
  to: {minSize: 32G}
attest: {}
trust: {keys: ./trust}`},
	{Path: "install.to", Required: true, Also: []string{"target"},
		Expect:  "say what stays the same: {path: pci-0000:00:04.0}, {serial: S6PTNM0T*} or {minSize: 32G}; a name like /dev/sda is another disk's after the next start",
		Doc:     "Which disk. All of what is given must be so, and exactly one disk of the machine must be left; `{}` is right where there is one only. Removable disks never count, disks on USB and SD cards only with `path` or `serial`. A machine that finds none or several writes nothing and lists those that it has, by these names.",
		Example: "to: {path: pci-0000:00:04.0}"},
	{Path: "install.to.path", MinLen: 1, Also: []string{"by-path"}, Doc: "Place on the bus; `*` and `?` stand for others. A name from `/dev/disk/by-path` is right, too.", Example: `path: "pci-0000:00:1f.2*"`},
	{Path: "install.to.serial", MinLen: 1, Also: []string{"wwid", "id", "by-id"}, Doc: "Serial number or WWID; `*` and `?` stand for others. A name from `/dev/disk/by-id` is right, too.", Example: `serial: "S6*"`},
	{Path: "install.to.model", MinLen: 1, Doc: "Model as the disk says it; `*` and `?` stand for others.", Example: `model: "SAMSUNG*"`},
	{Path: "install.to.minSize", Also: []string{"min", "min_size", "size"}, Doc: "Least size.", Example: "minSize: 32G"},
	{Path: "install.to.maxSize", Also: []string{"max", "max_size"}, Doc: "Greatest size.", Example: "maxSize: 2T"},
	{Path: "install.wipe", Default: "false", Also: []string{"erase", "overwrite"},
		Doc: "`true` takes a disk with any content but an ingot system's. What was on it is gone.", Example: "wipe: true"},
}
