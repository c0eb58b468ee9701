package serve

import (
	"cmp"
	"os"
	"path/filepath"
	"time"

	"github.com/ingot-os/ingot/internal/appliance"
)

// Complete fills in what was not said.
func (c *Config) Complete() {
	c.DHCP.Mode, c.DHCP6.Mode = cmp.Or(c.DHCP.Mode, ModeProxy), cmp.Or(c.DHCP6.Mode, ModeOff)
	c.DHCP.Port, c.DHCP.ProxyPort = cmp.Or(c.DHCP.Port, 67), cmp.Or(c.DHCP.ProxyPort, 4011)
	for i := range c.DHCP.Subnets {
		orHour(&c.DHCP.Subnets[i].Lease)
	}
	for i := range c.DHCP6.Subnets {
		orHour(&c.DHCP6.Subnets[i].Lease)
	}
	c.TFTP.Listen, c.TFTP.Transfers = cmp.Or(c.TFTP.Listen, ":69"), cmp.Or(c.TFTP.Transfers, 4096)
	c.HTTP.Listen, c.HTTP.Connections = cmp.Or(c.HTTP.Listen, ":80"), cmp.Or(c.HTTP.Connections, 4096)
	c.HTTP.PerAddress = cmp.Or(c.HTTP.PerAddress, 256)
	c.HTTPS.Listen = cmp.Or(c.HTTPS.Listen, ":443")
	c.Attest.Listen = cmp.Or(c.Attest.Listen, ":9444")
	c.Attest.Interval = appliance.Duration(c.Attest.Interval.Or(time.Minute))
	c.Metrics.Listen = cmp.Or(c.Metrics.Listen, "localhost:9445")
	c.Keys = cmp.Or(c.Keys, os.Getenv("INGOT_KEYS"))
	c.State = cmp.Or(c.State, defaultState())
	if c.Keys == "" && c.Attest.Cert == "" {
		c.Attest.Off = true // nobody could issue its certificate
	}
}

func orHour(d *appliance.Duration) { *d = appliance.Duration(d.Or(time.Hour)) }

// defaultState is where state is kept when nobody says so: that of the service
// under systemd (StateDirectory=), of root, or of who started it.
func defaultState() string {
	if dir := os.Getenv("STATE_DIRECTORY"); dir != "" {
		return dir
	}
	if os.Geteuid() == 0 {
		return "/var/lib/ingot"
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "ingot-state"
	}
	return filepath.Join(cmp.Or(os.Getenv("XDG_STATE_HOME"), filepath.Join(home, ".local/state")), "ingot")
}
