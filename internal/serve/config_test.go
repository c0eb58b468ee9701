package serve

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/golden"
	"github.com/ingot-os/ingot/internal/strictyaml"
	"github.com/ingot-os/ingot/internal/strictyaml/keydoc/keydoctest"
	"github.com/ingot-os/ingot/pxe/dhcp"
)

const whole = `# a site
releases: [releases, /srv/more]
rules: rules.yaml
machines: machines
keys: keys
trust: [trust.pem]
insecureReleases: false
state: /var/lib/ingot
names: [boot.example.com, 192.0.2.1, "2001:db8::1"]
interfaces: [eth1]
address: 192.0.2.1
user: ingot
dhcp:
  mode: full
  relays: [198.51.100.1]
  trustCircuit: true
  subnets:
    - subnet: 192.0.2.0/24
      pools: [192.0.2.100-192.0.2.150, 192.0.2.160 - 192.0.2.170]
      router: 192.0.2.1
      dns: [192.0.2.53]
      ntp: [192.0.2.123]
      domain: example.com
      lease: 12h
      reservations:
        - {mac: "52:54:00:12:34:56", address: 192.0.2.10, hostname: edge-1}
        - {circuit: ge-0/0/7, remote: 0x525400aabb01, address: 192.0.2.11}
        - {circuit: 7, address: 192.0.2.12}
dhcp6:
  mode: full
  subnets:
    - {subnet: "2001:db8:7::/64", pool: "2001:db8:7::100-2001:db8:7::1ff", dns: ["2001:db8::53"], lease: 2h, advertise: true}
tftp: {listen: "192.0.2.1:69", transfers: 100}
http: {listen: ":8080", connections: 100, perAddress: 10}
https: {on: true, listen: ":8443", cert: c.pem, key: k.pem, prefer: true}
attest: {interval: 5m, policy: p.yaml, secrets: s, ekRoots: [ek], requireChain: true, denyTPM: ["id:49465800/SLB9670"], revokedEK: ["` + digest0 + `"]}
metrics: {listen: "[::1]:9445"}
`

const digest0 = "0000000000000000000000000000000000000000000000000000000000000000"

func TestParseWholeFile(t *testing.T) {
	c, err := Parse("/etc/ingot/serve.yaml", []byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ got, want string }{
		{c.Releases[0], "/etc/ingot/releases"}, {c.Releases[1], "/srv/more"}, {c.Rules, "/etc/ingot/rules.yaml"}, {c.HTTPS.Cert, "/etc/ingot/c.pem"},
		{c.Attest.EKRoots[0], "/etc/ingot/ek"}, {c.DHCP.Subnets[0].Pools[1].String(), "192.0.2.160-192.0.2.170"},
		{c.DHCP.Subnets[0].Reservations[0].MAC.String(), "52:54:00:12:34:56"}, {c.Attest.Listen, ":9444"}, {c.TFTP.Listen, "192.0.2.1:69"},
	} {
		if tt.got != tt.want {
			t.Errorf("%q, want %q", tt.got, tt.want)
		}
	}
	if got := time.Duration(c.DHCP.Subnets[0].Lease); got != 12*time.Hour || c.DHCP.Port != 67 || c.DHCP.ProxyPort != 4011 {
		t.Errorf("lease %s, ports %d and %d", got, c.DHCP.Port, c.DHCP.ProxyPort)
	}
	for i, want := range []dhcp.Port{{}, {Circuit: "ge-0/0/7", Remote: "\x52\x54\x00\xaa\xbb\x01"}, {Circuit: "7"}} {
		if got := c.DHCP.Subnets[0].Reservations[i].port(); got != want {
			t.Errorf("reservation %d is of %+v, want %+v", i, got, want)
		}
	}
	// What the parser takes, the policy takes, too.
	if _, err := dhcp.Compile((&Server{c: c}).dhcpConfig(c)); err != nil {
		t.Error(err)
	}
}

func TestSmallestFile(t *testing.T) {
	c, err := Parse("serve.yaml", []byte("releases: [out]\n"))
	if err != nil {
		t.Fatal(err)
	}
	if c.DHCP.Mode != ModeProxy || c.DHCP6.Mode != ModeOff || c.TFTP.Off || c.HTTP.Off || c.HTTPS.On || !c.Attest.Off {
		t.Errorf("%+v", c)
	}
	if filepath.IsAbs(c.Releases[0]) || c.State == "" {
		t.Errorf("%q, %q", c.Releases, c.State)
	}
}

const one = "releases: [out]\n"

// full begins a file whose dhcp gives addresses; what follows is in its subnet.
const full = one + "dhcp:\n  mode: full\n  subnets:\n    - subnet: 192.0.2.0/24\n"

// TestReservations: a file of 10,000 machines is read into the subnets, and the policy takes it.
func TestReservations(t *testing.T) {
	var b strings.Builder
	b.WriteString("# MAC address name\n\n")
	for i := range 10000 {
		fmt.Fprintf(&b, "52:54:00:%02x:%02x:%02x\t10.64.%d.%d node-%d # %d\n", i>>16, i>>8&255, i&255, 1+i/250, 1+i%250, i, i)
	}
	c, err := reserved(t, b.String())
	if err != nil {
		t.Fatal(err)
	}
	list := c.DHCP.Subnets[1].Reservations
	if len(list) != 10001 || list[10000].MAC.String() != "52:54:00:00:27:0f" || list[10000].Address.String() != "10.64.40.250" || list[10000].Hostname != "node-9999" {
		t.Errorf("%d, the last is %+v", len(list), list[len(list)-1])
	}
	if _, err := dhcp.Compile((&Server{c: c}).dhcpConfig(c)); err != nil {
		t.Error(err)
	}
	_, err = reserved(t, strings.Join([]string{
		"52:54:00:00:00:01 10.64.0.1", "52:54:00:00:00:01", "52:54:00:00:00:0g 10.64.0.1", "52:54:00:00:00:02 10.64.0.300", "52:54:00:00:00:02 192.0.2.1",
		"52:54:00:00:00:02 10.64.0.1", "52:54:00:00:00:01 10.64.0.2", "52:54:00:00:00:02 10.64.0.2 not_a_name", "52:54:00:00:00:02 10.127.255.255", "52:54:00:00:00:02 10.64.0.254", "52:54:00:aa:00:00 10.64.0.9",
		"52:54:00:00:00:03 10.64.0.99",
	}, "\n"))
	for i, want := range []string{
		"", "2: 1 words: a line is MAC ADDRESS [NAME]", `3: ["52:54:00:00:00:0g" "10.64.0.1"] is not the hardware address of a machine`, `4: ["52:54:00:00:00:02" "10.64.0.300"] is not an address of a host`, "5: 192.0.2.1 is in no subnet of dhcp",
		"6: 10.64.0.1 is reserved in ", "7: 52:54:00:00:00:01 has an address of 10.64.0.0/10 in ", `8: "not_a_name" is not a name of DNS`, "9: 10.127.255.255 is the network or broadcast address of", "10: 10.64.0.254 is the router of",
		"11: 52:54:00:aa:00:00 has an address of 10.64.0.0/10 in serve.yaml, too", "12: 10.64.0.99 is reserved in serve.yaml, too",
	} {
		if err == nil || want != "" && !strings.Contains(err.Error(), "machines.txt:"+want) {
			t.Errorf("line %d: want %s in\n%v", i+1, want, err)
		}
	}
	if _, err := reserved(t, strings.Repeat("x\n", 100)); strings.Count(err.Error(), "\n") != maxMistakes {
		t.Errorf("%v", err)
	}
}

// FuzzReservations: whatever the file has is taken or refused with its line, and what is taken
// the policy takes, too.
func FuzzReservations(f *testing.F) {
	f.Add([]byte("52:54:00:00:00:01 10.64.0.1 a\n# x\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("s.yaml", []byte(full+"      pools: [192.0.2.100-192.0.2.150]\n"))
		if err != nil {
			t.Fatal(err)
		}
		r := &reservationReader{file: "m", subnets: c.DHCP.Subnets, seen: map[any]string{}}
		if r.read(data) == nil {
			if _, err := dhcp.Compile((&Server{c: c}).dhcpConfig(c)); err != nil {
				t.Error(err)
			}
		}
	})
}

// reserved loads a configuration with a file of reservations.
func reserved(t *testing.T, text string) (*Config, error) {
	t.Helper()
	dir := t.TempDir()
	put(t, filepath.Join(dir, "machines.txt"), text)
	put(t, filepath.Join(dir, "serve.yaml"), one+"dhcp:\n  mode: full\n  reservations: machines.txt\n  subnets:\n    - subnet: 10.128.0.0/10\n    - subnet: 10.64.0.0/10\n      router: 10.64.0.254\n      reservations: [{mac: \"52:54:00:aa:00:00\", address: 10.64.0.99}]\n")
	return Load(filepath.Join(dir, "serve.yaml"))
}

// bad are broken files; structural says whether the schema must see it too.
var bad = []struct {
	name, text, want string
	structural       bool
}{
	{"no releases", "default: hello\n", "key releases is missing", true},
	{"default beside rules", one + "default: a\nrules: r.yaml\n", "default", true},
	{"unknown key", one + "dchp: {mode: full}\n", `s.yaml:2:1: unknown key "dchp"` + "\nhint: did you mean dhcp:?", true},
	{"other name", one + "interface: eth0\n", "write interfaces: instead", true},
	{"unknown below", one + "tftp: {blocksize: 512}\n", `unknown key "blocksize"`, true},
	{"mode", one + "dhcp: {mode: on}\n", "s.yaml:2:14: dhcp.mode is \"on\"", true},
	{"port", one + "dhcp: {port: 70000}\n", "dhcp.port is 70000, out of range", true},
	{"listen", one + "http: {listen: 80}\n", "http.listen is a number (80), want text", true},
	{"listen without port", one + "http: {listen: localhost}\n", `http.listen is "localhost", which is not allowed`, true},
	{"no such port", one + `http: {listen: ":99999"}` + "\n", "no such port", false},
	{"one port twice", one + "http: {listen: \":8443\"}\nhttps: {on: true, listen: \":8443\"}\n", "https.listen is on port 8443, as http.listen is", false},
	{"address", one + "address: 192.0.2.300\n", "s.yaml:2:10: address is \"192.0.2.300\": not an address of a host", false},
	{"address of six", one + "address: \"2001:db8::1\"\n", "not an IPv4 address", false},
	{"full without subnets", one + "dhcp: {mode: full}\n", "dhcp.mode is full, and there is no subnet", false},
	{"subnets of a proxy", one + "dhcp: {subnets: [{subnet: 192.0.2.0/24}]}\n", "dhcp.subnets has no meaning with mode proxy", false},
	{"subnet", one + "dhcp: {mode: full, subnets: [{subnet: 192.0.2.7/24, pools: [192.0.2.8-192.0.2.9]}]}\n", "an address in a subnet, not a subnet\nhint: write 192.0.2.0/24", false},
	{"no address to give", full, "has neither pools nor reservations", false},
	{"pool", full + "      pools: [192.0.2.100]\n", "not a range of addresses", true},
	{"pool backwards", full + "      pools: [192.0.2.100-192.0.2.50]\n", "ends before it begins\nhint: write 192.0.2.50-192.0.2.100", false},
	{"pool outside", full + "      pools: [192.0.3.1-192.0.3.5]\n", "192.0.3.1 is outside the subnet 192.0.2.0/24", false},
	{"pool to the end", full + "      pools: [192.0.2.1-192.0.2.255]\n", "192.0.2.255 is the network or broadcast address", false},
	{"pools overlap", full + "      pools: [192.0.2.1-192.0.2.5, 192.0.2.5-192.0.2.9]\n", "overlaps 192.0.2.1-192.0.2.5", false},
	{"router in pool", full + "      pools: [192.0.2.1-192.0.2.9]\n      router: 192.0.2.1\n", "which has the router 192.0.2.1 in it", false},
	{"router outside", full + "      pools: [192.0.2.1-192.0.2.9]\n      router: 192.0.3.1\n", "192.0.3.1 is outside the subnet", false},
	{"lease", full + "      pools: [192.0.2.1-192.0.2.9]\n      lease: 10s\n", "lease is 10s, out of range", false},
	{"lease not a duration", full + "      pools: [192.0.2.1-192.0.2.9]\n      lease: 3600\n", `lease is "3600": not a duration`, true},
	{"mac", full + "      reservations: [{mac: 5254.0012.3456, address: 192.0.2.5}]\n", "not the hardware address of a machine", true},
	{"group mac", full + "      reservations: [{mac: \"01:00:5e:00:00:01\", address: 192.0.2.5}]\n", "not the hardware address of a machine", false},
	{"neither mac nor port", full + "      reservations: [{address: 192.0.2.5}]\n", "mac, circuit, remote", true},
	{"mac and port", full + "      reservations: [{mac: \"52:54:00:00:00:01\", circuit: a, address: 192.0.2.5}]\n", "circuit", true},
	{"port twice", full + "      reservations: [{circuit: a, remote: b, address: 192.0.2.5}, {circuit: \"0x61\", remote: b, address: 192.0.2.6}]\n", `circuit is circuit id "a" of remote id "b", which dhcp.subnets[0].reservations[0] has, too`, false},
	{"port with bad digits", full + "      reservations: [{circuit: \"0x6\", address: 192.0.2.5}]\n", "no id of option 82\nhint: write it as the switch shows it", false},
	{"no connection of an address", one + "http: {perAddress: 0}\n", "http.perAddress is 0, out of range", true},
	{"mac twice", full + "      reservations: [{mac: \"52:54:00:00:00:01\", address: 192.0.2.5}, {mac: \"52:54:00:00:00:01\", address: 192.0.2.6}]\n", "mac is 52:54:00:00:00:01, which dhcp.subnets[0].reservations[0] has, too", false},
	{"address twice", full + "      reservations: [{mac: \"52:54:00:00:00:01\", address: 192.0.2.5}, {mac: \"52:54:00:00:00:02\", address: 192.0.2.5}]\n", "address is 192.0.2.5, which", false},
	{"six in four", one + "dhcp: {mode: full, subnets: [{subnet: \"2001:db8::/64\", pools: [\"2001:db8::1-2001:db8::2\"]}]}\n", "not an IPv4 subnet\nhint: IPv6 is under dhcp6", false},
	{"four in six", one + "dhcp6: {mode: full, subnets: [{subnet: 192.0.2.0/24, pool: 192.0.2.1-192.0.2.2}]}\n", "not an IPv6 subnet", false},
	{"relay of six", one + "dhcp: {relays: [\"2001:db8::1\"]}\n", "not an IPv4 address", false},
	{"relay of four", one + "dhcp6: {mode: proxy, relays: [192.0.2.1]}\n", "not an IPv6 address", false},
	{"prefer without", one + "https: {prefer: true}\n", "https.prefer has no meaning while HTTPS is off", false},
	{"cert without key", one + "https: {on: true, cert: c.pem}\n", "https.cert needs key beside it", true},
	{"interval", one + "attest: {interval: 10ms}\n", "at least one second", false},
	{"trial too short", one + "trial: {window: 10ms}\n", "trial.window is 10ms: at least one second", false},
	{"trial that nothing passes", one + "trial: {limit: 30s}\n", "trial.limit is 30s, shorter than the 1m0s for which", false},
	{"no tries", one + "trial: {tries: 101}\n", "trial.tries is 101, out of range", true},
	{"deny", one + "attest: {denyTPM: [Infineon]}\n", "attest.denyTPM[0] is \"Infineon\", which is not allowed", true},
	{"link name", one + "interfaces: [this-name-is-too-long]\n", "which is not allowed", true},
	{"nothing serves files", one + "tftp: {off: true}\nhttp: {off: true}\n", "DHCP would name files that nothing serves", false},
	{"empty", "", "s.yaml:1:1: the file is empty\nhint: the least that it has: releases: [DIR]", false},
	{"reservations without subnets", one + "dhcp: {reservations: m.txt}\n", "dhcp.reservations needs subnets beside it", true},
	{"two documents", one + "---\nreleases: [b]\n", "s.yaml:", true},
}

func TestParseReportsEveryMistake(t *testing.T) {
	for _, tt := range bad {
		_, err := Parse("s.yaml", []byte(tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
		}
	}
	_, err := Parse("s.yaml", []byte("dchp: 1\naddress: x\nhttps: {prefer: true}\n"))
	if got := len(err.(strictyaml.Errors)); got != 4 {
		t.Errorf("%d findings, want 4 at once:\n%v", got, err)
	}
}

func TestSchemaAgreesWithParser(t *testing.T) {
	texts := []keydoctest.Text{{Name: "whole", YAML: whole}}
	for _, tt := range bad {
		texts = append(texts, keydoctest.Text{Name: tt.name, YAML: tt.text, Refused: tt.structural})
	}
	keydoctest.Agree(t, Schema(), texts...)
}

func TestSchemaAndReferenceAreCurrent(t *testing.T) {
	for name, got := range map[string][]byte{"../../docs/serve.schema.json": Schema(), "../../docs/serve-keys.md": Reference()} {
		golden.Equal(t, name, string(got))
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(whole))
	for _, tt := range bad {
		f.Add([]byte(tt.text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("s.yaml", data)
		if (c == nil) == (err == nil) {
			t.Fatalf("configuration %v, error %v", c, err)
		}
	})
}

// TestTooManyAddresses: the policy bounds all pools together; that has its line, and a hint
// with the numbers that the reference of the keys has, too.
func TestTooManyAddresses(t *testing.T) {
	var b strings.Builder
	b.WriteString(one + "dhcp:\n  mode: full\n  subnets:\n")
	for i := range 5 {
		fmt.Fprintf(&b, "    - {subnet: 10.%d.0.0/15, pools: [10.%[1]d.0.1-10.%[1]d.255.255]}\n", 2*i)
	}
	c, err := Parse("s.yaml", []byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{c: c}
	_, err = dhcp.Compile(s.dhcpConfig(c))
	if err == nil {
		t.Fatal("the policy takes them")
	}
	err = s.dhcpError(err)
	if got := trouble(err); !strings.Contains(got.What, "s.yaml:5:5: dhcp configuration: pools and reservations of 327675 addresses together, more than 262144") || !strings.Contains(got.Hint, "all pools and reservations together 262144: write smaller pools") {
		t.Errorf("%+v", got)
	}
	if !strings.Contains(string(Reference()), "up to 65,536 in a subnet, and up to 262,144 in all subnets") || dhcp.MaxAddresses != 262144 || dhcp.MaxPool != 65536 {
		t.Error("the reference has other numbers")
	}
}
