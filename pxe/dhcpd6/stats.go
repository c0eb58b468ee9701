package dhcpd6

import (
	"sync/atomic"

	"github.com/ingot-os/ingot/pxe/dhcp6"
)

// Outcome is what became of a datagram. Each has one.
type Outcome int

// The outcomes.
const (
	Answered  Outcome = iota
	Silent            // of somebody who is not answered: another server's, or not valid
	Malformed         // no DHCPv6
	Refused           // from where no client and no relay is
	Limited           // too many of one address
	Failed            // the answer could not be sent
	outcomes
)

var outcomeNames = [outcomes]string{"answered", "silent", "malformed", "refused", "limited", "failed"}

// String is the name of the outcome, for metrics.
func (o Outcome) String() string { return outcomeNames[o] }

// Outcomes are all of them.
func Outcomes() []Outcome {
	list := make([]Outcome, outcomes)
	for i := range list {
		list[i] = Outcome(i)
	}
	return list
}

// counters count datagrams since the start. Type 0 is for what is no message, or of no
// type that there is.
type counters struct {
	by [dhcp6.RelayReply + 1][outcomes]atomic.Uint64
}

func (c *counters) add(t dhcp6.Type, o Outcome) { c.by[known(t)][o].Add(1) }

func known(t dhcp6.Type) dhcp6.Type {
	if t > dhcp6.RelayReply {
		return 0
	}
	return t
}

// Count is how many messages of a type had an outcome. The type is that of the message in
// the relays' ones.
func (s *Server) Count(t dhcp6.Type, o Outcome) uint64 { return s.count.by[known(t)][o].Load() }
