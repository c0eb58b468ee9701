package serve

import (
	"net"
	"regexp"
	"slices"
	"strconv"
	"sync"

	"github.com/ingot-os/ingot/internal/strictyaml"
)

// Keys describes serve.yaml for the decoder, the schema and docs/serve-keys.md.
var Keys = sync.OnceValue(func() *strictyaml.Table {
	return strictyaml.NewTable(slices.Concat(releaseKeys, siteKeys, dhcpKeys, dhcp6Keys, fileKeys, ipxeKeys, trialKeys, attestKeys)...)
})

// listenPattern is an address of an interface, or none, with a port.
const listenPattern = `^(\[[0-9A-Fa-f:]+\]|[0-9A-Za-z.-]*):[0-9]{1,5}$`

var listenText = regexp.MustCompile(listenPattern)

func isListen(s string) bool { return listenText.MatchString(s) }

// listenKey is a key for the address of a listener.
func listenKey(path, def, doc string) strictyaml.Key {
	return strictyaml.Key{Path: path, Match: isListen, Pattern: listenPattern, Expect: `an address of this machine, or none for all, and a port: ":80" or "192.0.2.1:80"`,
		Default: strconv.Quote(def), Also: []string{"address", "port", "bind"}, Doc: doc, Example: "listen: " + strconv.Quote(def)}
}

// namePattern is a name of DNS, or an address.
const namePattern = `^([0-9A-Fa-f]*:[0-9A-Fa-f:.]+|[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*)$`

var nameText = regexp.MustCompile(namePattern)

func isName(s string) bool { return nameText.MatchString(s) }

const digestPattern = `^[0-9a-fA-F]{64}$`

var digestText = regexp.MustCompile(digestPattern)

const modelPattern = `^id:[0-9A-Fa-f]{8}(/[^/]*){0,2}$`

var modelText = regexp.MustCompile(modelPattern)

const linkPattern = `^[^/\s:]{1,15}$`

var linkText = regexp.MustCompile(linkPattern)

var releaseKeys = []strictyaml.Key{
	{Path: "releases", Required: true, MinLen: 1, Expect: "name at least one directory", Also: []string{"release", "images"},
		Doc:     "Image sets as `ingot build` writes them, or directories of image sets. They are looked at every 5 seconds: a set that appears under its name whole (make it beside, then rename) is served from then on; one that is not signed by `trust`, was edited or is half-copied is refused with the reason until its files change, and the others go on.",
		Example: "releases: [/srv/ingot/releases]"},
	{Path: "default", MinLen: 1, Without: "rules", Also: []string{"boot", "fallback"}, Default: "the only appliance there is; with several `local`",
		Doc:     "What every machine boots, when there are no `rules` (which have a `default` of their own): `NAME`, the newest release of an appliance; `NAME@VERSION`; or `local`: machines are told to go on with their next boot option.",
		Example: "default: hello"},
	{Path: "rules", MinLen: 1, Also: []string{"rule", "hosts"}, Default: "none",
		Doc:     "File of rules: which machine boots what ([netboot-rules.md](netboot-rules.md)). It is read again when it changes; a file with a mistake leaves the rules as they were.",
		Example: "rules: rules.yaml"},
	{Path: "machines", MinLen: 1, Also: []string{"machine"}, Default: "none",
		Doc:     "Directory of `machine.yaml` files for machines that run wholly from RAM: `NAME.yaml` by the name under which a host has enrolled, or `MAC.yaml` (`52-54-00-12-34-56.yaml`). They are checked before they are handed out.",
		Example: "machines: machines"},
}

var siteKeys = []strictyaml.Key{
	{Path: "keys", MinLen: 1, Default: "`$INGOT_KEYS`", Doc: "Key set made by `ingot keys init`. Of private keys only those of its authorities `server` and `hosts` are read; copy the set without the others to the server.", Example: "keys: /etc/ingot/keys"},
	{Path: "trust", Default: "the image key of `keys`", Doc: "Who may sign releases: directories that `ingot keys export` wrote, or PEM files with public keys.", Example: "trust: [/etc/ingot/trust]"},
	{Path: "insecureReleases", Default: "false", Also: []string{"insecure", "unsigned"}, Doc: "`true` takes releases that nobody has signed: for trying things out."},
	{Path: "state", MinLen: 1, Default: "`/var/lib/ingot` for root, else `~/.local/state/ingot`", Also: []string{"data", "stateDir"},
		Doc:     "Directory for all that the server knows: leases, boots, hosts, verdicts, its own key. Made with mode 0700, which an empty one of this user is given, too; one server at a time.",
		Example: "state: /var/lib/ingot"},
	{Path: "names", Also: []string{"name", "hostnames"}, Default: "`localhost`, this machine's name and addresses", Doc: "Names of DNS and addresses by which machines and operators reach the server; its certificates are for these.", Example: "names: [boot.example.com, 192.0.2.1]"},
	{Path: "names[]", Match: isName, Pattern: namePattern, Expect: "a name of DNS, or an address"},
	{Path: "interfaces", Also: []string{"interface", "links", "nics"}, Default: "for `proxy` every Ethernet link that is up and has an IPv4 address; for `full` those with an address in one of its subnets",
		Doc:     "Links on which DHCP is answered.",
		Example: "interfaces: [eth1]"},
	{Path: "interfaces[]", Match: linkText.MatchString, Pattern: linkPattern, Expect: "the name of a link as `ip link` prints it, at most 15 letters"},
	{Path: "address", Also: []string{"ip", "serverAddress"}, Default: "the first IPv4 address of the link that the question came by", Doc: "Address that machines are told to load from. It must be this machine's own, or one that is translated to it.", Example: "address: 192.0.2.1"},
	{Path: "user", MinLen: 1, Default: "stays who started it", Doc: "Started as root, the server opens its ports and files, and goes on as this user without any capability but those of its ports. Under systemd the unit does this, and the key is left away.", Example: "user: ingot"},
}

var dhcpKeys = []strictyaml.Key{
	{Path: "dhcp", Default: "`{mode: proxy}`", Doc: "DHCP for IPv4. `proxy` answers beside the DHCP server that there is: that one gives addresses, this one says what to boot. `full` gives both: exactly one such server may be on a network. `off` answers nobody: for files and attestation alone. [netboot-dhcp.md](netboot-dhcp.md)",
		Example: `dhcp:
  mode: full
  subnets:
    - subnet: 192.0.2.0/24
      pools: [192.0.2.100-192.0.2.200]
      router: 192.0.2.1
      dns: [192.0.2.53]
      reservations:
        - {mac: "52:54:00:12:34:56", address: 192.0.2.10, hostname: edge-1}
        - {circuit: "ge-0/0/7", remote: 0x525400aabb01, address: 192.0.2.11}`},
	{Path: "dhcp.mode", Enum: []string{ModeProxy, ModeFull, ModeOff}, Default: ModeProxy, Means: map[string]string{"server": ModeFull, "on": ModeFull, "none": ModeOff}, Doc: "`proxy`, `full` or `off`.", Example: "mode: full"},
	{Path: "dhcp.port", Min: 1, Max: 65535, Default: "67", Doc: "Port of DHCP servers. Firmware knows 67 only; another one is for tests."},
	{Path: "dhcp.proxyPort", Min: 1, Max: 65535, Default: "4011", Doc: "Port of the PXE boot server, which some firmware asks after it has an address."},
	{Path: "dhcp.relays", Also: []string{"relay", "giaddr"}, Default: "those in a subnet of `subnets`; for `proxy` none", Doc: "Relay agents that are answered, by the address that they put into giaddr.", Example: "relays: [198.51.100.1]"},
	{Path: "dhcp.trustCircuit", Default: "false", Also: []string{"trust", "trustOption82"}, Doc: "`true` believes option 82 from machines on the own links, too: only where the switch adds it (DHCP snooping) and drops what machines forge. From relay agents it always counts."},
	{Path: "dhcp.reservations", MinLen: 1, With: "subnets", Default: "none", Doc: "File with a line for each machine, `MAC ADDRESS [NAME]`, for more of them than one writes under `subnets`: up to 65536. The address says of which subnet it is; `#` begins a comment. It is read again with `serve.yaml`.", Example: "reservations: machines.txt"},
	{Path: "dhcp.subnets", Also: []string{"subnet", "networks", "ranges"}, Doc: "Where addresses are given, for `full`: the subnet of each link that is served, and those behind relays."},
	{Path: "dhcp.subnets[].subnet", Required: true, Also: []string{"network", "cidr", "prefix"}, Doc: "The subnet.", Example: "subnet: 192.0.2.0/24"},
	{Path: "dhcp.subnets[].pools", Also: []string{"pool", "range", "ranges"}, Default: "none: reservations only", Doc: "Addresses for machines without a reservation: up to 65,536 in a subnet, and up to 262,144 in all subnets, reservations included.", Example: "pools: [192.0.2.100-192.0.2.200]"},
	{Path: "dhcp.subnets[].router", Also: []string{"gateway"}, Default: "none", Doc: "Default route.", Example: "router: 192.0.2.1"},
	{Path: "dhcp.subnets[].dns", Also: []string{"nameservers"}, Doc: "Resolvers.", Example: "dns: [192.0.2.53]"},
	{Path: "dhcp.subnets[].ntp", Doc: "Time servers.", Example: "ntp: [192.0.2.123]"},
	{Path: "dhcp.subnets[].domain", MaxLen: 253, Match: isName, Pattern: namePattern, Expect: "a name of DNS", Doc: "Domain of the machines.", Example: "domain: example.com"},
	{Path: "dhcp.subnets[].lease", Default: "1h", Also: []string{"leaseTime", "ttl"}, Doc: "How long an address is given, 2m to 720h.", Example: "lease: 12h"},
	{Path: "dhcp.subnets[].reservations", Also: []string{"hosts", "static"}, Doc: "Addresses for machines that are known."},
	{Path: "dhcp.subnets[].reservations[]", Any: []string{"mac", "circuit", "remote"}},
	{Path: "dhcp.subnets[].reservations[].mac", Also: []string{"macaddress", "hwaddr"}, Doc: "Hardware address.", Example: `mac: "52:54:00:12:34:56"`},
	{Path: "dhcp.subnets[].reservations[].circuit", Without: "mac", Also: []string{"circuitId", "circuit-id", "port"}, Doc: "Whatever machine is at this port: circuit id of option 82, as text or as bytes in hexadecimal (0x00040007).", Example: `circuit: "ge-0/0/7"`},
	{Path: "dhcp.subnets[].reservations[].remote", Without: "mac", Also: []string{"remoteId", "remote-id", "switch"}, Doc: "Which switch or modem `circuit` is of: remote id of option 82. Alone: whatever machine is behind it.", Example: "remote: 0x525400aabb01"},
	{Path: "dhcp.subnets[].reservations[].address", Required: true, Also: []string{"ip"}, Doc: "Address in the subnet; it may lie in a pool, and is given to nobody else.", Example: "address: 192.0.2.10"},
	{Path: "dhcp.subnets[].reservations[].hostname", MaxLen: 63, Match: isName, Pattern: namePattern, Expect: "a name of DNS", Also: []string{"name", "host"}, Doc: "Name that the machine is told.", Example: "hostname: edge-1"},
}

var dhcp6Keys = []strictyaml.Key{
	{Path: "dhcp6", Default: "`{mode: off}`", Doc: "DHCPv6. `proxy` answers what to boot to clients that have their address from elsewhere; `full` gives addresses, too.",
		Example: `dhcp6:
  mode: full
  subnets:
    - {subnet: "2001:db8:7::/64", pool: "2001:db8:7::100-2001:db8:7::1ff", advertise: true}`},
	{Path: "dhcp6.mode", Enum: []string{ModeProxy, ModeFull, ModeOff}, Default: ModeOff, Means: map[string]string{"server": ModeFull, "on": ModeFull, "stateful": ModeFull, "stateless": ModeProxy, "none": ModeOff}, Doc: "`proxy`, `full` or `off`.", Example: "mode: full"},
	{Path: "dhcp6.relays", Also: []string{"relay"}, Default: "those on a link of `subnets`", Doc: "Relay agents that may forward to this server, by the address that they send from. They are needed with `proxy`, which has no `subnets`.", Example: `relays: ["2001:db8:7::1"]`},
	{Path: "dhcp6.subnets", Also: []string{"subnet", "networks"}, Doc: "Where addresses are given, for `full`."},
	{Path: "dhcp6.subnets[].subnet", Required: true, Also: []string{"network", "prefix"}, Doc: "The subnet.", Example: `subnet: "2001:db8:7::/64"`},
	{Path: "dhcp6.subnets[].pool", Required: true, Also: []string{"range", "pools"}, Doc: "Addresses that are given.", Example: `pool: "2001:db8:7::100-2001:db8:7::1ff"`},
	{Path: "dhcp6.subnets[].dns", Doc: "Resolvers.", Example: `dns: ["2001:db8::53"]`},
	{Path: "dhcp6.subnets[].lease", Default: "1h", Also: []string{"leaseTime"}, Doc: "Preferred lifetime of an address, 2m to 720h; it is valid for twice as long.", Example: "lease: 12h"},
	{Path: "dhcp6.subnets[].advertise", Default: "false", Also: []string{"ra"}, Doc: "`true` sends router advertisements that tell machines to ask by DHCPv6. For networks without a router; beside one, that one must say so (flags M and O).", Example: "advertise: true"},
}

var fileKeys = []strictyaml.Key{
	{Path: "tftp", Doc: "TFTP, for PXE. Read only; nothing but the boot files of releases can be read. [netboot-tftp.md](netboot-tftp.md)", Example: "tftp: {transfers: 512}"},
	{Path: "tftp.off", Default: "false", Doc: "`true` serves no TFTP."},
	listenKey("tftp.listen", ":69", "Address and port. Firmware asks on 69."),
	{Path: "tftp.transfers", Min: 1, Max: 65536, Default: "4096", Also: []string{"max", "clients"}, Doc: "Transfers at once; further clients wait, and get no error."},
	{Path: "http", Doc: "HTTP, for UEFI HTTP Boot, iPXE, and the root file systems of machines that run from RAM. [netboot-http.md](netboot-http.md)", Example: `http: {listen: ":8080"}`},
	{Path: "http.off", Default: "false", Doc: "`true` serves no HTTP."},
	listenKey("http.listen", ":80", "Address and port. Another port is named in the URL that firmware gets."),
	{Path: "http.connections", Min: 1, Max: 1 << 20, Default: "4096", Also: []string{"max", "clients"}, Doc: "Connections at once."},
	{Path: "http.perAddress", Min: 1, Max: 1 << 20, Default: "256", Also: []string{"perClient"}, Doc: "Connections at once of one client address, for HTTP and HTTPS together; one more is closed at once. A machine has one or two. Machines behind one NAT or proxy come from one address: raise it to twice their number."},
	{Path: "https", Doc: "The same files over TLS, for UEFI HTTPS Boot. Firmware must have the authority enrolled. [netboot-http.md](netboot-http.md)", Example: "https: {on: true, prefer: true}"},
	{Path: "https.on", Default: "false", Also: []string{"enabled"}, Doc: "`true` serves HTTPS."},
	listenKey("https.listen", ":443", "Address and port."),
	{Path: "https.cert", MinLen: 1, With: "key", Default: "one by the boot authority in `state`", Doc: "Certificate with its chain in PEM. Firmware of Debian 12's age takes RSA keys only.", Example: "cert: boot.crt"},
	{Path: "https.key", MinLen: 1, With: "cert", Doc: "Private key of `cert` in PEM.", Example: "key: boot.key"},
	{Path: "https.prefer", Default: "false", Doc: "`true` gives HTTP Boot clients an address of HTTPS. Firmware without the authority then loads nothing."},
}

var trialKeys = []strictyaml.Key{
	{Path: "trial", Also: []string{"slots", "tries", "update"}, Doc: "How a machine without a disk tries a release that was assigned to it: the server keeps its slots. What is not trusted does not become good, whatever stands here. [updates.md](updates.md#machines-without-a-disk)", Example: "trial: {health: 5m, limit: 20m}"},
	{Path: "trial.tries", Min: 1, Max: 100, Default: "3", Doc: "Failures after which a release is not tried again by that machine."},
	{Path: "trial.health", Default: "1m", Doc: "For how long the machine must be healthy without a gap until the release is good.", Example: "health: 5m"},
	{Path: "trial.limit", Default: "10m", Also: []string{"timeout"}, Doc: "Until when it must be healthy; then the try has failed, and the machine starts again with the last good release.", Example: "limit: 20m"},
	{Path: "trial.window", Default: "15m", Also: []string{"ttl"}, Doc: "How long an attempt lasts that does not attest: within it the machine gets the same release again, since power may fail in the middle of a download. Not shorter than its slowest boot.", Example: "window: 30m"},
}

var ipxeKeys = slices.Concat([]strictyaml.Key{
	{Path: "ipxe", Also: []string{"chain"}, Default: "none: a BIOS is told to go on with its next boot option",
		Doc: "iPXE, for what cannot start a UKI from the network: a BIOS, and UEFI machines that a rule sends this way ([netboot-chain.md](netboot-chain.md)). Each program is pinned by its digest. Debian's package ipxe has them.",
		Example: `ipxe:
  bios:
    file: /usr/lib/ipxe/undionly.kpxe
    sha256: 1111111111111111111111111111111111111111111111111111111111111111`},
}, ipxeProgram("bios", "for BIOS"), ipxeProgram("x64", "for UEFI on x86-64"), ipxeProgram("arm64", "for UEFI on ARM64"))

func ipxeProgram(key, what string) []strictyaml.Key {
	return []strictyaml.Key{
		{Path: "ipxe." + key, Doc: "iPXE " + what + "."},
		{Path: "ipxe." + key + ".file", Required: true, MinLen: 1, Doc: "The program."},
		{Path: "ipxe." + key + ".sha256", Required: true, Match: digestText.MatchString, Pattern: digestPattern, Expect: "a SHA-256 of 64 hexadecimal digits", Doc: "Its SHA-256."},
	}
}

var attestKeys = []strictyaml.Key{
	{Path: "attest", Doc: "The attestation API, as `ingot attest serve` has it: [attest-serve.md](attest-serve.md). Without `keys` or `cert` it is off.", Example: "attest: {interval: 1m, policy: policy.yaml}"},
	{Path: "attest.off", Default: "false", Doc: "`true` serves no attestation API."},
	listenKey("attest.listen", ":9444", "Address and port."),
	{Path: "attest.interval", Default: "1m", Doc: "Time between two proofs of a host, at least 1s.", Example: "interval: 5m"},
	{Path: "attest.policy", MinLen: 1, Doc: "What else you demand ([attest-policy.md](attest-policy.md)).", Example: "policy: policy.yaml"},
	{Path: "attest.secrets", MinLen: 1, Doc: "Directory of secrets: `NAME` for all attested hosts, `HOST/NAME` for one.", Example: "secrets: secrets"},
	{Path: "attest.ekRoots", Also: []string{"ekRoot", "ek-root"}, Doc: "Certificates of makers of TPMs, PEM or DER, or directories of such.", Example: "ekRoots: [/etc/ingot/ek]"},
	{Path: "attest.requireChain", Default: "false", Doc: "`true` refuses hosts that no maker vouches for, instead of letting them wait."},
	{Path: "attest.denyTPM", Doc: "Kinds of TPM that are refused, as certificates name them.", Example: `denyTPM: ["id:49465800/SLB9670"]`},
	{Path: "attest.denyTPM[]", Match: modelText.MatchString, Pattern: modelPattern, Expect: "id: and eight hexadecimal digits, then /MODEL and /VERSION if you like"},
	{Path: "attest.revokedEK", Doc: "Certificates, or keys in such, that are refused: their SHA-256."},
	{Path: "attest.revokedEK[]", Match: digestText.MatchString, Pattern: digestPattern, Expect: "a SHA-256 of 64 hexadecimal digits"},
	{Path: "attest.cert", MinLen: 1, With: "key", Doc: "A certificate of your own with its chain in PEM, instead of one by the key set."},
	{Path: "attest.key", MinLen: 1, With: "cert", Doc: "Private key of `cert` in PEM."},
	{Path: "metrics", Doc: "Metrics for Prometheus at `/metrics`, and `/healthz`: [serve.md](serve.md) lists them.", Example: `metrics: {listen: "localhost:9445"}`},
	{Path: "metrics.off", Default: "false", Doc: "`true` serves none."},
	listenKey("metrics.listen", "localhost:9445", "Address and port. Whoever reaches it learns how many machines boot, and no address of one."),
}

// splitListen checks that a listener's address has a port.
func splitListen(s string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, err
	}
	port, err = strconv.Atoi(text)
	return host, port, err
}
