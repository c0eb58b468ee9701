package ear

import (
	"slices"
	"strings"

	"github.com/ingot-os/ingot/attest"
)

// Vector holds trustworthiness claims; 0 is "no claim" and left out.
type Vector struct {
	InstanceIdentity int `json:"instance-identity,omitempty"`
	Configuration    int `json:"configuration,omitempty"`
	Executables      int `json:"executables,omitempty"`
	Hardware         int `json:"hardware,omitempty"`
}

// Values of claims (AR4SI sections 2.3.4.1 to 2.3.4.5).
const (
	trustworthyInstance  = 2
	revokedInstance      = 96
	unrecognizedInstance = 97
	approvedConfig       = 2
	unsupportableConfig  = 96
	approvedBoot         = 3
	unrecognizedCode     = 33
	genuineHardware      = 2
	refusedHardware      = 96
	cryptoFailed         = 99 // of any claim: the evidence does not hold
)

// area is what a reason says something about.
type area int

const (
	areaCrypto area = iota // the evidence is not what the TPM signed
	areaIdentity
	areaRevoked
	areaConfig
	areaCode
	areaHardware
	areaNothing // nothing could be judged
)

// special are reasons whose area their first word does not tell.
var special = map[attest.Code]area{
	attest.HostRevoked: areaRevoked, attest.VersionFloor: areaCode, attest.FloorLost: areaCode, attest.TPMDenied: areaHardware,
	attest.EvidenceMalformed: areaNothing, attest.PCRNone: areaNothing, attest.ReferenceNone: areaNothing,
	attest.PathUnknown: areaNothing,
}

// words are the areas of reasons by their first word. What is not listed is
// about the evidence itself.
var words = map[string]area{
	"host": areaIdentity, "ak": areaIdentity, "ek": areaIdentity,
	"secureboot": areaConfig, "cmdline": areaConfig, "machine": areaConfig, "disk": areaConfig, "firmware": areaHardware, // AR4SI counts firmware to it
	"image": areaCode, "boot": areaCode, "measure": areaCode,
}

func areaOf(code attest.Code) area {
	if a, ok := special[code]; ok {
		return a
	}
	word, _, _ := strings.Cut(string(code), ".")
	return words[word]
}

// status is affirming only for a trusted machine. A refusal for which there was
// nothing to compare with says nothing about the machine.
func status(v *attest.Verdict) Tier {
	switch {
	case v.Trusted:
		return Affirming
	case areaOf(v.Reason()) == areaNothing:
		return None
	}
	return Contraindicated
}

// vector claims what was checked: everything for a trusted machine; for another
// what is known of the areas that its reasons are about, and nothing more.
func vector(v *attest.Verdict, chained bool) *Vector {
	if v.Trusted {
		t := &Vector{InstanceIdentity: trustworthyInstance, Configuration: approvedConfig, Executables: approvedBoot}
		if chained {
			t.Hardware = genuineHardware
		}
		return t
	}
	t := &Vector{}
	about := func(a area) bool {
		return slices.ContainsFunc(v.Findings, func(f attest.Finding) bool { return areaOf(f.Code) == a })
	}
	switch {
	case areaOf(v.Reason()) == areaNothing:
		return nil
	case about(areaCrypto):
		t.InstanceIdentity = cryptoFailed
	case about(areaRevoked):
		t.InstanceIdentity = revokedInstance
	case about(areaIdentity):
		t.InstanceIdentity = unrecognizedInstance
	default: // judged as far as its release
		t.InstanceIdentity = trustworthyInstance
	}
	if about(areaConfig) {
		t.Configuration = unsupportableConfig
	}
	if about(areaCode) {
		t.Executables = unrecognizedCode
	}
	if about(areaHardware) {
		t.Hardware = refusedHardware
	}
	return t
}
