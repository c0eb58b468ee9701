package ui

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ingot-os/ingot/attest"
)

// Judged is a verdict on evidence with what it was made of.
type Judged struct {
	attest.Verdict
	Code       attest.Code  `json:"reason,omitempty"` // the most telling one
	Evidence   string       `json:"evidence"`         // the file
	References []JudgedWith `json:"references"`
}

// JudgedWith is a reference that a verdict was made with.
type JudgedWith struct {
	Path    string   `json:"path"`
	Name    string   `json:"name"`
	Version string   `json:"version"`
	Signers []string `json:"signers,omitempty"` // of its manifest; none: not checked
}

// Verdict is the result of ingot attest verify: the verdict first, then what it
// is about, register by register, and always what was not checked. A refusal is
// a result like any other: it goes to Out, and the error only has its exit code.
func (u *UI) Verdict(j *Judged) error {
	var err error
	if u.JSON {
		err = u.PrintJSON(j)
	} else {
		err = u.verdict(j)
	}
	if err != nil || j.Trusted {
		return err
	}
	if !u.JSON {
		u.Hint("%s", verdictHint(j))
	}
	return Exit(CodeRefused)
}

func (u *UI) verdict(j *Judged) error {
	for _, line := range verdictLines(j) {
		if err := u.Print("%s", line); err != nil {
			return err
		}
	}
	if err := u.Table(nil, facts(&j.Verdict)); err != nil {
		return err
	}
	if len(j.Registers) > 0 {
		if err := u.Table([]string{"PCR", "log", "compared with"}, registerRows(j.Registers)); err != nil {
			return err
		}
	}
	for _, f := range j.Notes {
		if err := u.Print("note: %s", findingWords(f)); err != nil {
			return err
		}
	}
	for _, what := range gathered(j.NotChecked) {
		if err := u.Print("not checked: %s", printable(what)); err != nil {
			return err
		}
	}
	return nil
}

// gathered says once what is so for several registers: "PCR 1, 3: not quoted".
func gathered(list []string) []string {
	var out []string
	at := map[string]int{} // what is said -> its line
	for _, line := range list {
		register, what, ok := strings.Cut(line, ": ")
		number, isPCR := strings.CutPrefix(register, "PCR ")
		if i, known := at[what]; ok && isPCR && known {
			before, _, _ := strings.Cut(out[i], ": ")
			out[i] = before + ", " + number + ": " + what
			continue
		}
		if isPCR {
			at[what] = len(out)
		}
		out = append(out, line)
	}
	return out
}

// verdictLines are the verdict and, for a refusal, why.
func verdictLines(j *Judged) []string {
	if j.Trusted {
		return []string{printable(fmt.Sprintf("trusted: %s runs %s %s", j.Host, j.Release, j.Version))}
	}
	lines := []string{"refused: " + findingWords(j.Findings[0])}
	for i, f := range j.Findings[1:] {
		if i == maxShown-1 {
			return append(lines, fmt.Sprintf("         and %d more: --json lists all", len(j.Findings)-maxShown))
		}
		lines = append(lines, "         "+findingWords(f))
	}
	return lines
}

// findingWords say a reason: its code, in words, where and what was found.
func findingWords(f attest.Finding) string {
	s := string(f.Code)
	if words := attest.Codes[f.Code]; words != "" {
		s += ": " + words
	}
	place := ""
	if f.PCR >= 0 {
		place = fmt.Sprintf("PCR %d", f.PCR)
	}
	if f.Section != "" {
		place += ", section " + f.Section
	}
	if f.Offset > 0 {
		place += fmt.Sprintf(", log offset %#x", f.Offset)
	}
	if place != "" {
		s += " (" + place + ")"
	}
	if f.Detail != "" {
		s += ": " + f.Detail
	}
	return printable(s)
}

// slotWords say who states the slot.
var slotWords = map[string]string{
	"init": "stated by ingot-init, which was measured",
	"log":  "by the device path in the log, which no digest covers",
}

// facts are what the verdict is about, as far as it is known.
func facts(v *attest.Verdict) [][]string {
	var rows [][]string
	add := func(name, value string) {
		if value != "" {
			rows = append(rows, []string{"  " + name, value})
		}
	}
	add("host", v.Host)
	if v.Release != "" {
		guess := ""
		if !v.Trusted {
			guess = ", which explains the log best"
		}
		add("release", fmt.Sprintf("%s %s, security epoch %d%s", v.Release, v.Version, v.Epoch, guess))
		add("boot path", v.Boot)
	}
	if v.Slot != "" {
		add("slot", v.Slot+", "+slotWords[v.SlotBy])
	}
	if len(v.Registers) > 0 {
		add("Secure Boot", map[bool]string{true: "on", false: "off"}[v.SecureBoot])
		add("failed boot options", strconv.Itoa(v.FailedBootOptions))
		add("bank", v.Bank)
	}
	if s := v.Statement; s != nil {
		add("machine.yaml", machineWords(v))
	}
	if v.Debug {
		add("debug", "a ticket was used in this boot")
	}
	if v.Clock.Millis > 0 {
		add("TPM", fmt.Sprintf("reset %d, restart %d, clock %d ms, firmware %#x", v.Clock.ResetCount, v.Clock.RestartCount, v.Clock.Millis, v.Firmware))
	}
	return rows
}

func machineWords(v *attest.Verdict) string {
	if len(v.Statement.Machine) == 0 {
		return "none"
	}
	if v.MachineRegistered {
		return v.Statement.Machine.String() + ", the registered one"
	}
	return v.Statement.Machine.String() + ", not registered"
}

func registerRows(registers []attest.Register) [][]string {
	var rows [][]string
	for _, r := range registers {
		against := r.Against
		if against == "" {
			against = "-"
		}
		rows = append(rows, []string{strconv.Itoa(r.PCR), string(r.Log), against})
	}
	return rows
}

// verdictHints say what to do about a reason; of the others the place to read.
var verdictHints = map[attest.Code]string{
	attest.HostUnknown:   "compare the key with the machine's own (ingot attest collect prints it), then: ingot attest accept --evidence %[1]s -o host.json, and verify with --enrolled host.json",
	attest.AKKey:         "the evidence is of another TPM than the record, or the TPM was cleared: then accept it again",
	attest.EKKey:         "the evidence is of another TPM than the record, or the TPM was cleared: then accept it again",
	attest.QuoteNonce:    "name the nonce that was given to ingot attest collect, in hexadecimal digits",
	attest.ReferenceNone: "name the release with --reference DIR or FILE",
	attest.PathUnknown:   "the policy's paths, or a reference that has this way to boot, decide; ingot measure tells what a way measures",
	attest.ImageUnknown:  "if the machine should run another release, name that with one --reference more",

	attest.FirmwareChanged: "if the firmware was updated on purpose, accept the evidence again",
	attest.ClockReset:      "the TPM was cleared or exchanged: accept the evidence again once you know why",
	attest.ClockRewound:    "the evidence is older than what was seen before: collect again",
	attest.CmdlineReplaced: "a loader gave the kernel its own command line: iPXE without Secure Boot does; so does whoever edits a boot entry",
	attest.SecureBootOff:   "switch Secure Boot on in the firmware's setup, or take secureBoot out of the policy",
}

func verdictHint(j *Judged) string {
	if hint := verdictHints[j.Reason()]; hint != "" {
		if j.Reason() == attest.HostUnknown {
			return fmt.Sprintf(hint, j.Evidence)
		}
		return hint
	}
	return "ingot inspect " + j.Evidence + " prints the logs; docs/verdicts.md explains the reason codes"
}
