package serve

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/ingot-os/ingot/internal/regular"
	"github.com/ingot-os/ingot/pxe/dhcp"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// A file of reservations has a machine in each line, as an inventory prints them:
//
//	# rack 7
//	52:54:00:12:34:56  192.0.2.10  edge-1
//
// Its address says of which subnet it is.
const (
	maxReservationFile = 8 << 20
	maxReservations    = dhcp.MaxPool
	maxMistakes        = 20 // that are said at once
)

// readReservations puts what the file has into the subnets.
func (c *Config) readReservations() error {
	if c.DHCP.Reservations == "" {
		return nil
	}
	data, err := regular.Read(c.DHCP.Reservations, maxReservationFile)
	if err != nil {
		return c.wrong("dhcp.reservations", "dhcp", "name a file with a line for each machine: MAC ADDRESS [NAME]", "read reservations: %v", err)
	}
	r := &reservationReader{file: c.DHCP.Reservations, subnets: c.DHCP.Subnets, seen: map[any]string{}}
	for _, s := range c.DHCP.Subnets {
		for _, x := range s.Reservations {
			r.seen[x.Address.Addr], r.seen[owned{s.Subnet.Prefix, x.MAC.MAC}] = "serve.yaml", "serve.yaml"
		}
	}
	return r.read(data)
}

// owned is a machine in a subnet: it has one reservation there.
type owned struct {
	subnet netip.Prefix
	mac    netboot.MAC
}

type reservationReader struct {
	file    string
	subnets []Subnet
	seen    map[any]string // addresses and machines, where they are reserved
	number  int            // of the line
	count   int
	errs    []error
}

func (r *reservationReader) read(data []byte) error {
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		r.number++
		text, _, _ := strings.Cut(lines.Text(), "#")
		if words := strings.Fields(text); len(words) > 0 {
			r.line(words)
		}
		if len(r.errs) == maxMistakes {
			r.errs = append(r.errs, fmt.Errorf("%s: and perhaps more", r.file))
			break
		}
	}
	return errors.Join(r.errs...)
}

func (r *reservationReader) wrong(format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf("%s:%d: "+format, append([]any{r.file, r.number}, args...)...))
}

func (r *reservationReader) line(words []string) {
	var x Reservation
	if len(words) < 2 || len(words) > 3 {
		r.wrong("%d words: a line is MAC ADDRESS [NAME]", len(words))
		return
	}
	for _, err := range []error{x.MAC.UnmarshalText([]byte(words[0])), x.Address.UnmarshalText([]byte(words[1]))} {
		if err != nil {
			r.wrong("%q is %v", words[:2], err)
			return
		}
	}
	if len(words) == 3 {
		if x.Hostname = words[2]; !isName(x.Hostname) || len(x.Hostname) > 63 {
			r.wrong("%q is not a name of DNS", x.Hostname)
			return
		}
	}
	r.add(x)
}

// add puts a reservation into the subnet that its address is of.
func (r *reservationReader) add(x Reservation) {
	for i := range r.subnets {
		s := &r.subnets[i]
		if !s.Subnet.Contains(x.Address.Addr) {
			continue
		}
		here := fmt.Sprintf("%s:%d", r.file, r.number)
		switch who := (owned{s.Subnet.Prefix, x.MAC.MAC}); {
		case x.Address == s.Router:
			r.wrong("%s is the router of %s", x.Address, s.Subnet)
		case x.Address.Addr == s.Subnet.Addr() || x.Address.Addr == lastAddr(s.Subnet.Prefix):
			r.wrong("%s is the network or broadcast address of %s", x.Address, s.Subnet)
		case r.seen[x.Address.Addr] != "":
			r.wrong("%s is reserved in %s, too", x.Address, r.seen[x.Address.Addr])
		case r.seen[who] != "":
			r.wrong("%s has an address of %s in %s, too", x.MAC, s.Subnet, r.seen[who])
		case r.count == maxReservations:
			r.wrong("more than %d reservations", maxReservations)
		default:
			r.seen[x.Address.Addr], r.seen[who] = here, here
			r.count++
			s.Reservations = append(s.Reservations, x)
		}
		return
	}
	r.wrong("%s is in no subnet of dhcp", x.Address)
}
