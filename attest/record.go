package attest

import (
	"time"

	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/quote"
	"github.com/ingot-os/ingot/partition/gpt"
)

// State is what enrolment has come to for a host.
type State string

// The states of a host.
const (
	Active  State = "active"
	Pending State = "pending" // waits for an operator
	Revoked State = "revoked"
)

// Record is what the server keeps about an enrolled host.
type Record struct {
	Name   string `json:"name"`
	State  State  `json:"state"`
	AKName []byte `json:"akName"` // computed from the public area that was activated
	EKName []byte `json:"ekName"`
	// Chained says that the EK's certificate led to a configured root; else an
	// operator has vouched for the key.
	Chained     bool      `json:"chained"`
	Enrolled    time.Time `json:"enrolled"`
	Environment string    `json:"environment,omitempty"`

	// Firmware are the values of PCR 0 and 2 that an operator has accepted, by
	// bank; FirmwareVersion is the TPM's. Without them firmware is not judged.
	Firmware        map[pcr.Bank]map[int]pcr.Digest `json:"firmware,omitempty"`
	FirmwareVersion uint64                          `json:"firmwareVersion,omitempty"`
	// Machine is the SHA-256 of the machine.yaml that the operator registered.
	Machine pcr.Digest `json:"machine,omitempty"`
	// Disk is the disk's identifier when it is the host's own, zero when it is
	// the release's.
	Disk gpt.GUID `json:"disk,omitzero"`
	// Floor is the lowest epoch that the host may run.
	Floor int64 `json:"floor,omitempty"`
	// Counter is that of the version floor in the TPM; nil: none was ever seen.
	Counter *Counter `json:"counter,omitempty"`
}

// Policy is what an operator demands of a boot. The zero value is the default.
type Policy struct {
	// Banks are accepted, best first; nil means SHA-256, then SHA-384. The
	// first of them that is quoted is judged.
	Banks []pcr.Bank `json:"banks,omitempty"`
	// PCRs must be quoted; nil means DefaultPCRs.
	PCRs []int `json:"pcrs,omitempty"`
	// SecureBoot must be on.
	SecureBoot bool `json:"secureBoot,omitempty"`
	// Keys are those that may be enrolled, one set of them in full; nil leaves
	// the keys to the reference.
	Keys []Keys `json:"keys,omitempty"`
	// Paths are the ways to boot that are accepted; nil means those of the
	// references that do not replace the command line.
	Paths []string `json:"paths,omitempty"`
	// MachineConfig must be the registered one.
	MachineConfig bool `json:"machineConfig,omitempty"`
	// DMAProtection must not be off in the firmware.
	DMAProtection bool `json:"dmaProtection,omitempty"`
	// QuietFirmware lets firmware leave out EV_EFI_ACTION events in PCR 4 and 5.
	QuietFirmware bool `json:"quietFirmware,omitempty"`
	// EarlyApplications are digests of programs that the firmware may start
	// before its boot manager: some makers' firmware has such of its own.
	EarlyApplications []pcr.Digest `json:"earlyApplications,omitempty"`

	AllowDebug   bool `json:"allowDebug,omitempty"`
	AllowResumed bool `json:"allowResumed,omitempty"`
}

// DefaultPCRs are quoted by a machine and demanded by a verifier.
var DefaultPCRs = []int{0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 12, 15}

var defaultBanks = []pcr.Bank{pcr.SHA256, pcr.SHA384}

func (p *Policy) banks() []pcr.Bank {
	if p.Banks == nil {
		return defaultBanks
	}
	return p.Banks
}

func (p *Policy) pcrs() []int {
	if p.PCRs == nil {
		return DefaultPCRs
	}
	return p.PCRs
}

// LastSeen is the TPM's clock in the newest accepted evidence of a host.
type LastSeen struct {
	Clock quote.Clock `json:"clock"`
	At    time.Time   `json:"at"`
}

// clockLoss is how much of its clock a TPM may lose in a power cut, in
// milliseconds (TPM 2.0 Library part 1, section 36.3.2: at least one write to
// NV in each 2^22 ms).
const clockLoss = 1 << 22

// after says what is wrong with a clock that comes after last; "" for nothing.
func after(last, now quote.Clock) (Code, string) {
	switch {
	case now.ResetCount < last.ResetCount:
		return ClockReset, "reset counter"
	case now.ResetCount > last.ResetCount && now.Millis+clockLoss < last.Millis:
		return ClockRewound, "clock over a reset"
	case now.ResetCount > last.ResetCount:
		return "", ""
	case now.Millis < last.Millis:
		return ClockRewound, "clock"
	case now.RestartCount < last.RestartCount:
		return ClockRewound, "restart counter"
	}
	return "", ""
}
