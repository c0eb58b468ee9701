package serve

import (
	"context"
	"errors"
	"os"

	"github.com/ingot-os/ingot/internal/strictyaml"
	"github.com/ingot-os/ingot/internal/ui"
	"github.com/ingot-os/ingot/internal/verifier"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// Plan is what a server does with a configuration.
type Plan struct {
	File      string             `json:"file,omitempty"`
	State     string             `json:"state"`
	DHCP      string             `json:"dhcp"`
	DHCP6     string             `json:"dhcp6"`
	Links     []Link             `json:"interfaces"`
	Ports     []Port             `json:"ports"`
	Releases  []verifier.Release `json:"releases"`
	Refused   []verifier.Refused `json:"refused,omitempty"`
	Rules     int                `json:"rules"`
	Machines  int                `json:"machines"` // files of machine.yaml
	Subnets   []Subnet           `json:"-"`
	Boots     []Would            `json:"boots"`
	More      int                `json:"more,omitempty"` // reservations that Boots leaves out
	Certified bool               `json:"attestation"`    // there is an attestation API
	Trusts    bool               `json:"-"`              // somebody may sign releases, or anybody
}

// Port is a port that a part uses. Trouble says why it cannot be had now.
type Port struct {
	Part    string `json:"part"`
	Network string `json:"network"`
	Address string `json:"address"`
	Link    string `json:"interface,omitempty"`
	Trouble string `json:"trouble,omitempty"`
	Hint    string `json:"hint,omitempty"`
}

// Would is what a machine would get.
type Would struct {
	Machine string `json:"machine"` // in words
	MAC     string `json:"mac,omitempty"`
	Verdict string `json:"verdict"` // boot, refuse, ignore
	Method  string `json:"method,omitempty"`
	Path    string `json:"path,omitempty"`
	Release string `json:"release,omitempty"`
	Reason  string `json:"reason"`
}

// Plan says what the server does.
func (s *Server) Plan(ctx context.Context) *Plan {
	p := &Plan{
		File: s.c.File, State: s.c.State, DHCP: s.c.DHCP.Mode, DHCP6: s.c.DHCP6.Mode, Links: s.links, Subnets: s.c.DHCP.Subnets,
		Releases: s.site.catalog.Releases, Refused: s.site.catalog.Refused, Rules: s.site.rules(), Machines: s.site.machines.Load().count, Certified: !s.c.Attest.Off,
		Trusts: s.c.Insecure || s.c.Keys != "" || len(s.c.Trust) > 0,
	}
	for _, l := range s.listeners {
		p.Ports = append(p.Ports, Port{Part: l.Part, Network: l.Network, Address: l.Address, Link: l.Link, Trouble: l.trouble, Hint: l.hint})
	}
	p.Boots, p.More = s.would(ctx)
	return p
}

// maxWould is how many machines with a reservation are asked for.
const maxWould = 50

// would asks for machines that nobody knows, one of each kind, and for the first of those
// that have a reservation.
func (s *Server) would(ctx context.Context) (list []Would, more int) {
	for _, arch := range []netboot.Arch{netboot.EFIX64, netboot.HTTPX64, netboot.EFIARM64, netboot.BIOS} {
		class := "PXEClient"
		if arch.HTTP() {
			class = "HTTPClient"
		}
		list = append(list, s.ask(ctx, "any other, "+arch.String(), netboot.Client{MAC: unknownMAC, Arch: arch, Class: class}))
	}
	for _, sub := range s.c.DHCP.Subnets {
		for _, r := range sub.Reservations {
			if r.MAC.IsZero() { // a port: which machine is there is not known
				continue
			}
			if len(list) >= maxWould {
				more++
				continue
			}
			w := s.ask(ctx, r.MAC.String(), netboot.Client{MAC: r.MAC.MAC, Arch: netboot.EFIX64, Class: "PXEClient", Addr: r.Address.Addr})
			w.MAC = r.MAC.String()
			list = append(list, w)
		}
	}
	return list, more
}

// unknownMAC is nobody's: the locally administered address of RFC 7042's
// documentation range does not appear on networks.
var unknownMAC = netboot.MAC{0x02, 0x00, 0x5e, 0x00, 0x53, 0x00}

func (s *Server) ask(ctx context.Context, who string, c netboot.Client) Would {
	if len(s.links) > 0 {
		c.Link = s.links[0].Name
	}
	a := s.site.Decide(ctx, c)
	return Would{Machine: who, Verdict: verbs[a.Verb], Method: string(a.Method), Path: a.Path, Release: a.Release, Reason: a.Reason}
}

// Check reads and checks all that Open does, and leaves nothing behind: ports are
// tried and given back, and what a new state would have is made elsewhere.
func Check(ctx context.Context, o Options) (*Plan, error) {
	dir, err := os.MkdirTemp("", "ingot-check-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	c := *o.Config
	o.check, o.state, c.State = true, c.State, dir
	o.Config = &c
	s, err := Open(ctx, o)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	p := s.Plan(ctx)
	p.State = o.state
	return p, nil
}

// troubled gives the error of a port back, or with Check keeps it for the plan.
func (s *Server) troubled(l listener, err error) error {
	if !s.o.check {
		return err
	}
	l.trouble = plainError(err)
	var with *ui.Error
	if errors.As(err, &with) {
		l.hint = with.Hint
	}
	s.listeners = append(s.listeners, &l)
	return nil
}

// plainError is an error without the place in the file.
func plainError(err error) string {
	var e strictyaml.Error
	if errors.As(err, &e) {
		return e.Msg
	}
	return err.Error()
}
