package traces

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/ingot-os/ingot/boot/slot"
)

// Record is what init writes into the evidence region of the state partition when
// a boot ends: one line for programs, one that names the image, one with the
// reason, then the newest lines of the log.
//
//	ingot-evidence 1 cause=init-exit slot=b
//	hello 1.0 build 1234
//	panic in boot: ...
//	[    3.141592] ingot: ...
//
// A record without the first line, or of another version of it, is text for
// people and evidence of nothing.
//
// Once it was counted its first line says "noted" in place of "cause": then it is
// evidence no more, also to programs that do not know the word, and stays to be read.
type Record struct {
	Cause   slot.Cause // NoCause: a note, not a failure
	Counted bool       // a boot has found it before
	Slot    slot.Slot  // that ran; None from RAM or the ESP
	Image   string     // "hello 1.0 build 1234"
	Text    string     // why; may have several lines
}

const (
	recordMagic = "ingot-evidence 1"
	newRecord   = recordMagic + " cause="
	oldRecord   = recordMagic + " noted=" // as long
)

// Count marks a record as counted, in place; false: the bytes are none.
func Count(record []byte) bool {
	if !bytes.HasPrefix(record, []byte(newRecord)) {
		return false
	}
	copy(record, oldRecord)
	return true
}

// Fill appends a log to the head of a record: of limit bytes altogether, and the
// newest lines, for the last ones before the end tell the most.
func Fill(head, log string, limit int) []byte {
	head = head[:min(len(head), limit)]
	if over := len(log) - (limit - len(head)); over > 0 {
		_, rest, _ := strings.Cut(log[over-1:], "\n") // a line that is there in part is left away
		log = rest
	}
	return []byte(head + log)
}

// Head is the text of a record before the log.
func (r Record) Head() string {
	first := newRecord + r.Cause.String()
	if r.Slot != slot.None {
		first += " slot=" + string(rune(r.Slot))
	}
	return first + "\n" + line(r.Image) + "\n" + r.Text + "\n"
}

// ParseRecord reads a record. The log is in Text, behind the reason.
func ParseRecord(b []byte) Record {
	first, rest, _ := strings.Cut(string(b), "\n")
	fields, ok := strings.CutPrefix(first, recordMagic+" ")
	if !ok {
		return Record{Text: string(b)}
	}
	var r Record
	for f := range strings.FieldsSeq(fields) {
		switch key, value, _ := strings.Cut(f, "="); key {
		case "cause", "noted":
			r.Cause, r.Counted = causeOf(value), key == "noted"
		case "slot":
			r.Slot = slotOf(value)
		}
	}
	r.Image, r.Text, _ = strings.Cut(rest, "\n")
	return r
}

// Summary is the image and the first line of the reason.
func (r Record) Summary() string {
	reason, _, _ := strings.Cut(r.Text, "\n")
	if r.Image == "" {
		return line(reason)
	}
	return line(r.Image + "; " + reason)
}

// Evidence is the record as evidence; nil of a note, and of what was counted. seq is the number of the
// record in its region: two boots that end with the same words are two traces.
func (r Record) Evidence(seq uint64) *slot.Evidence {
	if r.Cause == slot.NoCause || r.Counted {
		return nil
	}
	reason, _, _ := strings.Cut(r.Text, "\n")
	return &slot.Evidence{Cause: r.Cause, Slot: r.Slot, Detail: line(reason), ID: identify("record", strconv.FormatUint(seq, 10), r.Text)}
}

// causeOf finds a cause by its name. One that only a newer version knows is a
// failure all the same.
func causeOf(name string) slot.Cause {
	for c := slot.NoCause; c.String() != slot.Cause(255).String(); c++ {
		if c.String() == name {
			return c
		}
	}
	return slot.Unhealthy
}

func slotOf(letter string) slot.Slot {
	switch letter {
	case "a":
		return slot.A
	case "b":
		return slot.B
	}
	return slot.None
}
