package serve

import (
	"context"
	"errors"
	"os"
	"strings"

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
	More      int                `json:"more,omitempty"`    // reservations that Boots leaves out
	Certified bool               `json:"attestation"`       // there is an attestation API
	Trusts    bool               `json:"-"`                 // somebody may sign releases, or anybody
	Running   bool               `json:"running,omitempty"` // a server has the state, which is told to Check
	Troubles  []Trouble          `json:"troubles,omitempty"`
}

// Trouble is why the server would not start, or not serve what the configuration names,
// beside what Ports and Refused have.
type Trouble struct {
	What string `json:"what"`
	Hint string `json:"hint,omitempty"`
}

// Port is a port that a part uses. Trouble says why it cannot be had now; Running, that the
// server has it that runs with the same state.
type Port struct {
	Part    string `json:"part"`
	Network string `json:"network"`
	Address string `json:"address"`
	Link    string `json:"interface,omitempty"`
	Trouble string `json:"trouble,omitempty"`
	Hint    string `json:"hint,omitempty"`
	Running bool   `json:"running,omitempty"`
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
		Releases: s.site.served(), Refused: s.site.catalog.Refused, Rules: s.site.rules(), Machines: s.site.machines.Load().count, Certified: !s.c.Attest.Off,
		Trusts: s.c.Insecure || s.c.Keys != "" || len(s.c.Trust) > 0, Troubles: s.site.unmatched(),
	}
	for _, l := range s.listeners {
		p.Ports = append(p.Ports, Port{Part: l.Part, Network: l.Network, Address: l.Address, Link: l.Link, Trouble: l.trouble, Hint: l.hint})
	}
	p.Boots, p.More = s.would(ctx)
	return p
}

// served are the releases that machines can boot.
func (t *site) served() (list []verifier.Release) {
	o := t.offered.Load()
	for _, r := range t.catalog.Releases {
		if o.sets[r.Digest] != nil {
			list = append(list, r)
		}
	}
	return list
}

// unmatched are the targets of rules and default that name no release. Without any release
// that goes without saying.
func (t *site) unmatched() (list []Trouble) {
	releases := t.offered.Load().list
	if len(releases) == 0 {
		return nil
	}
	var names []string
	for _, r := range releases[:min(len(releases), 8)] {
		names = append(names, r.Stem())
	}
	hint := "the machines that it is for are told no; there are " + strings.Join(names, ", ")
	for _, e := range t.ruled.Load().rules.Unmatched(releases) {
		if c := t.c.Load(); c.Rules == "" {
			list = append(list, Trouble{c.wrong("default", "default", "", "%s", e.Msg).Error(), hint})
			continue
		}
		list = append(list, Trouble{e.Error(), hint})
	}
	return list
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
	running, stateErr := tryState(o.Config.State) // first: where TMPDIR is the state, dir is in it
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
	if stateErr != nil {
		p.Troubles = append(p.Troubles, trouble(stateErr))
	}
	p.Running = running
	for i := range p.Ports {
		p.Ports[i].take(running)
	}
	return p, nil
}

// take drops the trouble of a port that a running server of the same state has: that one is
// to read the configuration again, and does not open it anew.
func (x *Port) take(running bool) {
	if !running || x.Trouble == "" || !taken("/proc", x.Network, port(x.Address)) {
		return
	}
	if who := owner("/proc", x.Network, port(x.Address)); who == "" || strings.HasPrefix(who, ownName()+" (") {
		x.Trouble, x.Hint, x.Running = "", "", true
	}
}

// trouble is an error for a plan.
func trouble(err error) Trouble {
	t := Trouble{What: err.Error()}
	var with *ui.Error
	if errors.As(err, &with) {
		t.Hint = with.Hint
	}
	return t
}

// troubled gives the error of a port back, or with Check keeps it for the plan.
func (s *Server) troubled(l listener, err error) error {
	if !s.o.check {
		return err
	}
	l.trouble, l.hint = plainError(err), trouble(err).Hint
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
