package attest

import (
	"bytes"

	"github.com/ingot-os/ingot/attest/eventlog"
	"github.com/ingot-os/ingot/boot/efivar"
)

// firmwarePCRs end their first part with a separator (PFP section 3.3.4).
const firmwarePCRs = 8

// grammar asks whether the log is one that firmware writes, whatever the image.
func (k *check) grammar() {
	k.walking = true
	for i := range firmwarePCRs {
		k.separator(i)
	}
	k.coverage()
	k.firmware()
	k.drivers()
	k.secureBoot()
}

// separator wants exactly one, of a value that is not an error.
func (k *check) separator(i int) {
	n := 0
	for _, e := range k.events[i] {
		if e.Type != eventlog.Separator {
			continue
		}
		n++
		switch v, err := e.Separator(); {
		case err != nil:
			k.at(e, LogSeparator, "%v", err)
		case v == eventlog.SeparatorError:
			k.at(e, FirmwareError, "the separator says error")
		case v != eventlog.SeparatorOK && v != eventlog.SeparatorOnes:
			k.at(e, LogSeparator, "value %#08x", v)
		}
	}
	if n != 1 {
		k.refuse(LogSeparator, i, "%d separators", n)
	}
}

// at refuses because of an event.
func (k *check) at(e *eventlog.Event, code Code, format string, args ...any) {
	if before := len(k.v.Findings); before < maxVerdict {
		k.refuse(code, int(e.PCR), format, args...)
		k.v.Findings[before].Offset = e.Off
	}
}

// coverage refuses data that is not what its digest is of. Boot variables of
// PCR 1 are left out: firmware measures them in more ways than two, and nothing
// here reads them.
func (k *check) coverage() {
	for i := range firmwarePCRs {
		for _, e := range k.events[i] {
			if i != 1 && e.Covered(k.bank) == eventlog.Altered {
				k.at(e, LogData, "the digest of %s is not of its data", e.Type)
			}
		}
	}
}

// firmware wants PCR 0 to name a version and the code that was run, and
// compares PCR 0 and 2 with what was enrolled.
func (k *check) firmware() {
	version, code := false, false
	for _, e := range k.events[0] {
		switch e.Type {
		case eventlog.SCRTMVersion, eventlog.SCRTMContents, eventlog.HCRTM:
			version = true
		case eventlog.FirmwareBlob, eventlog.FirmwareBlob2, eventlog.PostCode, eventlog.PostCode2, eventlog.NonhostCode, eventlog.NonhostInfo:
			code = true
		}
	}
	if !version || !code {
		k.refuse(FirmwareUnmeasured, 0, "version measured: %t, code measured: %t", version, code)
	}
	known, judged := k.c.Record.Firmware[k.bank]
	if len(k.c.Record.Firmware) > 0 && !judged { // the host has chosen the bank
		k.refuse(FirmwareChanged, 0, "no value of bank %s was accepted at enrolment", k.bank)
		return
	}
	for _, i := range []int{0, 2} {
		switch want := known[i]; {
		case len(want) == 0:
			k.skip("PCR %d: no value was accepted at enrolment", i)
		case !bytes.Equal(want, k.value(i)):
			k.refuse(FirmwareChanged, i, "%s, enrolled is %s", k.value(i), want)
		default:
			k.against(i, "enrolment")
		}
	}
}

// variables are those that firmware measures into PCR 7, in this order (PFP
// section 3.3.4.8); others (AuditMode, dbt) may follow.
var variables = []string{"SecureBoot", "PK", "KEK", "db", "dbx"}

// secureBoot reads PCR 7: each variable once and in order before the separator,
// then what let images in.
func (k *check) secureBoot() {
	next, separated := 0, false
	for _, e := range k.events[7] {
		switch e.Type {
		case eventlog.Separator:
			separated = true
		case eventlog.VariableDriver:
			v, err := e.Variable()
			switch {
			case err != nil:
				k.at(e, LogMalformed, "%v", err)
			case separated:
				k.at(e, SecureBootGrammar, "%q is measured behind the separator", v.Name)
			case next < len(variables) && v.Name == variables[next] && v.GUID == variableGUID(v.Name):
				if next++; v.Name == "SecureBoot" {
					k.secureBootValue(e, v)
				}
			case next < len(variables) || isVariable(v.Name):
				k.at(e, SecureBootGrammar, "variable %q is out of order", v.Name)
			}
		case eventlog.VariableAuthority:
		case eventlog.EFIAction:
			k.platformAction(e)
		default:
			k.at(e, LogType, "%s in PCR 7", e.Type)
		}
	}
	if next < len(variables) {
		k.refuse(SecureBootGrammar, 7, "variable %s is not measured", variables[next])
	}
	if !k.quoted.Has(7) { // then the log alone says it
		k.v.SecureBoot = false
		k.skip("Secure Boot: PCR 7 is not quoted")
	}
	if k.c.Policy.SecureBoot && !k.v.SecureBoot {
		k.refuse(SecureBootOff, 7, "Secure Boot is off, or not quoted")
	}
}

// platformAction is what PCR 7 says about the platform beside its keys (PFP
// section 3.3.4.8): two texts, which coverage has compared with the digest.
func (k *check) platformAction(e *eventlog.Event) {
	switch text := string(e.Data); {
	case text == debugMode:
		k.at(e, FirmwareDebug, "%q", text)
	case text != unprotectedDMA:
		k.at(e, LogType, "%s %.40q in PCR 7", e.Type, text)
	case k.c.Policy.DMAProtection:
		k.at(e, FirmwareDMA, "%q", text)
	default:
		k.note(FirmwareDMA, 7, "%q: a device could have written into memory while the firmware ran", text)
	}
}

func variableGUID(name string) [16]byte {
	if name == "db" || name == "dbx" {
		return efivar.ImageSecurity
	}
	return efivar.Global
}

func isVariable(name string) bool {
	for _, v := range variables {
		if v == name {
			return true
		}
	}
	return false
}

// secureBootValue takes the switch. Firmware that was never in Secure Boot may
// have no such variable, and measures it as empty (OVMF 2025.02).
func (k *check) secureBootValue(e *eventlog.Event, v eventlog.Variable) {
	switch {
	case len(v.Data) == 0 || len(v.Data) == 1 && v.Data[0] == 0:
	case len(v.Data) == 1 && v.Data[0] == 1:
		k.v.SecureBoot = true
	default:
		k.at(e, SecureBootGrammar, "SecureBoot is %x", v.Data)
	}
}
