package dhcpd

import (
	"sync/atomic"

	"github.com/ingot-os/ingot/pxe/dhcp"
)

// Outcome is what became of a datagram. Each has one.
type Outcome int

// The outcomes.
const (
	Answered  Outcome = iota
	Silent            // taken note of, or of somebody who is not answered
	Malformed         // not DHCP
	Foreign           // for others
	Refused           // of a relay agent or a client that cannot be
	Limited           // too many of one machine
	Busy              // more than wait at once
	Failed            // the answer could not be sent, or its lease could not be kept
	outcomes
)

var outcomeNames = [outcomes]string{"answered", "silent", "malformed", "foreign", "refused", "limited", "busy", "failed"}

// String is one word.
func (o Outcome) String() string { return outcomeNames[o] }

// Outcomes are all of them.
func Outcomes() []Outcome {
	list := make([]Outcome, outcomes)
	for i := range list {
		list[i] = Outcome(i)
	}
	return list
}

// types bounds what is counted: the types of RFC 2132, and 0 for all else.
const types = dhcp.Inform + 1

// counters are of datagrams by type and outcome, and of answers by type.
type counters struct {
	received atomic.Uint64
	by       [types][outcomes]atomic.Uint64
	answers  [types]atomic.Uint64
}

func known(t dhcp.Type) dhcp.Type {
	if t < types {
		return t
	}
	return 0
}

func (c *counters) add(t dhcp.Type, o Outcome) { c.by[known(t)][o].Add(1) }

// Stats counts datagrams since the start. What was received and is in no other number is
// being answered.
type Stats struct {
	Received, Answered, Silent, Malformed, Foreign, Refused, Limited, Busy, Failed uint64
}

// Stats are the counters as they are now.
func (s *Server) Stats() Stats {
	var n [outcomes]uint64
	for t := range s.count.by {
		for o := range n {
			n[o] += s.count.by[t][o].Load()
		}
	}
	return Stats{s.count.received.Load(), n[Answered], n[Silent], n[Malformed], n[Foreign], n[Refused], n[Limited], n[Busy], n[Failed]}
}

// Count is how many datagrams of a type had an outcome; type 0 are those of none that a
// client sends.
func (s *Server) Count(t dhcp.Type, o Outcome) uint64 { return s.count.by[known(t)][o].Load() }

// Answers is how many answers of a type left.
func (s *Server) Answers(t dhcp.Type) uint64 { return s.count.answers[known(t)].Load() }

// Pooled is how many addresses the pools have together.
func (s *Server) Pooled() int { return s.policy.Load().Pooled() }
