package attest

import (
	"bytes"

	"github.com/ingot-os/ingot/attest/eventlog"
	"github.com/ingot-os/ingot/attest/pcr"
)

// imaPCR belongs to the kernel's integrity measurement (IMA), whose list is
// another log: it never replays from a boot log.
const imaPCR = 10

// registers asks whether the values sent are those quoted, and which bank of
// them is worth judging.
func (k *check) registers() {
	if !k.composite() {
		return
	}
	for _, bank := range k.c.Policy.banks() {
		for _, s := range k.quote.Selections {
			if k.bank == 0 && s.Bank == bank && s.Mask != 0 {
				k.bank, k.quoted = bank, s
			}
		}
	}
	k.v.Bank = k.bank.String()
	if k.bank == 0 {
		k.v.Bank = ""
		if k.nothingQuoted() {
			return
		}
		k.refuse(BankWeak, -1, "quoted is %s, accepted are %v", k.quote.Selections[0].Bank, k.c.Policy.banks())
		return
	}
	for _, s := range k.quote.Selections {
		if s.Bank != k.bank {
			k.skip("bank %s: another one was judged", s.Bank)
		}
	}
	for _, i := range k.c.Policy.pcrs() {
		if !k.quoted.Has(i) {
			k.refuse(QuotePCR, i, "not quoted")
		}
	}
	if len(k.v.Findings) == 0 && k.empty() {
		k.refuse(BankEmpty, -1, "PCR 0 to 7 of %s are zero", k.bank)
	}
}

// composite compares the digest in the quote with the values that were sent:
// all selected registers of all banks, in the order of the selection (part 3,
// section 18.4).
func (k *check) composite() bool {
	sent := k.c.Evidence.PCRs
	for bank := range sent {
		if !k.selected(bank) && len(k.quote.Selections) > 0 {
			k.refuse(BankMismatch, -1, "values of %s, which was not quoted", bank)
			return false
		}
	}
	h := k.sigHash.New()
	for _, s := range k.quote.Selections {
		for i := range pcr.Count {
			if !s.Has(i) {
				continue
			}
			value := sent[s.Bank][i]
			if !s.Bank.Known() || len(value) != s.Bank.Size() {
				k.refuse(QuoteComposite, i, "a value of %d bytes was sent for bank %s", len(value), s.Bank)
				return false
			}
			h.Write(value)
		}
	}
	if got := h.Sum(nil); !bytes.Equal(got, k.quote.Digest) {
		k.refuse(QuoteComposite, -1, "the values give %x, quoted is %x", got, k.quote.Digest)
		return false
	}
	return true
}

func (k *check) selected(bank pcr.Bank) bool {
	for _, s := range k.quote.Selections {
		if s.Bank == bank {
			return true
		}
	}
	return false
}

// nothingQuoted refuses a quote over no register at all.
func (k *check) nothingQuoted() bool {
	for _, s := range k.quote.Selections {
		if s.Mask != 0 {
			return false
		}
	}
	k.refuse(QuotePCR, -1, "no register was quoted")
	return true
}

// empty reports whether the firmware's registers are all zero: it does not
// measure into this bank, and whoever comes later may (TPM Carte Blanche).
func (k *check) empty() bool {
	zero, quoted := make([]byte, k.bank.Size()), false
	for i := range firmwarePCRs {
		v := k.value(i)
		if quoted = quoted || v != nil; v != nil && !bytes.Equal(v, zero) {
			return false
		}
	}
	return quoted
}

// value is a quoted value of the judged bank.
func (k *check) value(i int) pcr.Digest {
	if !k.quoted.Has(i) {
		return nil
	}
	return k.c.Evidence.PCRs[k.bank][i]
}

// replay asks whether the logs explain the quoted values.
func (k *check) replay() {
	log := k.parse("event log", k.c.Evidence.EventLog)
	if log == nil {
		return
	}
	var err error
	if k.state, err = log.Replay(k.bank); err != nil {
		k.refuse(LogBank, -1, "%v", err)
		return
	}
	k.sort(log)
	if b := k.c.Evidence.InitLog; len(b) > 0 {
		later := k.parse("log of ingot-init", b)
		if later == nil || !k.extend(later) {
			return
		}
		k.sort(later)
	}
	k.v.Registers = make([]Register, 0, 16)
	for i := range pcr.Count {
		if k.quoted.Has(i) && i != imaPCR && i < 16 {
			k.explain(i)
		}
	}
	if k.quoted.Has(imaPCR) {
		k.skip("PCR %d: belongs to the kernel's IMA, whose list is not sent", imaPCR)
	}
}

func (k *check) parse(what string, b []byte) *eventlog.Log {
	log, err := eventlog.Parse(b)
	if err != nil {
		k.refuse(LogMalformed, -1, "%s: %v", what, err)
		return nil
	}
	return log
}

// initPCRs are those that ingot-init may extend.
var initPCRs = map[uint32]bool{11: true, 15: true}

// extend replays what came after the firmware.
func (k *check) extend(log *eventlog.Log) bool {
	for i := range log.Events {
		e := &log.Events[i]
		if !e.Extends() {
			continue
		}
		if !initPCRs[e.PCR] {
			k.refuse(LogMalformed, int(int32(e.PCR)), "log of ingot-init: it extends only PCR 11 and 15")
			return false
		}
		if err := k.state.Extend(int(e.PCR), e.Digest(k.bank)); err != nil {
			k.refuse(LogBank, int(e.PCR), "log of ingot-init: %v", err)
			return false
		}
	}
	return true
}

// sort puts the events that extend beside their registers, in one piece of memory.
func (k *check) sort(log *eventlog.Log) {
	var n [pcr.Count]int
	total := 0
	for r := range k.events {
		n[r] = len(k.events[r]) // those of an earlier log stay before
		total += n[r]
	}
	for i := range log.Events {
		if e := &log.Events[i]; e.Extends() && e.PCR < pcr.Count {
			n[e.PCR]++
			total++
		}
	}
	all := make([]*eventlog.Event, 0, total)
	for r, count := range n {
		k.events[r], all = append(all[:0:count], k.events[r]...), all[count:count]
	}
	for i := range log.Events {
		if e := &log.Events[i]; e.Extends() && e.PCR < pcr.Count {
			k.events[e.PCR] = append(k.events[e.PCR], e)
		}
	}
}

// explain compares one register with the log.
func (k *check) explain(i int) {
	r := Register{PCR: i, Log: k.state.Compare(i, k.value(i))}
	switch r.Log {
	case pcr.Unexpected:
		k.refuse(LogReplay, i, "the log gives %s, quoted is %s", k.state.Value(i), k.value(i))
	case pcr.Unlogged:
		k.refuse(LogUnlogged, i, "%s, and no event", k.value(i))
	}
	k.v.Registers = append(k.v.Registers, r)
}

// against notes what a register's events were compared with.
func (k *check) against(i int, what string) {
	for n := range k.v.Registers {
		if r := &k.v.Registers[n]; r.PCR == i {
			r.Against = what
		}
	}
}
