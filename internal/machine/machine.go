// Package machine reads machine.yaml: what differs from machine to machine
// and therefore never changes the image (docs/machine.md). It lies on the
// state partition, at most 64 KiB (S13), and PID 1 reads it, so this package
// imports nothing of the builder.
//
// Shape of use: Parse gives a checked Machine or every error at once; a
// machine whose file is broken keeps the recipe's network and says so.
package machine

import (
	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/strictyaml"
)

// MaxSize is the most bytes a machine.yaml may have: its region of the state
// partition (S13).
const MaxSize = 64 << 10

// Machine is machine.yaml. Every key may be absent.
type Machine struct {
	Hostname string                `yaml:"hostname" json:"hostname,omitempty"`
	Labels   map[string]string     `yaml:"labels" json:"labels,omitempty"`
	Server   string                `yaml:"server" json:"server,omitempty"`   // base URL of ingot serve
	NTP      []string              `yaml:"ntp" json:"ntp,omitempty"`         // replaces the recipe's servers
	Network  []appliance.Interface `yaml:"network" json:"network,omitempty"` // replaces the recipe's network
}

// Parse reads and checks machine.yaml. name is only used in messages. The
// error is of type strictyaml.Errors and holds every finding.
func Parse(name string, data []byte) (*Machine, error) {
	doc, err := strictyaml.Parse(name, data, strictyaml.Limits{Size: MaxSize})
	if err != nil {
		return nil, err
	}
	m := &Machine{}
	errs := doc.Decode(m, Keys())
	errs = append(errs, CheckNetwork(doc, "network", m.Network)...)
	errs = append(errs, CheckServers(doc, "ntp", m.NTP)...)
	errs = append(errs, CheckServer(doc, "server", m.Server)...)
	errs.Sort()
	if err := errs.Err(); err != nil {
		return nil, err
	}
	return m, nil
}
