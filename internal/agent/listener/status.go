package listener

import (
	"github.com/ingot-os/ingot/internal/agent/network"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// Status is the answer of GET /v1/status. docs/machine-api.md describes it;
// fields are only ever added.
type Status struct {
	Name      string            `json:"name"`
	Version   string            `json:"version"`
	Build     string            `json:"build"` // hex, from the image
	Hostname  string            `json:"hostname"`
	Labels    map[string]string `json:"labels,omitempty"` // of machine.yaml
	Arch      string            `json:"arch"`
	Kernel    string            `json:"kernel"`
	Healthy   bool              `json:"healthy"`
	Reasons   []string          `json:"reasons,omitempty"` // why not healthy
	Problems  []string          `json:"problems,omitempty"`
	Uptime    float64           `json:"uptime"`              // seconds since the kernel started
	HealthyAt float64           `json:"healthyAt,omitempty"` // seconds; first time all services were ready
	Boot      Boot              `json:"boot"`
	Machine   MachineFile       `json:"machine"`
	Network   []network.Status  `json:"network"`
	Services  []Service         `json:"services"`
	Data      Data              `json:"data"`
	Root      *Root             `json:"root,omitempty"`
	Clock     Clock             `json:"clock"`
	// Attestation is how the machine stands with its server.
	Attestation Attestation `json:"attestation"`
	Management  Management  `json:"management"`
	TPM         bool        `json:"tpm"`        // a TPM 2.0 with a driver
	SecureBoot  string      `json:"secureBoot"` // enabled, disabled, setup, unknown
	// PlatformKey is the SHA-256 of the certificate that owns the firmware's
	// Secure Boot, hex; empty without one.
	PlatformKey string `json:"platformKey,omitempty"`
	// Watchdog is absent on machines that take no updates: nothing arms it.
	Watchdog *Watchdog `json:"watchdog,omitempty"`
	// Slots are the machine's slots, without the firmware's entries (GET /v1/slots
	// has these); absent on machines that were not started from a slot.
	Slots *updateapi.Slots `json:"slots,omitempty"`
}

// NotStarted is the reason of a machine that has not come so far.
const NotStarted = "services are not started"

// Watchdog is the hardware that resets a machine whose init stands still.
type Watchdog struct {
	State    string  `json:"state"`              // armed; absent: hangs are not covered; failed: likewise, see Error
	Device   string  `json:"device,omitempty"`   // watchdog0
	Identity string  `json:"identity,omitempty"` // of the driver
	Timeout  float64 `json:"timeout,omitempty"`  // seconds without init until the reset
	// Software is a timer of the kernel that it should watch.
	Software bool   `json:"software,omitempty"`
	Error    string `json:"error,omitempty"`
}

// Boot says where this system came from.
type Boot struct {
	Role      string   `json:"role"`           // appliance, selector, ram
	Path      string   `json:"path"`           // disk, selector, ram
	Slot      string   `json:"slot,omitempty"` // a or b
	Partition string   `json:"partition,omitempty"`
	Disk      string   `json:"disk,omitempty"` // device node
	DiskGUID  string   `json:"diskGUID,omitempty"`
	State     string   `json:"state"`              // ok; absent (no disk belongs to this boot), missing (it was not found), refused (two could be it)
	Entries   []string `json:"entries,omitempty"`  // boot variables of the firmware, as text
	Evidence  string   `json:"evidence,omitempty"` // why an earlier boot's init ended
}

// MachineFile is machine.yaml as it was found.
type MachineFile struct {
	State  string   `json:"state"` // applied, absent, refused
	SHA256 string   `json:"sha256,omitempty"`
	Errors []string `json:"errors,omitempty"`
}

// Service is one supervised program.
type Service struct {
	Name     string  `json:"name"`
	State    string  `json:"state"`  // waiting, starting, running, backoff, stopping, completed, failed, stopped
	Health   string  `json:"health"` // unchecked, pending, healthy, unhealthy
	Restarts int     `json:"restarts"`
	PID      int     `json:"pid,omitempty"`
	Since    float64 `json:"since,omitempty"` // start of the run, seconds since the kernel started
	Detail   string  `json:"detail,omitempty"`
}

// Data is the data partition.
type Data struct {
	State      string `json:"state"` // mounted, none, absent, failed
	Mount      string `json:"mount,omitempty"`
	Device     string `json:"device,omitempty"`
	Filesystem string `json:"filesystem,omitempty"`
	Size       uint64 `json:"size,omitempty"` // bytes of the filesystem
	Free       uint64 `json:"free,omitempty"` // bytes
	Created    bool   `json:"created,omitempty"`
	Growing    bool   `json:"growing,omitempty"` // the file system is taking the rest of a larger partition
	Grown      bool   `json:"grown,omitempty"`   // it has done so in this boot
	Dirty      bool   `json:"dirty,omitempty"`   // was not unmounted cleanly before this boot
	// Encrypted says that the recipe wants it so; UnlockedBy is tpm or recovery,
	// Floor the lowest security epoch of a release that opens it, Cause why
	// it stayed closed (docs/data-encryption.md).
	Encrypted  bool   `json:"encrypted,omitempty"`
	UnlockedBy string `json:"unlockedBy,omitempty"`
	Floor      int    `json:"floor,omitempty"`
	Cause      string `json:"cause,omitempty"`
	Error      string `json:"error,omitempty"`
}

// Root is the verity root payload.
type Root struct {
	State    string `json:"state"` // mounted, fetching, failed, corrupt (a block does not match the root hash), unknown
	Device   string `json:"device,omitempty"`
	Format   string `json:"format"`
	RootHash string `json:"rootHash"`
	Error    string `json:"error,omitempty"`
}

// Clock is where the time comes from.
type Clock struct {
	Now    string  `json:"now"`    // RFC 3339, UTC
	Source string  `json:"source"` // floor, rtc, server, ntp
	Floor  string  `json:"floor"`  // RFC 3339
	Server string  `json:"server,omitempty"`
	Offset float64 `json:"offset,omitempty"` // seconds, at the last NTP answer
	Error  string  `json:"error,omitempty"`
}

// Management is how operators reach the machine.
type Management struct {
	// Key is the SHA-256 of the key that the machine shows to operators, hex; empty
	// when its image takes no updates, or names no operator authority.
	Key string `json:"key,omitempty"`
}

// Attestation is how the machine stands with the server that it attests to.
type Attestation struct {
	// State is absent (the image does not attest, or there is no TPM), waiting
	// (no server is known), enrolling, pending (an operator has to approve the
	// host), trusted, refused (the server says why) or failed (see Error; it is
	// tried again).
	State    string    `json:"state"`
	Server   string    `json:"server,omitempty"`
	Source   string    `json:"source,omitempty"` // who named the server: machine.yaml, dhcp, recipe
	Name     string    `json:"name,omitempty"`   // of the host, at the server
	Last     string    `json:"last,omitempty"`   // RFC 3339; the newest verdict
	Findings []Finding `json:"findings,omitempty"`
	Error    string    `json:"error,omitempty"`
}

// Finding is one reason of a server.
type Finding struct {
	Code   string `json:"code"` // docs/verdicts.md
	Detail string `json:"detail,omitempty"`
}
