// Package appliance holds the part of a recipe that the machine itself acts
// on. The builder writes it as JSON to Path in the initramfs; ingot-init reads
// it there. Both sides share these types, so this package imports nothing of
// the builder and nothing heavy: it is part of ingot-init's budget.
package appliance

// Path is where the builder puts the Spec in the initramfs (JSON, mode 0444).
const Path = "etc/ingot/appliance.json"

// Spec is the appliance as ingot-init sees it.
type Spec struct {
	Format  int      `json:"format"` // 1; a reader stops at any other
	Name    string   `json:"name"`
	Version string   `json:"version"`
	Arch    string   `json:"arch"`
	Build   string   `json:"build"`             // hex sha256 of the build key; the cmdline says ingot.build= the same
	Epoch   int64    `json:"epoch"`             // Unix seconds; the clock floor (S16)
	Modules []string `json:"modules,omitempty"` // names to load unconditionally, in order, before coldplug

	Network    []Interface `json:"network,omitempty"`
	NTP        []string    `json:"ntp,omitempty"`
	Services   []Service   `json:"services,omitempty"`
	Smoke      []Smoke     `json:"smoke,omitempty"`
	Users      []User      `json:"users,omitempty"`
	Data       Data        `json:"data"`
	Root       *Root       `json:"root,omitempty"`
	Management Management  `json:"management"`
	Layout     Layout      `json:"layout"`
	Boot       Boot        `json:"boot"`
	Trust      *Trust      `json:"trust,omitempty"`
	Attest     *Attest     `json:"attest,omitempty"`
	Update     *Update     `json:"update,omitempty"`
	Netboot    *Netboot    `json:"netboot,omitempty"`
	Install    *Install    `json:"install,omitempty"`
	// SecurityEpoch is 0 to 63. A machine whose floor is higher does not run
	// the image (S8, S10).
	SecurityEpoch int `json:"securityEpoch,omitempty"`
}

// Attest is how the machine proves to a server what it has booted. The server's
// certificate must lead to one of Trust.Server.
type Attest struct {
	// Server is the base URL, used when neither machine.yaml nor DHCP name one
	// (S14); empty waits for one of these.
	Server string `json:"server,omitempty" yaml:"server"`
	// Interval is the time between two proofs; the server may ask for another.
	Interval Duration `json:"interval,omitempty" yaml:"interval"` // default 1m
}

// Trust are the public keys that the machine is given (S8): certificates in
// DER, keys as SubjectPublicKeyInfo in DER. PK, KEK and DB are there together
// or not at all.
type Trust struct {
	Owner     string   `json:"owner,omitempty"` // GUID of the signature lists, for enrolment
	PK        []byte   `json:"pk,omitempty"`    // certificates of firmware
	KEK       []byte   `json:"kek,omitempty"`   //
	DB        [][]byte `json:"db,omitempty"`    //
	Image     [][]byte `json:"image,omitempty"` // keys whose signatures on a release count
	Threshold int      `json:"threshold"`       // how many different ones are needed
	Fleet     []byte   `json:"fleet,omitempty"` // certificate of the management root
	// Operator is the certificate of the authority of operators: who shows a
	// certificate by it may update the machine.
	Operator []byte   `json:"operator,omitempty"`
	Server   [][]byte `json:"server,omitempty"` // certificates of server authorities, never of servers
	Policy   []byte   `json:"policy,omitempty"` // key that signs PCR values
}

// Boot is who picks the slot at power-on (S21).
type Boot struct {
	Loader  string      `json:"loader"`            // firmware or systemd-boot
	Policy  string      `json:"policy,omitempty"`  // disk-first (also when empty), net-first or external (S18)
	Timeout int         `json:"timeout,omitempty"` // seconds a menu waits
	Entries []BootEntry `json:"entries,omitempty"` // beside the slots
}

// BootEntry is one more program on the ESP that the firmware's menu offers.
type BootEntry struct {
	Title string `json:"title"`
	EFI   string `json:"efi"` // path on the ESP, with backslashes
}

// Layout names the partitions by GUID so that init finds its disk (S9).
type Layout struct {
	ID   string            `json:"id"`   // layout id, e.g. "esp128-slot256-state16"
	Disk string            `json:"disk"` // disk GUID
	Part map[string]string `json:"part"` // role (esp slot-a slot-b root-a root-b state data) -> partition GUID
}

// Interface configures the network links that match.
type Interface struct {
	Match   Match    `json:"match" yaml:"match"`
	DHCP    bool     `json:"dhcp,omitempty" yaml:"dhcp"`
	Address []string `json:"address,omitempty" yaml:"address"` // CIDR: "10.0.2.15/24", "fd00::2/64"
	Gateway string   `json:"gateway,omitempty" yaml:"gateway"`
	DNS     []string `json:"dns,omitempty" yaml:"dns"`
	MTU     int      `json:"mtu,omitempty" yaml:"mtu"`   // bytes
	VLAN    int      `json:"vlan,omitempty" yaml:"vlan"` // 802.1Q id 1..4094 on top of the matched link
	Bond    *Bond    `json:"bond,omitempty" yaml:"bond"`
	RA      bool     `json:"ra,omitempty" yaml:"ra"` // accept IPv6 router advertisements
}

// Match selects links; all fields that are set must agree. Names accept path.Match patterns.
type Match struct {
	Name   string `json:"name,omitempty" yaml:"name"`
	MAC    string `json:"mac,omitempty" yaml:"mac"`
	Driver string `json:"driver,omitempty" yaml:"driver"`
	Path   string `json:"path,omitempty" yaml:"path"` // bus path as in sysfs: "pci-0000:00:02.0"
}

// Bond joins all matched links into one.
type Bond struct {
	Name string `json:"name" yaml:"name"`
	Mode string `json:"mode" yaml:"mode"` // active-backup, 802.3ad, balance-rr, balance-xor, broadcast, balance-tlb, balance-alb
}

// Service is one supervised program.
type Service struct {
	Name    string            `json:"name" yaml:"name"`
	Command string            `json:"command" yaml:"command"` // absolute path in the initramfs or verity root
	Args    []string          `json:"args,omitempty" yaml:"args"`
	Env     map[string]string `json:"env,omitempty" yaml:"env"`
	Dir     string            `json:"dir,omitempty" yaml:"dir"`
	// StateDirectory is a directory below the data mount that init makes and
	// gives to User before the service starts: "recorder" is /data/recorder.
	StateDirectory string   `json:"stateDirectory,omitempty" yaml:"stateDirectory"`
	User           string   `json:"user,omitempty" yaml:"user"`                 // name from users; empty = root
	Capabilities   []string `json:"capabilities,omitempty" yaml:"capabilities"` // kept as ambient, e.g. NET_BIND_SERVICE; all others dropped
	// Secrets are names of what the server gives to an attested machine, before
	// the service starts: /run/ingot/secrets/SERVICE/NAME, mode 0400, of User.
	Secrets     []string `json:"secrets,omitempty" yaml:"secrets"`
	Restart     Restart  `json:"restart" yaml:"restart"`
	After       []string `json:"after,omitempty" yaml:"after"` // started once these are healthy (or running, without a check)
	Health      *Health  `json:"health,omitempty" yaml:"health"`
	StopTimeout Duration `json:"stopTimeout,omitempty" yaml:"stopTimeout"` // SIGTERM to SIGKILL; default 10s
}

// Restart is what happens when a service exits.
type Restart struct {
	Policy  string   `json:"policy" yaml:"policy"`   // always (default), on-failure, never
	Backoff Duration `json:"backoff" yaml:"backoff"` // first delay, doubled up to Max; default 1s
	Max     Duration `json:"max" yaml:"max"`         // default 30s
}

// Health is one check; exactly one of Exec, TCP, HTTP is set.
type Health struct {
	Exec     []string   `json:"exec,omitempty" yaml:"exec"`
	TCP      int        `json:"tcp,omitempty" yaml:"tcp"` // port on loopback
	HTTP     *HTTPCheck `json:"http,omitempty" yaml:"http"`
	Interval Duration   `json:"interval,omitempty" yaml:"interval"` // default 5s
	Timeout  Duration   `json:"timeout,omitempty" yaml:"timeout"`   // default 2s
	Retries  int        `json:"retries,omitempty" yaml:"retries"`   // failures in a row until unhealthy; default 3
}

// HTTPCheck expects an answer from a port of the machine.
type HTTPCheck struct {
	Port   int    `json:"port" yaml:"port"`
	Path   string `json:"path,omitempty" yaml:"path"`     // default /
	Status int    `json:"status,omitempty" yaml:"status"` // default 200
	Body   string `json:"body,omitempty" yaml:"body"`     // must be contained in the answer
}

// Smoke is one expectation of `ingot test`: exactly one of Command and HTTP.
// Commands run on the machine, asked for over the virtio port ingot.smoke.
type Smoke struct {
	Name    string     `json:"name" yaml:"name"`
	Command []string   `json:"command,omitempty" yaml:"command"`
	Output  string     `json:"output,omitempty" yaml:"output"` // must be contained in the command's output
	HTTP    *HTTPCheck `json:"http,omitempty" yaml:"http"`
	Timeout Duration   `json:"timeout,omitempty" yaml:"timeout"` // default 30s
}

// User is an account; root (0) and nobody (65534) always exist.
type User struct {
	Name string `json:"name" yaml:"name"`
	UID  uint32 `json:"uid" yaml:"uid"` // the group of the same name has this id too
}

// Data is the writable partition p7.
type Data struct {
	Mount      string `json:"mount,omitempty" yaml:"mount"`           // default /data; "" after defaults means no data partition
	Filesystem string `json:"filesystem,omitempty" yaml:"filesystem"` // ext4
	Encrypt    string `json:"encrypt,omitempty" yaml:"encrypt"`       // "" or tpm (S3)
	// Schema is the format of the data that this version writes, Accepts the newest
	// that it reads (default: Schema). Services find the format that they may write
	// in /run/ingot/data-schema.
	Schema  int `json:"schema,omitempty" yaml:"schema"`
	Accepts int `json:"accepts,omitempty" yaml:"accepts"`
}

// Root is a read-only root payload under dm-verity.
type Root struct {
	Format     string `json:"format"`     // squashfs or erofs
	DataBlocks uint64 `json:"dataBlocks"` // of 4096 bytes
	HashStart  uint64 `json:"hashStart"`  // byte offset of the verity superblock in the root partition
	RootHash   string `json:"rootHash"`   // hex; the cmdline's ingot.roothash= is what init trusts
	// Size and SHA256 (hex) are those of the payload as a file, NAME-VERSION.root: a
	// machine without a disk fetches it by them. Images of before have none.
	Size       int64    `json:"size,omitempty"`
	SHA256     string   `json:"sha256,omitempty"`
	Entrypoint []string `json:"entrypoint,omitempty"` // OCI config
	Cmd        []string `json:"cmd,omitempty"`        // arguments, or all of the command without an Entrypoint; a service's args replace them
	Env        []string `json:"env,omitempty"`
	WorkingDir string   `json:"workingDir,omitempty"`
	User       string   `json:"user,omitempty"`
}

// Netboot is for machines that boot over the network.
type Netboot struct {
	// Server is the base URL (http) that root/DIGEST is below, used when DHCP names none.
	Server string `json:"server,omitempty" yaml:"server"`
}

// Install lets a machine that was booted over the network put itself on a disk, when its
// server has given it a ticket (S18).
type Install struct {
	To Target `json:"to"`
	// Wipe takes a disk with content that is not ingot's, too.
	Wipe bool `json:"wipe,omitempty"`
}

// Where udev of other systems has names of disks that stay the same.
const (
	ByPath = "/dev/disk/by-path/"
	ByID   = "/dev/disk/by-id/"
)

// Target selects a disk; all fields that are set must agree, and one disk must be left.
// Names accept path.Match patterns.
type Target struct {
	Path    string `json:"path,omitempty"`    // place on the bus: "pci-0000:00:04.0", also with ByPath before it
	Serial  string `json:"serial,omitempty"`  // or WWID, or a name in ByID
	Model   string `json:"model,omitempty"`   //
	MinSize int64  `json:"minSize,omitempty"` // bytes
	MaxSize int64  `json:"maxSize,omitempty"` // bytes; 0 = any
}

// Management is the machine's own listener (S15).
type Management struct {
	Listen string `json:"listen" yaml:"listen"` // default :9443
}

// Update is how the machine takes updates (docs/updates.md). Without it the
// machine keeps what was flashed.
type Update struct {
	// Pull follows what the attestation server assigns to the machine.
	Pull bool `json:"pull,omitempty" yaml:"pull"`
	// Interval is the time between two looks at the assignment; the server may
	// ask for another. Default 5m.
	Interval Duration `json:"interval,omitempty" yaml:"interval"`
	// USB takes a newer signed release from a stick that is plugged in.
	USB bool `json:"usb,omitempty" yaml:"usb"`
	// Bless is what a trial needs to become good: "health" (default), or
	// "attested": the server's verdict too.
	Bless  string   `json:"bless,omitempty" yaml:"bless"`
	Health Duration `json:"health,omitempty" yaml:"health"` // for which all checks must hold without a gap; default 1m
	Limit  Duration `json:"limit,omitempty" yaml:"limit"`   // after which a trial has failed; default 10m
	Soak   Duration `json:"soak,omitempty" yaml:"soak"`     // after which a blessed version raises the floor; default 1h
	Tries  int      `json:"tries,omitempty" yaml:"tries"`   // failures with evidence until a version is rejected; default 3
	Patrol Duration `json:"patrol,omitempty" yaml:"patrol"` // within which slots are compared with their digests; default 24h
	// Watchdog is the timeout of the hardware watchdog in a trial; default 1m.
	Watchdog Duration `json:"watchdog,omitempty" yaml:"watchdog"`
}
