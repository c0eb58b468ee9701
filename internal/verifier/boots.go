package verifier

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/audit"
	"github.com/ingot-os/ingot/internal/bootrule"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/timeline"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// BootsPath is where operators ask about boots over the network; one machine is
// below it, by its host's name or its MAC address with colons.
const BootsPath = "/v1/boots"

// Boots is the boot server beside this one (package dispatch). Refusals are
// *updateapi.Error.
type Boots interface {
	// Attested is told of each verdict that is proven to be the host's; before is
	// the host as it was until then.
	Attested(ctx context.Context, before *fleet.Host, v *attest.Verdict, address string)
	// Lines gives all machines that were seen or are known.
	Lines(ctx context.Context) ([]BootLine, error)
	// Boot explains one, by the name of its host or its MAC address.
	Boot(ctx context.Context, name string) (*BootDetail, error)
	// Order does what an operator wants of it.
	Order(ctx context.Context, name string, o BootOrder, by string) error
}

// BootLine is a machine in a list.
type BootLine struct {
	MAC   string `json:"mac"`
	Host  string `json:"host,omitempty"` // that attested with it
	Would string `json:"would"`          // NAME-VERSION, program:NAME, or local
	Why   string `json:"why"`
	// Last is what it got last, Outcome how far that came, Stage in one word; empty:
	// nothing was seen. Died says that it came no further.
	Last    string        `json:"last,omitempty"`
	Outcome string        `json:"outcome,omitempty"`
	Stage   netboot.Stage `json:"stage,omitempty"`
	Died    bool          `json:"died,omitempty"`
	Seen    time.Time     `json:"seen,omitzero"`
}

// BootList is the answer to GET /v1/boots.
type BootList struct {
	Now      time.Time  `json:"now"`
	Machines []BootLine `json:"machines"`
}

// BootDetail is the answer to GET and POST /v1/boots/NAME.
type BootDetail struct {
	Now      time.Time        `json:"now"`
	Name     string           `json:"name"`
	Host     string           `json:"host,omitempty"`
	Ticket   *bootrule.Ticket `json:"ticket,omitempty"`
	Attempt  *fleet.Attempt   `json:"attempt,omitempty"` // that is under way
	Machines []BootMachine    `json:"machines"`
}

// BootMachine is one MAC address of a host: what it would get, and got.
type BootMachine struct {
	BootLine
	Arch string `json:"arch"`
	// UUID, Serial and Asset are as the attested machine has reported them, at Reported;
	// EK is of its host's enrolment. Claimed is a UUID that only its DHCP question had.
	UUID       string          `json:"uuid,omitempty"`
	Serial     string          `json:"serial,omitempty"`
	Asset      string          `json:"asset,omitempty"`
	Reported   time.Time       `json:"reported,omitzero"`
	EK         string          `json:"ek,omitempty"`
	Claimed    string          `json:"claimedUUID,omitempty"`
	Quarantine string          `json:"quarantine,omitempty"`
	Path       string          `json:"path,omitempty"` // of the file that it would fetch first
	Chain      bool            `json:"chain,omitempty"`
	Trial      bool            `json:"trial,omitempty"`
	Note       string          `json:"note,omitempty"`
	Steps      []bootrule.Step `json:"steps"`
	Boots      []timeline.Boot `json:"boots,omitempty"` // oldest first

	// ClaimedHost is the host that a machine in quarantine attested as.
	ClaimedHost string `json:"claimedHost,omitempty"`
}

// The orders of operators.
const (
	OrderOnce         = "boot-once"
	OrderNoOnce       = "no-boot-once"
	OrderUnquarantine = "unquarantine"
)

// BootOrder is the body of POST /v1/boots/NAME.
type BootOrder struct {
	Action string `json:"action"`
	// Boot is install, install:RELEASE, rescue, memtest, or a release as rules name
	// it. TTL is in seconds; 0 is a day. Force has an install overwrite a disk with a
	// valid journal.
	Boot  string  `json:"boot,omitempty"`
	TTL   float64 `json:"ttl,omitempty"`
	Force bool    `json:"force,omitempty"`

	// Host is for OrderUnquarantine: BootMachine.ClaimedHost, as the operator was shown it.
	Host string `json:"host,omitempty"`
}

// said makes a refusal of a boot server one of this.
func said(err error) error {
	var e *updateapi.Error
	if !errors.As(err, &e) {
		return err
	}
	status := http.StatusConflict
	switch e.Code {
	case updateapi.Malformed:
		status = http.StatusBadRequest
	case string(attest.HostUnknown):
		status = http.StatusNotFound
	}
	r := refuse(status, attest.Code(e.Code), "%s", e.Detail).(*refusal)
	r.hint = e.Hint
	return r
}

func (s *Server) boots(c *call, _ []byte) (any, error) {
	lines, err := s.o.Boots.Lines(c.ctx)
	if lines == nil {
		lines = []BootLine{}
	}
	return BootList{s.now(), lines}, err
}

func (s *Server) boot(c *call, _ []byte) (any, error) {
	d, err := s.o.Boots.Boot(c.ctx, c.r.PathValue("name"))
	return d, said(err)
}

// order answers POST /v1/boots/NAME.
func (s *Server) order(c *call, body []byte) (any, error) {
	var o BootOrder
	if err := decode(body, &o); err != nil {
		return nil, err
	}
	name := c.r.PathValue("name")
	before, err := s.o.Boots.Boot(c.ctx, name)
	if err != nil {
		return nil, said(err)
	}
	if err := s.o.Boots.Order(c.ctx, name, o, c.operator); err != nil {
		return nil, said(err)
	}
	s.log.Info("operator", "host", name, "action", o.Action, "boot", o.Boot, "by", c.operator, "address", c.address)
	if err := s.ordered(c, before, o); err != nil {
		return nil, fmt.Errorf("record the order, which was given: %w", err)
	}
	return s.boot(c, nil)
}

// ordered puts an order into the record of each host that it is about: the one that the
// machine stood for, and that it stands for by the order. Machines that never attested
// have no record. An operator who hangs up has given his order all the same.
func (s *Server) ordered(c *call, before *BootDetail, o BootOrder) error {
	ctx := context.WithoutCancel(c.ctx)
	hosts := []string{before.Host}
	for _, m := range before.Machines {
		d, err := s.o.Boots.Boot(ctx, m.MAC)
		if err != nil {
			return err
		}
		if !slices.Contains(hosts, d.Host) {
			hosts = append(hosts, d.Host)
		}
	}
	for _, host := range hosts {
		if host == "" {
			continue
		}
		err := s.o.Store.Update(ctx, host, func(x *fleet.Change) error {
			if x.Host == nil {
				return fleet.ErrNotFound
			}
			x.Record(&audit.Record{Kind: audit.KindOrder, Time: s.now(), Detail: o.words(before.Name), By: c.operator})
			return nil
		})
		if err != nil && !errors.Is(err, fleet.ErrNotFound) {
			return err
		}
	}
	return nil
}

// words say an order, which was taken, for the record.
func (o BootOrder) words(name string) string {
	text := o.Action
	if o.Action == OrderOnce {
		if text += " " + o.Boot; o.TTL != 0 {
			text += fmt.Sprintf(" for %s", time.Duration(o.TTL*float64(time.Second)))
		}
		if o.Force {
			text += ", over a disk with a valid journal"
		}
	}
	if strings.Contains(name, ":") {
		text += ", of " + name
	}
	return text
}

// Boots asks for the machines that boot over the network.
func (c *Client) Boots(ctx context.Context) (*BootList, error) {
	out := new(BootList)
	return out, c.do(ctx, http.MethodGet, BootsPath, nil, out)
}

// Boot asks for one, by its host's name or its MAC address.
func (c *Client) Boot(ctx context.Context, name string) (*BootDetail, error) {
	out := new(BootDetail)
	return out, c.do(ctx, http.MethodGet, BootsPath+"/"+name, nil, out)
}

// Order does something about one, and gives what it is then.
func (c *Client) Order(ctx context.Context, name string, o BootOrder) (*BootDetail, error) {
	out := new(BootDetail)
	return out, c.do(ctx, http.MethodPost, BootsPath+"/"+name, o, out)
}
