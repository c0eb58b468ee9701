package updateapi

// On a server, for attested machines that were booted over the network and keep
// nothing of themselves:
//
//	POST /v1/boot   BootReport -> BootOrder
//
// The server has the slots of such a machine (internal/netslot): it learns here that
// a release runs and how, and says when the machine is to start again. The machine
// reports once in Interval, and at once when it becomes healthy or stops to be.
const BootPath = "/v1/boot"

// MaxBootReport bounds a BootReport in bytes: it has the end of a log.
const MaxBootReport = 96 << 10

// BootReport is how a machine that runs from memory is. Which release it runs is
// for the verdict to say: name, version and build are what the image calls
// itself.
type BootReport struct {
	// Boot is of this boot alone: 32 hex digits by chance. A report with another one
	// comes from after a reset.
	Boot    string `json:"boot"`
	Name    string `json:"name"`
	Version string `json:"version"`
	Build   string `json:"build"`
	// How the firmware came by the image: pxe, http, ram (it does not say), or disk.
	Path string   `json:"path"`
	MACs []string `json:"macs,omitempty"` // of its Ethernet links, with colons
	UUID string   `json:"uuid,omitempty"` // of the machine's SMBIOS table; empty: none, or not one of its own
	// Serial and Asset are those of SMBIOS (product_serial, chassis_asset_tag); empty:
	// none, or a filler of the maker's.
	Serial string `json:"serial,omitempty"`
	Asset  string `json:"asset,omitempty"`

	Uptime  float64 `json:"uptime"`  // of this boot, in seconds
	Healthy float64 `json:"healthy"` // seconds for which everything has been well without a gap; 0: it is not
	// Cause (slot.Cause as text) and Detail say what is not well.
	Cause  string `json:"cause,omitempty"`
	Detail string `json:"detail,omitempty"`
	// Evidence is what an earlier boot of this machine left behind.
	Evidence []BootEvidence `json:"evidence,omitempty"`
	// Install is how far the install that was ordered is; nil: none was.
	Install *Installing `json:"install,omitempty"`
	// Installs says that the image may put itself on a disk of the machine.
	Installs bool `json:"installs,omitempty"`
}

// BootEvidence is a trace of a boot that failed.
type BootEvidence struct {
	Cause  string `json:"cause"` // slot.Cause as text
	Detail string `json:"detail,omitempty"`
}

// BootOrder is what the server wants of the machine.
type BootOrder struct {
	// Reset lets the machine start again now: the server has another release for it.
	Reset bool   `json:"reset,omitempty"`
	Why   string `json:"why,omitempty"` // for the machine's log
	// Install is a ticket to put a release on a disk of the machine.
	Install *InstallTicket `json:"install,omitempty"`
	// Interval is the time until the next report, in seconds.
	Interval float64 `json:"interval"`
}

// InstallTicket allows one install (S18). The server gives it again until the
// machine has attested from the disk, or it is too old.
type InstallTicket struct {
	ID      string `json:"id"`
	Release string `json:"release"` // digest of its manifest
	Version string `json:"version,omitempty"`
	// Force replaces an installed system: a disk whose state or data says that one has
	// run there. Without it only a disk that is empty, or holds what the recipe lets be
	// wiped, is written.
	Force bool `json:"force,omitempty"`
}

// Installing is how far an install is.
type Installing struct {
	Ticket string `json:"ticket"`
	Phase  string `json:"phase"` // see the constants
	Disk   string `json:"disk,omitempty"`
	Detail string `json:"detail,omitempty"` // why it is refused or failed; of one that is done: why there are no boot entries
}

// Phases of an install.
const (
	InstallRefused = "refused" // nothing was written, and nothing will be
	InstallWriting = "writing"
	InstallFailed  = "failed" // it is tried again
	InstallDone    = "done"   // the machine starts from the disk next
)
