package updateapi

// NetbootPath is where a machine that was started over the network tells how it
// is (POST, Netboot -> NetbootAnswer), with the certificate that it got with a
// trusted verdict: first as soon as it has that, then whenever its health
// changes, and at least once in NetbootAnswer.Interval. A server that serves no
// boots answers 404 with request.unknown: then nothing is to be told.
const NetbootPath = "/v1/netboot"

// Tickets that a machine may find in NetbootAnswer.
const (
	TicketInstall = "install"
	TicketRescue  = "rescue"
	TicketMemtest = "memtest"
	TicketRelease = "release" // one boot of a release
)

// Netboot is what a machine says that was started over the network. What it
// runs the server knows from the verdict; names here are for people.
type Netboot struct {
	Name    string `json:"name"`    // of the appliance
	Version string `json:"version"` // that runs
	// Boot tells this boot from others: /proc/sys/kernel/random/boot_id.
	Boot string `json:"boot"`
	// MACs are those of its Ethernet links, 52:54:00:12:34:56; the link that it was
	// started over first, where that is known. At most 32.
	MACs []string `json:"macs"`
	// UUID, Serial and Asset are those of SMBIOS (product_uuid, product_serial,
	// chassis_asset_tag of /sys/class/dmi/id); empty: none.
	UUID   string `json:"uuid,omitempty"`
	Serial string `json:"serial,omitempty"`
	Asset  string `json:"asset,omitempty"`
	// From is what runs: "ram", or "disk" after a start from the disk that an
	// install ticket has written.
	From string `json:"from"`

	Uptime  float64 `json:"uptime"`  // seconds since this boot began
	Healthy bool    `json:"healthy"` // services run and their checks hold, now
	Cause   string  `json:"cause,omitempty"`
	Detail  string  `json:"detail,omitempty"`
	// Evidence are traces of earlier boots that this one has found (pstore, the
	// watchdog's boot status). At most 16.
	Evidence []NetbootEvidence `json:"evidence,omitempty"`

	// Installed is the version that was written to the disk, read back and made
	// its boot entry: the install ticket is spent. InstallFailed says why it was
	// not; the ticket stays until its end.
	Installed     string `json:"installed,omitempty"`
	InstallFailed string `json:"installFailed,omitempty"`
}

// NetbootEvidence is a trace of a boot that failed; Cause is a name of
// docs/slots.md, ID tells one trace from another (0: it cannot be seen twice).
type NetbootEvidence struct {
	Cause  string `json:"cause"`
	Detail string `json:"detail,omitempty"`
	ID     uint64 `json:"id,omitempty"`
}

// NetbootAnswer is what follows for the machine.
type NetbootAnswer struct {
	// Ticket is the kind of the ticket that this boot was made by; empty: none.
	// With "install" the machine writes its release to the disk that its recipe
	// names, refuses a disk with a valid journal unless Force, and reports.
	Ticket string `json:"ticket,omitempty"`
	Force  bool   `json:"force,omitempty"`
	// Reset asks the machine to start again: another release waits for it, or the
	// trial of this one has failed.
	Reset bool `json:"reset,omitempty"`
	// Notice is for its console and log.
	Notice   string  `json:"notice,omitempty"`
	Interval float64 `json:"interval"` // seconds until it reports again
}
