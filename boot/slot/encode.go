package slot

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
)

// AppendBinary appends the journal's payload, PayloadSize bytes. It refuses a
// record that Parse would refuse.
func (r Record) AppendBinary(b []byte) ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	for _, x := range []Slot{A, B} {
		if err := checkContent(r.Of(x)); err != nil {
			return nil, fmt.Errorf("write %s to the slot journal: %w", x, err)
		}
	}
	p := payload{
		Good: byte(r.Good), Format: format, Phase: r.Phase, Candidate: r.Candidate, Means: r.Means,
		Flags: flag(r.Launched, 0) | flag(r.Guarded, 1) | flag(r.Deaf, 2), Cause: r.Cause, Culprit: r.Culprit,
		TriesLeft: r.TriesLeft, Attempt: r.Attempt, Arms: r.Arms, Lost: r.Lost, Failures: r.Failures, Bounces: r.Bounces, Heals: r.Heals,
		Floor: r.Floor, Schema: r.Schema, Generation: r.Generation, Seen: r.Seen,
		Slots: [2]content{r.Slots[0].encode(), r.Slots[1].encode()},
	}
	p.DetailBytes = uint16(copy(p.Detail[:], clean(r.Detail)))
	return binary.Append(b, binary.LittleEndian, p)
}

func flag(set bool, bit int) byte {
	if set {
		return 1 << bit
	}
	return 0
}

func (c Content) encode() content {
	out := content{Image: c.Image, Root: c.Root, Epoch: c.Epoch, Schema: c.Schema, Accepts: c.Accepts, Condition: c.Condition}
	out.VersionBytes = uint8(copy(out.Version[:], c.Version))
	return out
}

// Parse decodes the journal's payload. Errors are *FormatError; GoodOf still
// tells the good slot then.
func Parse(journal []byte) (Record, error) {
	if len(journal) < PayloadSize {
		return Record{}, &FormatError{len(journal), "length", fmt.Sprintf("%d bytes, want %d", len(journal), PayloadSize)}
	}
	var p payload
	if _, err := binary.Decode(journal[:PayloadSize], binary.LittleEndian, &p); err != nil {
		return Record{}, &FormatError{0, "payload", err.Error()}
	}
	if err := p.check(); err != nil {
		return Record{}, err
	}
	r := Record{
		Good: Slot(p.Good), Candidate: p.Candidate, Phase: p.Phase, Means: p.Means,
		Launched: p.Flags&1 != 0, Guarded: p.Flags&2 != 0, Deaf: p.Flags&4 != 0, Cause: p.Cause, Culprit: p.Culprit,
		TriesLeft: p.TriesLeft, Attempt: p.Attempt, Arms: p.Arms, Lost: p.Lost, Failures: p.Failures, Bounces: p.Bounces, Heals: p.Heals,
		Floor: p.Floor, Schema: p.Schema, Generation: p.Generation, Seen: p.Seen,
		Detail: string(p.Detail[:p.DetailBytes]), Slots: [2]Content{p.Slots[0].decode(), p.Slots[1].decode()},
	}
	if r.Cause >= causes { // of a newer version: what it means is in the detail
		r.Cause = Unhealthy
	}
	if err := r.check(); err != nil {
		return Record{}, err
	}
	return r, nil
}

func (c content) decode() Content {
	return Content{Version: string(c.Version[:c.VersionBytes]), Image: c.Image, Root: c.Root, Epoch: c.Epoch, Schema: c.Schema, Accepts: c.Accepts, Condition: c.Condition}
}

// check looks at the fields that are not copied as they are. What a newer
// version may have added is let through when it says that it is newer.
func (p *payload) check() error {
	newer := p.Format > format
	switch {
	case p.Format == 0:
		return &FormatError{1, "format", "0 is no version"}
	case p.Flags > 7 && !newer:
		return &FormatError{5, "flags", fmt.Sprintf("%#x has unknown bits", p.Flags)}
	case p.Cause >= causes && !newer:
		return &FormatError{6, "cause", fmt.Sprintf("%d is unknown", p.Cause)}
	case p.Reserved != [24]byte{} && !newer:
		return &FormatError{40, "reserved", "not zero"}
	case int(p.DetailBytes) > MaxDetail:
		return &FormatError{22, "detail length", fmt.Sprintf("%d is over %d", p.DetailBytes, MaxDetail)}
	}
	if err := text(p.Detail[:], int(p.DetailBytes), 320, "detail"); err != nil {
		return err
	}
	for i, c := range p.Slots {
		if err := c.check(64 + i*contentSize); err != nil {
			return err
		}
	}
	return nil
}

func (c *content) check(off int) error {
	if c.Condition >= conditions {
		return &FormatError{off + 72, "condition", fmt.Sprintf("%d is unknown", c.Condition)}
	}
	if c.VersionBytes == 0 && c.Condition != Empty {
		return &FormatError{off + 73, "version", "none in a slot that is " + c.Condition.String()}
	}
	return text(c.Version[:], int(c.VersionBytes), off+74, "version")
}

// text checks a field of n bytes of printable ASCII with zeros after them: the
// same record has one encoding only.
func text(field []byte, n, off int, name string) error {
	switch {
	case n > len(field):
		return &FormatError{off, name, fmt.Sprintf("length %d is over %d", n, len(field))}
	case clean(string(field[:n])) != string(field[:n]):
		return &FormatError{off, name, "not printable ASCII"}
	case bytes.Count(field[n:], []byte{0}) != len(field)-n:
		return &FormatError{off + n, name, "bytes after the text are not zero"}
	}
	return nil
}

// check is what must hold between the fields.
func (r *Record) check() error {
	switch {
	case r.Good != A && r.Good != B:
		return &FormatError{0, "good", fmt.Sprintf("%#x is no slot", byte(r.Good))}
	case r.Phase >= phases:
		return &FormatError{2, "phase", fmt.Sprintf("%d is unknown", r.Phase)}
	case r.Candidate != None && r.Candidate != r.Good.Other():
		return &FormatError{3, "candidate", fmt.Sprintf("%#x beside good %s", byte(r.Candidate), r.Good)}
	case r.Candidate == None && r.Phase.hasCandidate():
		return &FormatError{3, "candidate", "none in " + r.Phase.String()}
	case r.Means >= meansEnd:
		return &FormatError{4, "means", fmt.Sprintf("%d is unknown", r.Means)}
	case r.Culprit != None && r.Culprit != A && r.Culprit != B:
		return &FormatError{7, "culprit", fmt.Sprintf("%#x is no slot", byte(r.Culprit))}
	}
	return nil
}

func (p Phase) hasCandidate() bool {
	switch p {
	case Staging, Staged, Armed, Trying, Failed, Rejected:
		return true
	}
	return false
}

func checkContent(c Content) error {
	switch {
	case len(c.Version) > MaxVersion || clean(c.Version) != c.Version:
		return fmt.Errorf("version %.64q is not 1 to %d printable characters", c.Version, MaxVersion)
	case c.Version == "" && c.Condition != Empty:
		return fmt.Errorf("a release without a version")
	}
	return nil
}

// clean makes one line of printable ASCII that fits the record.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), MaxDetail)]
}

// EncodeRejections returns the payload of the list of rejected versions, oldest
// first: a version byte, a zero, the number of entries (two bytes), twelve
// zeros, then 128 bytes each.
func EncodeRejections(list []Rejection) ([]byte, error) {
	if len(list) > MaxRejections {
		return nil, fmt.Errorf("encode %d rejected versions: at most %d fit", len(list), MaxRejections)
	}
	b := make([]byte, 16, 16+len(list)*rejectionSize)
	b[0] = format
	binary.LittleEndian.PutUint16(b[2:], uint16(len(list)))
	for _, r := range list {
		if err := checkContent(Content{Version: r.Version, Condition: Ready}); err != nil {
			return nil, fmt.Errorf("encode rejected versions: %w", err)
		}
		e := rejection{Image: r.Image, Cause: r.Cause, VersionBytes: uint8(len(r.Version))}
		copy(e.Version[:], r.Version)
		b, _ = binary.Append(b, binary.LittleEndian, e) // fixed size: cannot fail
	}
	return b, nil
}

// ParseRejections decodes the list; empty bytes are an empty list. Errors are
// *FormatError.
func ParseRejections(b []byte) ([]Rejection, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if len(b) < 16 || b[0] == 0 {
		return nil, &FormatError{0, "rejected versions", "no header"}
	}
	n := int(binary.LittleEndian.Uint16(b[2:]))
	if n > MaxRejections || len(b) < 16+n*rejectionSize {
		return nil, &FormatError{2, "rejected versions", fmt.Sprintf("%d entries in %d bytes", n, len(b))}
	}
	var out []Rejection
	for i := range n {
		off := 16 + i*rejectionSize
		var e rejection
		if _, err := binary.Decode(b[off:off+rejectionSize], binary.LittleEndian, &e); err != nil {
			return nil, &FormatError{off, "rejected versions", err.Error()}
		}
		if e.VersionBytes == 0 || e.VersionBytes > MaxVersion {
			return nil, &FormatError{off + 33, "version", fmt.Sprintf("length %d", e.VersionBytes)}
		}
		if err := text(e.Version[:], int(e.VersionBytes), off+34, "version"); err != nil {
			return nil, err
		}
		out = append(out, Rejection{Version: string(e.Version[:e.VersionBytes]), Image: e.Image, Cause: min(e.Cause, causes)})
	}
	return out, nil
}
