package eventlog

import (
	"bytes"
	"encoding/binary"

	"github.com/ingot-os/ingot/attest/pcr"
)

var le = binary.LittleEndian

// Sizes in bytes of the fixed parts.
const (
	sha1HeadSize  = 32 // TCG_PCClientPCREvent up to event (PFP section 10.2.1)
	agileHeadSize = 12 // TCG_PCR_EVENT2 up to the first digest (section 10.2.2)
	specHeadSize  = 28 // TCG_EfiSpecIdEvent up to digestSizes (section 10.4.5.1)
	algSize       = 4  // TCG_EfiSpecIdEventAlgorithmSize
	sha1Size      = 20
)

// Signatures of EV_NO_ACTION events, with their NUL.
const (
	specID03 = "Spec ID Event03\x00"
	locality = "StartupLocality\x00"
)

// Parse reads a log as firmware left it (Linux: binary_bios_measurements). An
// error is a *FormatError.
func Parse(b []byte) (*Log, error) {
	if len(b) > MaxSize {
		return nil, formatf(MaxSize, "log", "%d bytes are more than %d", len(b), MaxSize)
	}
	if len(b) == 0 {
		return nil, formatf(0, "log", "empty")
	}
	p := &parser{b: b, log: &Log{Banks: []pcr.Bank{pcr.SHA1}, sizes: []int{sha1Size}}}
	if err := p.header(); err != nil {
		return nil, err
	}
	for p.off < len(b) {
		if p.padding() {
			break
		}
		if err := p.event(); err != nil {
			return nil, err
		}
	}
	return p.log, nil
}

type parser struct {
	b    []byte
	off  int
	log  *Log
	seen struct{ pcr0, locality bool }
}

// header reads the first event, which is in the SHA-1 format in any log, and
// says which one the others are in.
func (p *parser) header() error {
	e, end, err := p.sha1Event()
	if err != nil {
		return err
	}
	if e.Type == NoAction && bytes.HasPrefix(e.Data, []byte(specID03)) {
		if err := p.specID(e.Data); err != nil {
			return err
		}
	}
	p.log.Events = make([]Event, 0, min(16+len(p.b)/400, 1024))
	return p.add(e, end)
}

// specID reads the algorithms and sizes of an agile log; its data begins at
// offset sha1HeadSize of the log.
func (p *parser) specID(d []byte) error {
	const off = sha1HeadSize
	if len(d) < specHeadSize {
		return formatf(off, "TCG_EfiSpecIdEvent", "%d bytes are too few", len(d))
	}
	n := int(le.Uint32(d[24:]))
	if n < 1 || n > maxBanks {
		return formatf(off+24, "numberOfAlgorithms", "%d is not within 1..%d", le.Uint32(d[24:]), maxBanks)
	}
	if len(d) < specHeadSize+n*algSize+1 {
		return formatf(off+specHeadSize, "digestSizes", "%d algorithms in %d bytes", n, len(d))
	}
	p.log.Banks, p.log.sizes, p.log.Agile = nil, nil, true
	for i := range n {
		at := specHeadSize + i*algSize
		bank, size := pcr.Bank(le.Uint16(d[at:])), int(le.Uint16(d[at+2:]))
		switch {
		case bank.Known() && size != bank.Size() || size < 1 || size > 64:
			return formatf(off+at+2, "digestSize", "%d bytes for %s", size, bank)
		case p.log.size(bank) != 0:
			return formatf(off+at, "algorithmId", "%s is there twice", bank)
		}
		p.log.Banks, p.log.sizes = append(p.log.Banks, bank), append(p.log.sizes, size)
	}
	return nil
}

// sha1Event reads one TCG_PCClientPCREvent at p.off and says where it ends.
func (p *parser) sha1Event() (e Event, end int, err error) {
	b := p.b[p.off:]
	if len(b) < sha1HeadSize {
		return e, 0, formatf(p.off, "TCG_PCClientPCREvent", "truncated: %d bytes", len(b))
	}
	e = Event{Off: int64(p.off), PCR: le.Uint32(b), Type: Type(le.Uint32(b[4:])), digests: b[8:28:28], log: p.log}
	e.Data, end, err = p.data(p.off + 28)
	return e, end, err
}

// data reads eventSize at off and the event behind it.
func (p *parser) data(off int) ([]byte, int, error) {
	if len(p.b)-off < 4 {
		return nil, 0, formatf(off, "eventSize", "truncated")
	}
	size, rest := le.Uint32(p.b[off:]), p.b[off+4:]
	if uint64(size) > uint64(len(rest)) {
		return nil, 0, formatf(off, "eventSize", "%d bytes, the log has %d", size, len(rest))
	}
	return rest[:size:size], off + 4 + int(size), nil
}

// event reads one event behind the header.
func (p *parser) event() error {
	read := p.sha1Event
	if p.log.Agile {
		read = p.agileEvent
	}
	e, end, err := read()
	if err != nil {
		return err
	}
	return p.add(e, end)
}

// agileEvent reads one TCG_PCR_EVENT2 at p.off and says where it ends.
func (p *parser) agileEvent() (e Event, end int, err error) {
	b := p.b[p.off:]
	if len(b) < agileHeadSize {
		return e, 0, formatf(p.off, "TCG_PCR_EVENT2", "truncated: %d bytes", len(b))
	}
	e = Event{Off: int64(p.off), PCR: le.Uint32(b), Type: Type(le.Uint32(b[4:])), log: p.log}
	n, err := p.digests(p.off + agileHeadSize)
	if err != nil {
		return e, 0, err
	}
	e.digests = b[agileHeadSize : agileHeadSize+n : agileHeadSize+n]
	e.Data, end, err = p.data(p.off + agileHeadSize + n)
	return e, end, err
}

// digests measures a TPML_DIGEST_VALUES whose count is before off: exactly one
// digest for each bank. A bank that is missing could not be replayed, and one
// that is there twice could be replayed in two ways.
func (p *parser) digests(off int) (int, error) {
	if count := le.Uint32(p.b[off-4:]); uint64(count) != uint64(len(p.log.Banks)) {
		return 0, formatf(off-4, "digests.count", "%d, the header has %d banks", count, len(p.log.Banks))
	}
	at, seen := off, 0
	for range p.log.Banks {
		if len(p.b)-at < 2 {
			return 0, formatf(at, "digests.hashAlg", "truncated")
		}
		alg := pcr.Bank(le.Uint16(p.b[at:]))
		i := p.bank(alg)
		switch {
		case i < 0:
			return 0, formatf(at, "digests.hashAlg", "%s is not in the header", alg)
		case seen&(1<<i) != 0:
			return 0, formatf(at, "digests.hashAlg", "%s is there twice", alg)
		case len(p.b)-at-2 < p.log.sizes[i]:
			return 0, formatf(at+2, "digests.digest", "truncated")
		}
		seen |= 1 << i
		at += 2 + p.log.sizes[i]
	}
	return at - off, nil
}

func (p *parser) bank(alg pcr.Bank) int {
	for i, b := range p.log.Banks {
		if b == alg {
			return i
		}
	}
	return -1
}

// add checks what concerns the order of events and takes the next one.
func (p *parser) add(e Event, end int) error {
	if e.PCR >= pcr.Count && (e.Extends() || e.PCR != 0xffffffff) {
		return formatf(p.off, "pcrIndex", "%d, a TPM has %d", e.PCR, pcr.Count)
	}
	if e.Type == NoAction && bytes.HasPrefix(e.Data, []byte(locality)) {
		if err := p.startup(e); err != nil {
			return err
		}
	}
	p.seen.pcr0 = p.seen.pcr0 || e.Extends() && e.PCR == 0
	p.log.Events = append(p.log.Events, e)
	p.off = end
	return nil
}

// startup takes the locality of TPM2_Startup, which decides how PCR 0 starts
// and so must be known before it is extended.
func (p *parser) startup(e Event) error {
	switch {
	case len(e.Data) != len(locality)+1:
		return formatf(p.off, "StartupLocality", "%d bytes, want %d", len(e.Data), len(locality)+1)
	case p.seen.locality:
		return formatf(p.off, "StartupLocality", "stated twice")
	case p.seen.pcr0:
		return formatf(p.off, "StartupLocality", "stated after PCR 0 was extended")
	case e.PCR != 0:
		return formatf(p.off, "StartupLocality", "stated for PCR %d", int32(e.PCR))
	}
	l := e.Data[len(locality)]
	if l != 0 && l != 3 && l != 4 {
		return formatf(p.off, "StartupLocality", "%d is not 0, 3 or 4", l)
	}
	p.log.Locality, p.seen.locality = l, true
	return nil
}

// padding takes the rest of the log when it is all zeros or all ones: firmware
// hands over the buffer, not only what it wrote into it. An event of zeros
// would be an EV_PREBOOT_CERT, which nothing has used, without data.
func (p *parser) padding() bool {
	rest := p.b[p.off:]
	head := rest[:min(len(rest), 8)] // index and type: most events are told by them
	if v := rest[0]; v != 0 && v != 0xff || bytes.Count(head, rest[:1]) != len(head) || bytes.Count(rest, rest[:1]) != len(rest) {
		return false
	}
	p.log.Padding = len(rest)
	return true
}
