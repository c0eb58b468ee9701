package attestapi

// MachinePath is where a machine that keeps nothing asks for its machine.yaml (S13):
//
//	POST /v1/machine   MachineRequest -> MachineFile
//
// It asks before it has attested, so that what it is told is measured first: the
// file has no secrets in it, and whoever names the right address gets it. That it
// was the right one is seen at the attestation: its digest is in PCR 15, and the
// server compares it with the one that is registered for the host.
const MachinePath = "/v1/machine"

// MaxMachine bounds a machine.yaml in bytes (S13).
const MaxMachine = 64 << 10

// MachineRequest is what a machine says of itself. All of it are hints.
type MachineRequest struct {
	Appliance string   `json:"appliance"`      // name of the image
	MACs      []string `json:"macs"`           // of its Ethernet links, with colons, the one that has an address first
	UUID      string   `json:"uuid,omitempty"` // of its SMBIOS table, lower case; empty: none, or not one of its own
	Serial    string   `json:"serial,omitempty"`
}

// MachineFile is the answer.
type MachineFile struct {
	// Data is the machine.yaml; nil: the machine has none.
	Data []byte `json:"data,omitempty"`
	// From says for people where the server has it from.
	From string `json:"from,omitempty"`
}
