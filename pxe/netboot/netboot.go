// Package netboot has the words that the parts of a boot server share: who asks
// (Client), what it is told (Answer), what it then fetches (Content), and what was
// seen of it (Event).
//
// One boot goes through them like this:
//
//	firmware asks for an address  -> Client  -> Decider.Decide -> Answer in DHCP options
//	firmware asks for Answer.Path -> Request -> Source.Open    -> Content, byte for byte
//	each step                     -> Event   -> Watcher.Saw    -> the host's timeline
//
// Nothing that a client says of itself is proven: MAC address, UUID and architecture
// choose an image, and are no identity.
package netboot

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"time"
)

// Client is a machine that asks over DHCP, as it describes itself.
type Client struct {
	MAC   MAC
	UUID  string     // from option 97 (RFC 4578 section 2.3), lower case; "" when it is absent, all zero or all ones
	Arch  Arch       // from option 93, or option 61 of DHCPv6; Unknown without one
	Class string     // vendor class (option 60, option 16 of DHCPv6) as sent, at most 255 bytes
	IPXE  bool       // iPXE runs already: user class "iPXE", or its option 175
	Init  bool       // ingot-init asks: vendor class "ingot"
	Addr  netip.Addr // that it has or is given; zero: not known
	Relay netip.Addr // giaddr or link-address; zero: it is on our link
	// CircuitID and RemoteID are what a relay agent says of it (option 82).
	CircuitID, RemoteID []byte
	Link                string // interface that heard it
}

// HTTP reports whether the firmware wants a URL (UEFI 2.10 section 24.7.2).
func (c Client) HTTP() bool {
	return c.Arch.HTTP() || len(c.Class) >= 10 && c.Class[:10] == "HTTPClient"
}

// Verb is what a client is told.
type Verb int

// The verbs of an Answer.
const (
	Ignore Verb = iota // not ours: nothing is sent
	Boot               // load Path by Method
	Refuse             // it may not boot from the network: said so that its firmware goes on at once
)

// Method is how a boot file is fetched.
type Method string

// The methods.
const (
	TFTP  Method = "tftp"
	HTTP  Method = "http"
	HTTPS Method = "https"
)

// Answer is what a client is told.
type Answer struct {
	Verb   Verb
	Method Method
	// Path is of the boot file, below the root of TFTP and of HTTP alike, without a
	// leading slash: boot/MAC/hello-1.0.0.efi.
	Path string
	// Reason is for people: the rule that decided, or why there is no boot.
	Reason string
	// Host is the name under which the machine is known; "" when it is not.
	Host string
	// Release is NAME-VERSION; "" for what is none.
	Release string
}

// Decider says what a client boots. It is asked at each DHCP message, and changes
// nothing: a question is no attempt.
type Decider interface {
	Decide(ctx context.Context, c Client) Answer
}

// Request is a client that asks for a file.
type Request struct {
	Method Method
	Path   string // as Answer.Path: clean, relative, without .. and without NUL
	Addr   netip.AddrPort
	Probe  bool // only its size is wanted: HEAD
}

// Content is a file that is being served.
type Content interface {
	io.ReaderAt
	Size() int64
	// Begin is called once, before the first byte of payload leaves; a size alone is
	// none. An error refuses the transfer: what was decided is not true any more.
	Begin() error
	Close() error
}

// Errors of Source.Open that a client may be told apart. Others are "not available",
// and never say a path of the server.
var (
	ErrNotFound = errors.New("no such file")
	ErrDenied   = errors.New("not for this client")
	ErrBusy     = errors.New("too many transfers")
)

// Source has the files.
type Source interface {
	Open(ctx context.Context, r Request) (Content, error)
}

// Stage is a step of a boot.
type Stage string

// The stages, in the order of a boot.
const (
	Asked    Stage = "asked"    // DHCP: its question was heard
	Offered  Stage = "offered"  // DHCP: a boot file was named to it
	Refused  Stage = "refused"  // DHCP or a file: it was told no
	Probed   Stage = "probed"   // it asked for a size, or broke off before the first byte
	First    Stage = "first"    // first byte of payload
	Last     Stage = "last"     // last byte acknowledged (TFTP) or written (HTTP)
	Broken   Stage = "broken"   // a transfer ended after its first byte and before its last
	Started  Stage = "init"     // ingot-init runs, and asks for its address
	Attested Stage = "attested" // it has proven what it runs
	Healthy  Stage = "healthy"
)

// Event is something that was seen.
type Event struct {
	Time    time.Time
	Stage   Stage
	MAC     MAC // zero when only Addr is known
	Addr    netip.AddrPort
	Method  Method // of files; "" for DHCP
	Path    string // of files
	Bytes   int64  // sent so far
	Size    int64  // of the file
	Host    string
	Release string
	Detail  string // why, for people
}

// Watcher is told what was seen. It must not block.
type Watcher interface {
	Saw(e Event)
}
