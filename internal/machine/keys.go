package machine

import (
	"slices"
	"sync"

	"github.com/ingot-os/ingot/internal/strictyaml"
)

// Keys describes machine.yaml for the decoder, the schema and docs/machine.md.
var Keys = sync.OnceValue(func() *strictyaml.Table {
	return strictyaml.NewTable(slices.Concat(machineKeys, strictyaml.Under("network", NetworkKeys))...)
})

var machineKeys = []strictyaml.Key{
	// The kernel keeps 64 bytes (HOST_NAME_MAX); a longer name would be found out by the machine only.
	{Path: "hostname", MaxLen: 64, Match: isHostname, Pattern: `^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`,
		Expect: "lower case letters, digits and dashes, parts joined by dots (RFC 1123)", Also: []string{"name", "host"},
		Default: "the recipe's name",
		Doc:     "The machine's name: what the kernel reports, what DHCP sends and what the logs say.",
		Example: "hostname: edge-042.site-7.example.com"},
	{Path: "labels", Match: isLabel, Pattern: `^[a-zA-Z0-9]([a-zA-Z0-9._/-]{0,62})$`, Expect: "letters, digits, dots, dashes, slashes and underscores, at most 63", Also: []string{"tags"},
		Doc:     "Free names and texts that the fleet server can select machines by. They are shown in `/v1/status`.",
		Example: "labels:\n  site: oslo-7\n  ring: canary"},
	{Path: "server", MinLen: 1, Also: []string{"url"},
		Doc:     "Base address of `ingot serve`. It wins over the address that DHCP announces. The address itself is not trusted: TLS is checked against the authority built into the image.",
		Example: "server: https://ingot.example.com"},
	{Path: "ntp",
		Default: "the recipe's servers",
		Doc:     "Time servers, names or addresses. They replace those of the recipe.",
		Example: "ntp: [192.0.2.123]"},
}

// NetworkKeys describes one list of links, below a path such as "network".
// Recipes use the same table.
var NetworkKeys = []strictyaml.Key{
	{Path: "", Also: []string{"networks", "interfaces", "links", "nics"},
		Doc: "One entry for each kind of link. The first entry whose `match` fits configures a link; a link that no entry fits stays down. The loopback link is always up.",
		Example: `network:
  - match: {driver: virtio_net}
    dhcp: true
  - match: {mac: "52:54:00:12:34:56"}
    address: ["192.0.2.10/24", "2001:db8::10/64"]
    gateway: 192.0.2.1
    dns: [192.0.2.53]`},
	{Path: "[].match", Default: "every Ethernet link",
		Doc: "Which links this entry is for; everything that is given must agree. Links are waited for, so a slow card is found too."},
	{Path: "[].match.name", MinLen: 1, Doc: "Name of the link as the kernel gives it, or a pattern with `*` and `?`. Names depend on the order in which drivers load: prefer `mac`, `driver` or `path`.", Example: `name: "eth*"`, Also: []string{"interface"}},
	{Path: "[].match.mac", Match: isMAC, Pattern: `^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$`, Expect: "six bytes in hexadecimal with colons: \"52:54:00:12:34:56\"", Doc: "Permanent hardware address.", Example: `mac: "52:54:00:12:34:56"`, Also: []string{"macaddress", "hwaddr"}},
	{Path: "[].match.driver", MinLen: 1, Doc: "Name of the kernel driver.", Example: "driver: igb"},
	{Path: "[].match.path", MinLen: 1, Doc: "Place on the bus as in `/sys`, or a pattern.", Example: `path: "pci-0000:00:02.0"`},
	{Path: "[].dhcp", Default: "false", Doc: "Ask for an IPv4 address by DHCP, again and again until one comes.", Example: "dhcp: true", Also: []string{"dhcp4"}},
	{Path: "[].address", Doc: "Static addresses with prefix length, IPv4 and IPv6.", Example: `address: ["192.0.2.10/24"]`, Also: []string{"addresses", "ip", "static"}},
	{Path: "[].gateway", MinLen: 1, Doc: "Default route; it must lie in the subnet of one of the addresses, or be an IPv6 link-local address.", Example: "gateway: 192.0.2.1", Also: []string{"router", "gateway4"}},
	{Path: "[].dns", Doc: "Resolvers, by address. Without any, those of DHCP are used.", Example: "dns: [192.0.2.53]", Also: []string{"nameservers", "resolvers"}},
	{Path: "[].mtu", Min: 68, Max: 65535, Default: "the driver's", Doc: "Largest packet in bytes. IPv6 needs at least 1280.", Example: "mtu: 9000"},
	{Path: "[].vlan", Min: 1, Max: 4094, Doc: "802.1Q number: the addresses go to a VLAN link on top of the matched one.", Example: "vlan: 42"},
	{Path: "[].bond", Doc: "Join all matched links into one. The addresses go to the bond.", Example: "bond: {name: bond0, mode: 802.3ad}"},
	{Path: "[].bond.name", Required: true, Match: isBondName, Pattern: `^[a-z][a-z0-9_.-]{0,14}$`, Expect: "a lower case letter, then at most 14 of letters, digits, dot, dash and underscore", Doc: "Name of the new link.", Example: "name: bond0"},
	{Path: "[].bond.mode", Required: true, Enum: []string{"active-backup", "802.3ad", "balance-rr", "balance-xor", "broadcast", "balance-tlb", "balance-alb"}, Doc: "How the members share the traffic, as in the kernel's bonding documentation. `802.3ad` needs a switch with LACP.", Example: "mode: active-backup"},
	{Path: "[].ra", Default: "false", Doc: "Accept IPv6 router advertisements: address, route and resolvers.", Example: "ra: true", Also: []string{"ipv6", "accept-ra", "dhcp6"}},
}
