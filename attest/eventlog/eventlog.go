// Package eventlog reads and writes TPM event logs after the "TCG PC Client
// Platform Firmware Profile Specification" (PFP, version 1.06): the crypto-agile
// format of TPM 2.0 and the SHA-1 format that came before it.
//
// An event log is not trustworthy by itself. What replays to values that a TPM
// has signed has these digests in this order (Log.Replay, package pcr); the
// types of events are covered by nothing, and their data only as far as
// Event.Covered says.
//
// Limits: logs up to MaxSize, at most 16 banks. Parse keeps the slice it is
// given and a few words for each event, so memory is bounded by a small
// multiple of the input. It refuses what could be read in two ways: an event
// that has not exactly one digest for each bank of the header, an index that no
// TPM has, a startup locality that is stated late or twice. It accepts what
// real firmware writes: padding of all zeros or ones behind the last event, and
// events of the kind EV_NO_ACTION with the index -1 and any digest.
//
// Shape of use:
//
//	l, err := eventlog.Parse(b)
//	s, err := l.Replay(pcr.SHA256)
//	for _, e := range l.Events {
//		if e.Type == eventlog.BootServicesApp {
//			image, err := e.Image()
//		}
//	}
package eventlog

import (
	"fmt"

	"github.com/ingot-os/ingot/attest/pcr"
)

// MaxSize bounds a log in bytes. Linux hands over what firmware kept, which is
// some tens of kilobytes.
const MaxSize = 4 << 20

// maxBanks bounds the algorithms of a header; a TPM has at most five.
const maxBanks = 16

// Log is a parsed event log.
type Log struct {
	// Banks are the algorithms of the digests, in the order of the header; for
	// a log in the SHA-1 format SHA-1 alone.
	Banks []pcr.Bank
	// Agile says that the log is in the crypto-agile format.
	Agile bool
	// Locality is that of TPM2_Startup as the log states it, 0 unless it does
	// (PFP section 10.4.5.3).
	Locality byte
	// Events are all of the log, the header among them.
	Events []Event
	// Padding is the number of bytes of one value behind the last event.
	Padding int

	sizes []int // of digests, beside Banks
}

// Event is one entry of the log.
type Event struct {
	Off  int64  // of its first byte in the log
	PCR  uint32 // register; 0xffffffff in some events of type NoAction
	Type Type
	Data []byte // the event field; shares memory with the log

	digests []byte // as they are in the log
	log     *Log
}

// Extends reports whether the event was extended into its register.
func (e *Event) Extends() bool { return e.Type != NoAction }

// Digest is the event's digest of a bank, nil when the log has none. It shares
// memory with the log.
func (e *Event) Digest(bank pcr.Bank) pcr.Digest {
	if !e.log.Agile || e.Off == 0 { // the header of an agile log is no agile event
		if bank == pcr.SHA1 {
			return e.digests
		}
		return nil
	}
	for at := 0; at < len(e.digests); {
		alg := pcr.Bank(le.Uint16(e.digests[at:]))
		size := e.log.size(alg)
		at += 2
		if alg == bank {
			return e.digests[at : at+size]
		}
		at += size
	}
	return nil
}

// size is the length of a digest; 0 for a bank that the log does not have.
func (l *Log) size(bank pcr.Bank) int {
	for i, b := range l.Banks {
		if b == bank {
			return l.sizes[i]
		}
	}
	return 0
}

// Replay extends the events of one bank and gives the registers as the log
// explains them.
func (l *Log) Replay(bank pcr.Bank) (*pcr.State, error) {
	if l.size(bank) == 0 || !bank.Known() {
		return nil, fmt.Errorf("replay event log: it has no digests of %s", bank)
	}
	s := pcr.Start(bank, l.Locality)
	for i := range l.Events {
		e := &l.Events[i]
		if !e.Extends() {
			continue
		}
		if err := s.Extend(int(e.PCR), e.Digest(bank)); err != nil {
			return nil, fmt.Errorf("replay event log: offset %#x: %w", e.Off, err)
		}
	}
	return s, nil
}

// FormatError says where a log is malformed.
type FormatError struct {
	Off   int64  // in bytes from the start of the log
	Field string // the field's name in the specification
	Msg   string
}

// Error implements error.
func (e *FormatError) Error() string {
	return fmt.Sprintf("event log: offset %#x, %s: %s", e.Off, e.Field, e.Msg)
}

func formatf(off int, field, format string, args ...any) error {
	return &FormatError{Off: int64(off), Field: field, Msg: fmt.Sprintf(format, args...)}
}
