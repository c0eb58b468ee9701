package attest

import (
	"bytes"
	"encoding/json"
	"errors"

	"github.com/ingot-os/ingot/attest/eventlog"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/partition/gpt"
)

// statementPCR is where ingot-init says how it was booted.
const statementPCR = 15

// Marks of the events in PCR 15. Their digest is of the data, mark and all.
const (
	statementMark = "ingot boot 1\x00"
	debugMark     = "ingot debug 1\x00"
)

// Statement is what ingot-init extends into PCR 15 before it uses any of it. It
// is as true as the init that was measured before.
type Statement struct {
	Slot    string     `json:"slot"` // a, b, esp; empty without a disk
	Disk    gpt.GUID   `json:"disk,omitzero"`
	Boot    string     `json:"boot"`              // disk, pxe, http
	Machine pcr.Digest `json:"machine,omitempty"` // SHA-256 of machine.yaml; none without one
}

// Data is the event's data, in the one form that a statement has.
func (s Statement) Data() []byte {
	b, _ := json.Marshal(s) // strings and digests always marshal
	return append([]byte(statementMark), b...)
}

// ParseStatement reads the data of an event.
func ParseStatement(data []byte) (*Statement, error) {
	text, ok := bytes.CutPrefix(data, []byte(statementMark))
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

// statement reads PCR 15: one statement first, then debug tickets.
func (k *check) statement() {
	if !k.quoted.Has(statementPCR) {
		k.skip("slot and machine configuration: PCR %d is not quoted", statementPCR)
		return
	}
	for i, e := range k.events[statementPCR] {
		switch {
		case !k.bank.Is(e.Digest(k.bank), e.Data):
			k.at(e, LogData, "the digest is not of the data")
		case i == 0:
			s, err := ParseStatement(e.Data)
			if err != nil {
				k.at(e, StatementUnknown, "%v", err)
				return
			}
			k.v.Statement, k.v.Slot, k.v.SlotBy = s, s.Slot, "init"
		case bytes.HasPrefix(e.Data, []byte(debugMark)) && e.Type == eventlog.IPL:
			if k.v.Debug = true; !k.c.Policy.AllowDebug {
				k.at(e, MachineDebug, "a debug ticket: %.60q", e.Data[len(debugMark):])
			}
		default:
			k.at(e, MeasureUnexpected, "%s %.40q", e.Type, e.Text())
		}
	}
	k.machine()
}

// machine compares the machine configuration with the registered one.
func (k *check) machine() {
	s, want := k.v.Statement, k.c.Record.Machine
	if s == nil {
		k.skip("slot and machine configuration: ingot-init states nothing")
	} else {
		k.against(statementPCR, "enrolment")
		k.v.MachineRegistered = bytes.Equal(s.Machine, want)
	}
	if k.c.Policy.MachineConfig && !k.v.MachineRegistered {
		k.refuse(MachineConfig, statementPCR, "registered is %s", want)
	}
}
