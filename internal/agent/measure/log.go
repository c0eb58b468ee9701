package measure

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/ingot-os/ingot/attest/eventlog"
	"github.com/ingot-os/ingot/attest/pcr"
)

// maxLog bounds the log in bytes. A boot has a handful of events; debug tickets
// add one each.
const maxLog = 1 << 20

// Log is what this init has extended, a log in the crypto-agile format with
// events of type EV_IPL. It may be used by several goroutines.
type Log struct {
	mu    sync.Mutex
	banks []pcr.Bank // of the first event: a TPM does not change them while it runs
	bytes []byte
}

// Append adds an event. Banks that package pcr does not know are left out: they
// could not be replayed.
func (l *Log) Append(register int, data []byte, digests []Digest) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	values, banks := map[pcr.Bank]pcr.Digest{}, []pcr.Bank(nil)
	for _, d := range digests {
		if d.Bank.Known() && !slices.Contains(banks, d.Bank) {
			values[d.Bank], banks = d.Value, append(banks, d.Bank)
		}
	}
	if len(banks) == 0 {
		return errors.New("log a measurement: the TPM has no active bank that is known")
	}
	if l.banks == nil {
		l.banks, l.bytes = banks, eventlog.AppendHeader(nil, banks...)
	}
	b, err := eventlog.AppendEvent(l.bytes, uint32(register), eventlog.IPL, data, l.banks, values)
	if err != nil {
		return fmt.Errorf("log a measurement: %w", err)
	}
	if len(b) > maxLog {
		return fmt.Errorf("log a measurement: the log is larger than %d bytes", maxLog)
	}
	l.bytes = b
	return nil
}

// Bytes is a copy of the log; nil while nothing was measured.
func (l *Log) Bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.bytes)
}
