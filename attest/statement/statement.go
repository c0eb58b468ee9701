// Package statement is the form of what ingot-init extends into PCR 15: how it
// was booted, and with which machine.yaml. It stands apart from package attest,
// which judges it, so that PID 1 need not link a verifier.
//
// A statement is an event of type EV_IPL whose data, digested as they are, are
// a mark and one JSON object in one form: Parse refuses any other text, so that
// a statement has one digest.
package statement

import (
	"bytes"
	"encoding/json"
	"errors"

	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/partition/gpt"
)

// PCR is the register of statements.
const PCR = 15

// Mark begins the data.
const Mark = "ingot boot 1\x00"

// Statement is what ingot-init extends into PCR 15 before it uses any of it. It
// is as true as the init that was measured before.
type Statement struct {
	Slot    string     `json:"slot"` // a, b, esp; empty without a disk
	Disk    gpt.GUID   `json:"disk,omitzero"`
	Boot    string     `json:"boot"`              // disk, pxe, http, ram
	Machine pcr.Digest `json:"machine,omitempty"` // SHA-256 of machine.yaml; none without one
}

// Data is the event's data, in the one form that a statement has.
func (s Statement) Data() []byte {
	b, _ := json.Marshal(s) // strings and digests always marshal
	return append([]byte(Mark), b...)
}

// Parse reads the data of an event.
func Parse(data []byte) (*Statement, error) {
	text, ok := bytes.CutPrefix(data, []byte(Mark))
	if !ok {
		return nil, errors.New("no statement of ingot-init")
	}
	var s Statement
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return nil, err
	}
	if !bytes.Equal(s.Data(), data) {
		return nil, errors.New("the statement is not in its one form")
	}
	return &s, nil
}

// LaunchMark begins the data of a Launch.
const LaunchMark = "ingot launch 1\x00"

// Launch is what ingot-init extends into PCR 15 before it starts the boot file of
// a slot by kexec, on machines whose boot variables are of no use. The firmware
// has measured another program, and the log of the program that launches ends
// there, so a verifier cannot explain such a boot and does not trust it; the
// event is for whoever looks at a log to see why.
type Launch struct {
	Slot  string     `json:"slot"`  // a or b
	Image pcr.Digest `json:"image"` // SHA-256 of the boot file
}

// Data is the event's data, in one form.
func (l Launch) Data() []byte {
	b, _ := json.Marshal(l) // as above
	return append([]byte(LaunchMark), b...)
}
