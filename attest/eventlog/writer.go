package eventlog

import (
	"fmt"

	"github.com/ingot-os/ingot/attest/pcr"
)

// AppendHeader appends the first event of a crypto-agile log of the given
// banks (PFP section 10.4.5.1, platform class client, version 2.0).
func AppendHeader(b []byte, banks ...pcr.Bank) []byte {
	data := append([]byte(specID03), 0, 0, 0, 0, 0, 2, 0, 2)
	data = le.AppendUint32(data, uint32(len(banks)))
	for _, bank := range banks {
		data = le.AppendUint16(data, uint16(bank))
		data = le.AppendUint16(data, uint16(bank.Size()))
	}
	data = append(data, 0) // no vendor information
	b = le.AppendUint32(b, 0)
	b = le.AppendUint32(b, uint32(NoAction))
	b = append(b, make([]byte, sha1Size)...)
	b = le.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

// AppendEvent appends one event with a digest for each bank of the log, in the
// order of its header.
func AppendEvent(b []byte, register uint32, typ Type, data []byte, banks []pcr.Bank, digests map[pcr.Bank]pcr.Digest) ([]byte, error) {
	b = le.AppendUint32(b, register)
	b = le.AppendUint32(b, uint32(typ))
	b = le.AppendUint32(b, uint32(len(banks)))
	for _, bank := range banks {
		d := digests[bank]
		if len(d) != bank.Size() {
			return nil, fmt.Errorf("write event of PCR %d: a digest of %d bytes is none of %s", register, len(d), bank)
		}
		b = append(le.AppendUint16(b, uint16(bank)), d...)
	}
	b = le.AppendUint32(b, uint32(len(data)))
	return append(b, data...), nil
}
