package serve

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/chain"
	"github.com/ingot-os/ingot/internal/regular"
	"github.com/ingot-os/ingot/internal/strictyaml"
	"github.com/ingot-os/ingot/internal/ui"
)

// Config is serve.yaml. Paths in it are relative to the file; Load makes them
// whole.
type Config struct {
	Releases []string `yaml:"releases"` // image sets, or directories of image sets
	Default  string   `yaml:"default"`  // NAME or NAME-VERSION that machines without a rule boot
	Rules    string   `yaml:"rules"`    // file of boot rules
	Machines string   `yaml:"machines"` // directory of machine.yaml files
	Keys     string   `yaml:"keys"`     // key set
	Trust    []string `yaml:"trust"`    // who may sign releases
	Insecure bool     `yaml:"insecureReleases"`
	State    string   `yaml:"state"`
	Names    []string `yaml:"names"` // DNS names and addresses of the server

	Interfaces []string `yaml:"interfaces"`
	Address    Addr     `yaml:"address"`
	User       string   `yaml:"user"`

	DHCP    DHCP           `yaml:"dhcp"`
	DHCP6   DHCP6          `yaml:"dhcp6"`
	TFTP    TFTP           `yaml:"tftp"`
	HTTP    HTTP           `yaml:"http"`
	HTTPS   HTTPS          `yaml:"https"`
	IPXE    chain.Programs `yaml:"ipxe"`
	Trial   Trial          `yaml:"trial"`
	Attest  Attest         `yaml:"attest"`
	Metrics Metrics        `yaml:"metrics"`

	// File is where it was read; "" for flags alone.
	File string `yaml:"-"`
	doc  *strictyaml.Document
}

// The modes of dhcp and dhcp6.
const (
	ModeProxy = "proxy" // boot options only, beside another server that gives addresses
	ModeFull  = "full"  // addresses, too
	ModeOff   = "off"
)

// DHCP is about IPv4.
type DHCP struct {
	Mode      string   `yaml:"mode"`
	Port      int      `yaml:"port"`      // 67
	ProxyPort int      `yaml:"proxyPort"` // 4011
	Relays    []Addr   `yaml:"relays"`
	Trust     bool     `yaml:"trustCircuit"` // option 82 from the own link, too
	Subnets   []Subnet `yaml:"subnets"`
	// Reservations is a file; Load puts what it has into Subnets.
	Reservations string `yaml:"reservations"`
}

// Subnet is where full DHCP gives addresses.
type Subnet struct {
	Subnet       Prefix             `yaml:"subnet"`
	Pools        []Range            `yaml:"pools"`
	Router       Addr               `yaml:"router"`
	DNS          []Addr             `yaml:"dns"`
	NTP          []Addr             `yaml:"ntp"`
	Domain       string             `yaml:"domain"`
	Lease        appliance.Duration `yaml:"lease"` // default 1h
	Reservations []Reservation      `yaml:"reservations"`
}

// Reservation is an address for one machine, or for the machine at one port.
type Reservation struct {
	MAC      MAC    `yaml:"mac"`
	Circuit  PortID `yaml:"circuit"`
	Remote   PortID `yaml:"remote"`
	Address  Addr   `yaml:"address"`
	Hostname string `yaml:"hostname"`
}

// DHCP6 is about IPv6.
type DHCP6 struct {
	Mode    string    `yaml:"mode"`
	Relays  []Addr    `yaml:"relays"`
	Subnets []Subnet6 `yaml:"subnets"`
}

// Subnet6 is where full DHCPv6 gives addresses.
type Subnet6 struct {
	Subnet    Prefix             `yaml:"subnet"`
	Pool      Range              `yaml:"pool"`
	DNS       []Addr             `yaml:"dns"`
	Lease     appliance.Duration `yaml:"lease"`
	Advertise bool               `yaml:"advertise"` // router advertisements that send clients to DHCPv6
}

// TFTP is the file server of PXE.
type TFTP struct {
	Off       bool   `yaml:"off"`
	Listen    string `yaml:"listen"` // ":69"
	Transfers int    `yaml:"transfers"`
}

// HTTP is the file server of UEFI HTTP Boot, iPXE, and root payloads.
type HTTP struct {
	Off         bool   `yaml:"off"`
	Listen      string `yaml:"listen"` // ":80"
	Connections int    `yaml:"connections"`
	PerAddress  int    `yaml:"perAddress"`
}

// HTTPS is the same over TLS.
type HTTPS struct {
	On     bool   `yaml:"on"`
	Listen string `yaml:"listen"` // ":443"
	Cert   string `yaml:"cert"`
	Key    string `yaml:"key"`
	Prefer bool   `yaml:"prefer"` // HTTP Boot clients get an https address
}

// Trial is how a machine that keeps nothing tries a release (DESIGN S18).
type Trial struct {
	Tries  int                `yaml:"tries"`
	Health appliance.Duration `yaml:"health"`
	Limit  appliance.Duration `yaml:"limit"`
	Window appliance.Duration `yaml:"window"`
}

// Attest is the attestation API.
type Attest struct {
	Off          bool               `yaml:"off"`
	Listen       string             `yaml:"listen"` // ":9444"
	Interval     appliance.Duration `yaml:"interval"`
	Policy       string             `yaml:"policy"`
	Secrets      string             `yaml:"secrets"`
	EKRoots      []string           `yaml:"ekRoots"`
	RequireChain bool               `yaml:"requireChain"`
	DenyTPM      []string           `yaml:"denyTPM"`
	RevokedEK    []string           `yaml:"revokedEK"`
	Cert         string             `yaml:"cert"`
	Key          string             `yaml:"key"`
}

// Metrics are for Prometheus.
type Metrics struct {
	Off    bool   `yaml:"off"`
	Listen string `yaml:"listen"` // "localhost:9445"
}

// maxConfig bounds serve.yaml in bytes. More than 4,000 reservations are for a file of
// their own.
const maxConfig = 4 << 20

// Load reads and checks a configuration. The error is of type
// strictyaml.Errors when it is about what the file says.
func Load(path string) (*Config, error) {
	data, err := regular.Read(path, maxConfig)
	if err != nil {
		return nil, &ui.Error{Err: fmt.Errorf("read configuration: %w", err), Hint: unread(path, err)}
	}
	c, err := Parse(path, data)
	if err != nil {
		return nil, err
	}
	return c, c.readReservations()
}

// unread says what to do about a file that cannot be read.
func unread(path string, err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "-c names a file with at least releases: [DIR] (docs/serve.md); without one: ingot serve --release out --keys keys --interface eth1"
	case errors.Is(err, fs.ErrPermission):
		return "let the user of the server read " + path
	}
	return ""
}

// Parse reads a configuration; path is where its relative paths begin.
func Parse(path string, data []byte) (*Config, error) {
	doc, err := strictyaml.Parse(path, data, strictyaml.Limits{Size: maxConfig})
	if err != nil {
		return nil, empty(err)
	}
	c := &Config{File: path, doc: doc}
	errs := append(doc.Decode(c, Keys()), c.check()...)
	errs.Sort()
	if err := errs.Err(); err != nil {
		return nil, err
	}
	c.resolve(filepath.Dir(path))
	c.Complete()
	return c, nil
}

// empty says what the least is, of a file that has nothing.
func empty(err error) error {
	var list strictyaml.Errors
	if errors.As(err, &list) && len(list) == 1 && strings.HasSuffix(list[0].Msg, "file is empty") {
		list[0].Hint = "the least that it has: releases: [DIR]; docs/serve-keys.md has every key"
	}
	return err
}

// resolve makes paths whole.
func (c *Config) resolve(dir string) {
	for _, p := range []*string{&c.Rules, &c.Machines, &c.DHCP.Reservations, &c.Keys, &c.State, &c.IPXE.BIOS.File, &c.IPXE.X64.File, &c.IPXE.ARM64.File, &c.HTTPS.Cert, &c.HTTPS.Key, &c.Attest.Policy, &c.Attest.Secrets, &c.Attest.Cert, &c.Attest.Key} {
		*p = below(dir, *p)
	}
	for _, list := range [][]string{c.Releases, c.Trust, c.Attest.EKRoots} {
		for i := range list {
			list[i] = below(dir, list[i])
		}
	}
}

func below(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
