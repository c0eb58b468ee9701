package attest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// ReadEvidence reads a document that has fields beside those of evidence: more
// says by name where to put them. Every name is known and there once, spelled
// as it is; nothing in evidence is silently left unread.
//
// It is written by hand because a server reads thousands of documents in a
// second, of which nearly all is the base64 of a log: package encoding/json
// takes each byte through its scanner, twice. Small fields are still read by it.
func ReadEvidence(b []byte, more map[string]any) (*Evidence, error) {
	if len(b) > MaxEvidence {
		return nil, fmt.Errorf("read evidence: %d bytes are more than %d", len(b), MaxEvidence)
	}
	var e Evidence
	fields := map[string]any{"format": &e.Format, "nonce": &e.Nonce, "ak": &e.AK, "ek": &e.EK, "ekCertificate": &e.EKCertificate,
		"quote": &e.Quote, "signature": &e.Signature, "pcrs": &e.PCRs, "eventLog": &e.EventLog, "initLog": &e.InitLog, "clock": &e.Clock, "firmware": &e.Firmware}
	for name, to := range more {
		fields[name] = to
	}
	d := document{b: b}
	if err := d.object(func(name string, value []byte) error {
		to := fields[name]
		if to == nil {
			return fmt.Errorf("field %.40q is unknown or there twice", name)
		}
		fields[name] = nil
		if err := readField(value, to); err != nil {
			return fmt.Errorf("field %s: %w", name, err)
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read evidence: offset %d: %w", d.at, err)
	}
	if e.Format != Format {
		return nil, fmt.Errorf("read evidence: format %.40q is not %q", e.Format, Format)
	}
	return &e, nil
}

// readField puts a value where it belongs. Bytes in base64 without escapes, as
// everybody writes them, go the short way.
func readField(value []byte, to any) error {
	if p, ok := to.(*[]byte); ok && value[0] == '"' {
		text := value[1 : len(value)-1]
		if bytes.IndexByte(text, '\\') < 0 && bytes.IndexByte(text, '\n') < 0 && bytes.IndexByte(text, '\r') < 0 { // base64 would skip line ends
			out := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
			n, err := base64.StdEncoding.Decode(out, text)
			*p = out[:n]
			return err
		}
	}
	d := json.NewDecoder(bytes.NewReader(value))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more than one value")
	}
	return nil
}

// document finds the fields of a JSON object (RFC 8259) and leaves what their
// values are to others.
type document struct {
	b  []byte
	at int
}

var errCut = errors.New("the document ends too early")

// object hands every field to a function; behind the object nothing follows.
func (d *document) object(field func(name string, value []byte) error) error {
	if err := d.expect('{'); err != nil {
		return err
	}
	for first := true; ; first = false {
		if c := d.peek(); first && c == '}' {
			break
		}
		name, err := d.text()
		if err == nil {
			err = d.expect(':')
		}
		if err != nil {
			return err
		}
		value, err := d.value()
		if err == nil {
			err = field(string(name[1:len(name)-1]), value) // an escape in a name makes it unknown
		}
		if err != nil {
			return err
		}
		if d.peek() != ',' {
			break
		}
		d.at++
	}
	if err := d.expect('}'); err != nil {
		return err
	}
	if d.peek(); d.at < len(d.b) {
		return errors.New("text behind the document")
	}
	return nil
}

// peek is the next byte that is no white space, 0 at the end.
func (d *document) peek() byte {
	for ; d.at < len(d.b); d.at++ {
		switch c := d.b[d.at]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

func (d *document) expect(c byte) error {
	switch got := d.peek(); {
	case d.at == len(d.b):
		return errCut
	case got != c:
		return fmt.Errorf("%q where %q is expected", got, c)
	}
	d.at++
	return nil
}

// text is a string with its quotes, its escapes as they are.
func (d *document) text() ([]byte, error) {
	begin := d.at
	if err := d.expect('"'); err != nil {
		return nil, err
	}
	begin = d.at - 1
	for {
		n := bytes.IndexByte(d.b[d.at:], '"')
		if n < 0 {
			return nil, errCut
		}
		escapes := 0 // right before the quote
		for escapes < n && d.b[d.at+n-1-escapes] == '\\' {
			escapes++
		}
		if d.at += n + 1; escapes%2 == 0 {
			return d.b[begin:d.at], nil
		}
	}
}

// value is the extent of a value. What is between brackets is only counted:
// whoever reads it finds out whether it is right.
func (d *document) value() ([]byte, error) {
	switch d.peek() {
	case '"':
		return d.text()
	case 0:
		return nil, errCut
	}
	begin, depth := d.at, 0
	for d.at < len(d.b) {
		switch c := d.b[d.at]; {
		case c == '"':
			if _, err := d.text(); err != nil {
				return nil, err
			}
			continue
		case c == '{' || c == '[':
			depth++
		case (c == '}' || c == ']' || c == ',') && depth == 0:
			return d.extent(begin)
		case c == '}' || c == ']':
			if depth--; depth == 0 {
				d.at++
				return d.extent(begin)
			}
		}
		d.at++
	}
	return nil, errCut
}

func (d *document) extent(begin int) ([]byte, error) {
	if begin == d.at {
		return nil, fmt.Errorf("%q where a value is expected", d.b[begin])
	}
	return d.b[begin:d.at], nil
}
