// Package proof holds what PID 1 and its attester tell each other. The attester
// (internal/agent/attester) needs TLS and all of the TPM, which not every image
// links; so PID 1 knows only these types, and the program that links both puts
// them together:
//
//	agent.Run(agent.Options{Attest: attester.Run})
package proof

import (
	"context"
	"time"

	"github.com/ingot-os/ingot/internal/agent/listener"
)

// Machine is what the attester is told about the machine and may do to it. All
// functions may be called from any goroutine.
type Machine struct {
	// Hostname is that of machine.yaml; without one the host is called Prefix,
	// a dash and the first 12 hex digits of the endorsement key's name.
	Hostname, Prefix string
	// Server gives the server's base URL as it is known now, and who named it;
	// empty as long as nobody has.
	Server func() (url, source string)
	// Fallback gives the server to try when none of several connections to Server
	// came about; empty: none. The network alone names Server then, and anybody on
	// it can name one that does not answer. nil: as empty.
	Fallback func() (url, source string)
	// Roots are the certificates (DER) of the authorities that a server's must
	// lead to.
	Roots [][]byte
	// Interval is the time between two proofs until the server says another.
	Interval time.Duration

	// TPM is the device, or the socket of an emulator. It is called before each
	// use and tells why there is none.
	TPM func(ctx context.Context) (path string, err error)
	// EventLog gives the firmware's log and InitLog what was extended since.
	EventLog func() ([]byte, error)
	InitLog  func() []byte
	// FloorBase reports whether the image seals its data to a version floor, and
	// the value of the TPM's counter that means floor 0; nil when that is not
	// known. Without the function there is no counter.
	FloorBase func() (base *int64, sealed bool)
	// Firmware names the machine's firmware for people.
	Firmware string

	// Floor is the earliest time that is believed. SetTime takes the server's, as
	// soon as each challenge has come; TimeKnown reports whether it ever has.
	Floor     time.Time
	TimeKnown func() bool
	SetTime   func(time.Time) error

	// Deliver takes what an attested machine gets. Secrets are taken in any case:
	// an error does not ask for them again.
	Deliver func(Delivery) error
	// Report takes the state for /v1/status.
	Report func(listener.Attestation)
	// Logf writes a line of the machine's log.
	Logf func(format string, args ...any)
}

// Hardware is what a machine says of itself. Nothing of it is proven.
type Hardware struct {
	Appliance string
	MACs      []string // with colons, that of a link with an address first
	UUID      string   // of its SMBIOS table, lower case; empty: none of its own
	Serial    string
	Asset     string // tag of its chassis
}

// Delivery is what an attested machine gets.
type Delivery struct {
	Certificate []byte // PEM, the host's first, then its authority's; nil: none
	Key         []byte // PEM (PKCS #8), of the certificate
	Secrets     []Secret
}

// Secret is an opened one.
type Secret struct {
	Name  string
	Value []byte
}
