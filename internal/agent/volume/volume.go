// Package volume is what init and the code that opens its encrypted data
// partition say to each other. The code is linked only into images that
// encrypt, so it reaches init as a value (Sealer).
//
// It holds types alone.
package volume

import (
	"context"
	"fmt"
)

// Request is a data partition to be opened, or made when it is blank.
type Request struct {
	Name   string // of the appliance, for the volume's label
	Node   string // device node of the partition
	Size   int64  // bytes
	Policy []byte // public key of PCR values: SubjectPublicKeyInfo, DER
	Epoch  int    // security epoch of the release that runs
	TPM    func(context.Context) (node string, err error)
	Slot   string // node of the partition that the release was read from; "" = none
	// Signatures reads the release's file of policy signatures; nil = from Slot.
	Signatures func() ([]byte, error)
	// OwnSecureBoot is nil when Secure Boot is on with the keys of the image.
	OwnSecureBoot func() error
	// Escrow takes the recovery key of a volume that is being made. The volume
	// is not made when it fails.
	Escrow func(key string) error
	// Ask waits for somebody to type the recovery key; nil when nobody can.
	Ask func(ctx context.Context, cause error) (key string, err error)
	// Logf says what is worth knowing and no secret.
	Logf func(format string, args ...any)
}

// How a volume was unlocked.
const (
	ByTPM      = "tpm"
	ByRecovery = "recovery"
)

// Volume is an open volume.
type Volume struct {
	Node       string // of the decrypted device
	Size       int64  // bytes
	UnlockedBy string
	Created    bool   // it was blank
	Floor      int    // lowest epoch of a release that opens it
	Base       *int64 // value of the TPM's counter that means floor 0; nil: it did not come from this TPM
	Warning    error  // something that does not keep it closed, as an *Error
	Close      func() error
}

// Sealer opens a volume, and keeps the version floor that the volume is sealed to. It is
// one type, since without the floor an old release would open what a new one has sealed.
type Sealer interface {
	// Open opens a volume. Its error is an *Error.
	Open(context.Context, Request) (Volume, error)
	Floor
}

// Floor reads and raises the version floor that the volume on a node is sealed
// to: security epochs, kept by a counter of the TPM.
type Floor interface {
	Read(ctx context.Context, node string, tpm func(context.Context) (string, error)) (floor int, err error)
	Raise(ctx context.Context, node string, tpm func(context.Context) (string, error), floor int) (int, error)
}

// Error says why a volume stays closed, or what Volume.Warning is about. A
// volume that is refused has not been changed. After Failed a write may have
// been cut: what was being made is blank or whole, what was there still opens,
// by the TPM or by the recovery key.
type Error struct {
	Code string
	Err  error
}

// Codes of Error; docs/data-encryption.md describes each.
const (
	NoTPM       = "tpm.missing"        // no TPM, or it does not answer
	SecureBoot  = "secureboot.off"     // off, or with keys that are not the image's
	Unsigned    = "pcrsig.missing"     // the slot has no file of signatures, or no valid one
	Changed     = "pcrsig.unknown"     // what was booted is not what was signed
	BelowFloor  = "floor.below"        // the release is older than the floor
	FloorLost   = "floor.lost"         // the counter is gone, or was made anew
	Firmware    = "firmware.changed"   // PCR 7 is not what it was
	OtherTPM    = "tpm.other"          // sealed by another TPM, or before it was cleared
	Substituted = "volume.substituted" // a volume that somebody else has made for this machine
	Foreign     = "volume.foreign"     // the partition holds something else
	Damaged     = "volume.damaged"     // no valid header, or no key of ours in it
	NoPolicy    = "policykey.missing"  // the image names no policy key, or not this one
	Failed      = "failed"             // anything else
)

func (e *Error) Error() string { return fmt.Sprintf("%s: %v", e.Code, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
