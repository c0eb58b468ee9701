// Package bootrule decides what a machine boots over the network. It is a pure
// function of what is known: the machine, the rules, a ticket, the releases that
// there are, an assignment, and what the machine's netboot slots would serve.
//
//	rules, err := bootrule.Parse("rules.yaml", data)
//	d := bootrule.Decide(bootrule.Case{Facts: f, Rules: rules, Releases: list, Now: now})
//	d.Verb, d.Release, d.Reason, d.Steps
//
// The order is: deny list, quarantine, ticket, rules from the first on, default.
// The first that says something decides where the machine boots from. When that
// is a release, an assignment may name another one, and the machine's slots say
// whether it is tried now. Steps tell each of these and why it did or did not
// count.
//
// A rollout by percentage is another source of assignments: Case.Assigned.
//
// Limits: MAC address and architecture are what a machine says of itself, and so
// is the UUID of one that never reported its own. Serial number, asset tag and
// endorsement key are those of the host that last attested with this MAC address;
// a machine that never attested has none, and rules about them do not match it.
package bootrule

import (
	"net/netip"
	"time"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// Facts are what is known of a machine that asks.
type Facts struct {
	MAC   netboot.MAC
	UUID  string // lower case; empty: none that tells machines apart
	Arch  netboot.Arch
	Addrs []netip.Addr // its address, its relay's, and without a relay those of the server's link: as far as they are known
	IPXE  bool         // iPXE asks already
	// Host is the name under which a machine with this MAC address attested; the
	// others are of its enrolment record and of the newest report that came while its
	// verdict was trusted.
	Host   string
	Serial string
	Asset  string
	EK     []string // names of its endorsement key in hex, lower case: SHA-256 of the public key, and the TPM's own
	// Quarantine says why it may not boot until an operator has looked at it.
	Quarantine string
}

// Release is a release that can be booted.
type Release struct {
	Digest  string `json:"digest"` // SHA-256 of its manifest, in hex
	Name    string `json:"name"`   // of the appliance
	Version string `json:"version"`
	Arch    string `json:"arch"` // GOARCH
	Epoch   int64  `json:"securityEpoch"`
}

// Stem is NAME-VERSION.
func (r *Release) Stem() string { return r.Name + "-" + r.Version }

// Kinds of tickets.
const (
	Install = "install" // the release may write itself to the machine's disk
	Rescue  = "rescue"  // the release that rules name for it
	Memtest = "memtest" // the program of that name
	Once    = "release" // a release, for one boot
)

// Ticket is one boot that an operator ordered.
type Ticket struct {
	Kind    string    `json:"kind"`
	Target  Target    `json:"target,omitzero"` // of Once; of Install where it is not what the rules say
	Force   bool      `json:"force,omitempty"` // Install: although the disk has a valid journal
	By      string    `json:"by"`
	At      time.Time `json:"at"`
	Expires time.Time `json:"expires"`
	// Begun is when the first byte went out, of the release Began (the digest of its
	// manifest; the name of a program). Handed is when a boot that the ticket had made
	// attested, and was told to install; zero: not yet.
	Begun  time.Time `json:"begun,omitzero"`
	Began  string    `json:"began,omitempty"`
	Handed time.Time `json:"handed,omitzero"`
}

// Assigned is a release that somebody wants on the machine, whatever version the
// rules name.
type Assigned struct {
	Digest   string // of the manifest
	Version  string // for people
	By       string // who or what: "alice", "rollout web 10 %"
	Approved bool   // it may be tried; else it only waits
}

// Peeked is what a machine's netboot slots would serve.
type Peeked struct {
	Digest string // of the manifest; empty: nothing that is there
	Trial  bool   // a try that is not blessed yet
	Why    string
}

// Case is all that a decision depends on.
type Case struct {
	Facts    Facts
	Rules    *Rules
	Ticket   *Ticket // nil: none; one that has ended counts for nothing
	Releases []Release
	Assigned *Assigned // nil: none
	// Peek says what the slots of the machine would serve when target is wanted;
	// it must change nothing. Nil: it has no slots.
	Peek func(target Release, approved bool) Peeked
	Now  time.Time
}

// Step is one thing that was looked at.
type Step struct {
	What    string `json:"what"` // "deny", "ticket", `rule 2 "web"`, "default", "release", "slots", "file"
	Matched bool   `json:"matched"`
	Why     string `json:"why"`
}

// Decision is what a machine gets.
type Decision struct {
	Verb    netboot.Verb
	Release *Release // nil: none
	Program string   // name of a program of the rules; empty: none
	Chain   bool     // by way of iPXE
	Ticket  string   // kind of the ticket that decided; empty: none
	Trial   bool     // a try of a release that is not blessed
	Slots   bool     // the machine's slots chose the release
	Wanted  *Release // what the slots were asked for
	Approve bool     // it may be tried
	Rule    string   // what decided: "rule 2", "default", "ticket"
	Reason  string   // one line for people
	Steps   []Step
}
