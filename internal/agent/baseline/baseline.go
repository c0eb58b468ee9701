// Package baseline compares a machine on trial with what it was before: what the
// version before had not got does not fail the new one, and what it had must be
// there again.
//
//	before := baseline.Look(baseline.System{}, status, time.Now())   // when the trial is armed
//	cause, detail := baseline.Compare(&before, now, baseline.Rules{Built: epoch})   // in the trial
//
// Without it an outage of somebody else's, a cable that was never plugged in or a
// disk that was full all along would take back a good version, in a whole fleet at
// once. The other direction is as plain: a kernel without the driver of the second
// network card is healthy by every check that looks at services alone.
package baseline

import (
	"slices"
	"strings"
	"time"

	"github.com/ingot-os/ingot/internal/agent/listener"
)

// State is a machine at one moment. It is kept as JSON in the update region of
// the state partition; fields are only ever added.
type State struct {
	Version string    `json:"version"`
	Time    time.Time `json:"time"`
	// Told says that the time is that of a clock or a server, not the floor.
	Told bool `json:"told"`

	Links  []Link `json:"links,omitempty"` // of hardware, with a carrier
	IPv4   bool   `json:"ipv4"`            // an address that reaches further than the link
	IPv6   bool   `json:"ipv6"`
	Route4 bool   `json:"route4"` // a default route
	Route6 bool   `json:"route6"`
	// Server is the attestation server that has answered; empty: none has.
	Server string `json:"server,omitempty"`

	Disks    []Disk    `json:"disks,omitempty"` // fixed ones
	Root     string    `json:"root,omitempty"`  // state of the verity root; empty: none
	RootWhy  string    `json:"rootWhy,omitempty"`
	Data     Data      `json:"data"`
	Machine  string    `json:"machine"`  // state of machine.yaml: applied, absent, refused
	Watchdog bool      `json:"watchdog"` // one of hardware is armed
	Services []Service `json:"services"` // nil: not started
}

// Link is a network card with a carrier.
type Link struct {
	Path string `json:"path"` // of its bus: "0000:00:02.0"
	Name string `json:"name"` // for people; kernels may change it
}

// Disk is a fixed disk.
type Disk struct {
	ID   string `json:"id"`   // world wide name or serial number, else its path
	Name string `json:"name"` // for people
}

// Data is the data partition.
type Data struct {
	State string `json:"state"` // as in /v1/status: mounted, ram, none, absent, failed
	Size  uint64 `json:"size,omitempty"`
	Free  uint64 `json:"free,omitempty"` // bytes
	Error string `json:"error,omitempty"`
}

// Service is one service of the recipe.
type Service struct {
	Name     string `json:"name"`
	Ready    bool   `json:"ready"`
	Restarts int    `json:"restarts,omitempty"` // in this boot
	Detail   string `json:"detail,omitempty"`
}

// Look takes the state of a machine. s is its status; what that does not have is
// read from the system.
func Look(sys System, s listener.Status, now time.Time) State {
	b := State{
		Version: s.Version, Time: now.UTC().Truncate(time.Second), Told: s.Clock.Source != "floor" && s.Clock.Source != "",
		Links: sys.links(), Disks: sys.disks(), Machine: s.Machine.State,
		Data: Data{State: s.Data.State, Size: s.Data.Size, Free: s.Data.Free, Error: s.Data.Error},
	}
	b.IPv4, b.IPv6 = sys.addresses()
	b.Route4, b.Route6 = sys.routes()
	switch a := s.Attestation; {
	case a.State == "pending", a.State == "trusted", a.State == "refused", a.Last != "": // it has answered in this boot, whatever it said
		b.Server = a.Server
	}
	b.Watchdog = s.Watchdog != nil && s.Watchdog.State == "armed" && !s.Watchdog.Software
	if s.Root != nil {
		b.Root, b.RootWhy = s.Root.State, s.Root.Error
	}
	if !slices.Contains(s.Reasons, listener.NotStarted) {
		b.Services = []Service{}
	}
	for _, v := range s.Services {
		ready := v.State == "completed" || v.State == "running" && (v.Health == "healthy" || v.Health == "unchecked")
		b.Services = append(b.Services, Service{Name: v.Name, Ready: ready, Restarts: v.Restarts, Detail: short(v.State + ", " + v.Health + ": " + v.Detail)})
	}
	return b
}

// short bounds what is kept of a detail: all services have to fit.
func short(s string) string { return strings.TrimSuffix(s[:min(len(s), 160)], ": ") }
