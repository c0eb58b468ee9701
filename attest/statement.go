package attest

import (
	"bytes"

	"github.com/ingot-os/ingot/attest/eventlog"
	"github.com/ingot-os/ingot/attest/statement"
)

// statementPCR is where ingot-init says how it was booted.
const statementPCR = statement.PCR

// debugMark begins the events of debug tickets, which follow the statement.
const debugMark = "ingot debug 1\x00"

// Statement is what ingot-init says about its boot.
type Statement = statement.Statement

// ParseStatement reads the data of an event.
func ParseStatement(data []byte) (*Statement, error) { return statement.Parse(data) }

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
	if s != nil {
		k.v.MachineRegistered = bytes.Equal(s.Machine, want)
	}
	switch {
	case s == nil:
		k.skip("slot and machine configuration: ingot-init states nothing")
	case len(want) == 0:
		k.skip("machine configuration: none was registered")
	case !k.v.MachineRegistered:
		k.skip("machine configuration: it is not the registered one")
	default:
		k.against(statementPCR, "enrolment")
	}
	if s != nil {
		k.skip("slot, disk and way to boot: the word of ingot-init, compared with nothing")
	}
	if k.c.Policy.MachineConfig && !k.v.MachineRegistered {
		k.refuse(MachineConfig, statementPCR, "registered is %s", want)
	}
}
