package tftp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strconv"
	"strings"
)

// Opcodes: RFC 1350 section 5, RFC 2347 for the last.
const (
	opRRQ   = 1
	opWRQ   = 2
	opDATA  = 3
	opACK   = 4
	opERROR = 5
	opOACK  = 6
)

// Error codes: RFC 1350 appendix I, RFC 2347 for the last.
const (
	codeOther    = 0
	codeNotFound = 1
	codeDenied   = 2
	codeIllegal  = 4
	codeTID      = 5
	codeOption   = 8
)

// maxRequest is the most that a request may be long: RFC 2347.
const maxRequest = 512

// header is the opcode and the block number before the bytes of a block.
const header = 4

// option is one of a request, as sent.
type option struct{ name, value string }

// request is a read request.
type request struct {
	name     string // as sent
	netascii bool
	options  []option
}

var (
	errShort   = errors.New("field without an end")
	errLong    = errors.New("request of more than 512 bytes")
	errMode    = errors.New("mode is neither octet nor netascii")
	errOptions = errors.New("option without a value")
)

// opcode is what kind of packet b is; 0 when it is none.
func opcode(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	return int(binary.BigEndian.Uint16(b))
}

// parseRequest reads what follows the opcode of a request: RFC 1350 figure 5-1,
// RFC 2347. Zeros after the last field are let through, as boot ROMs send buffers of a
// fixed length.
func parseRequest(b []byte) (r request, err error) {
	if len(b) > maxRequest-2 {
		return r, errLong
	}
	var fields [2]string
	for i := range fields {
		if fields[i], b, err = field(b); err != nil {
			return r, err
		}
	}
	r.name = fields[0]
	switch strings.ToLower(fields[1]) {
	case "octet":
	case "netascii":
		r.netascii = true
	default: // mail is for writing, and obsolete: RFC 1350 section 1
		return r, errMode
	}
	for len(bytes.Trim(b, "\x00")) > 0 {
		var o option
		if o.name, b, err = field(b); err != nil {
			return r, err
		}
		if len(b) == 0 {
			return r, errOptions
		}
		if o.value, b, err = field(b); err != nil {
			return r, err
		}
		r.options = append(r.options, o)
	}
	return r, nil
}

func field(b []byte) (s string, rest []byte, err error) {
	i := bytes.IndexByte(b, 0)
	if i < 0 {
		return "", nil, errShort
	}
	return string(b[:i]), b[i+1:], nil
}

// number reads the value of an option: decimal digits alone, since strconv takes signs
// and underscores that no RFC knows.
func number(s string) (int64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// ack gives the block number of an acknowledgement.
func ack(b []byte) (block uint16, ok bool) {
	if opcode(b) != opACK || len(b) < header {
		return 0, false
	}
	return binary.BigEndian.Uint16(b[2:]), true
}

// clientError gives what a client says when it breaks off. Its words go into events,
// so of them only a short line of ASCII is kept.
func clientError(b []byte) (code uint16, words string) {
	if len(b) < header {
		return 0, ""
	}
	text, _, _ := bytes.Cut(b[header:], []byte{0})
	if len(text) > 80 {
		text = text[:80]
	}
	return binary.BigEndian.Uint16(b[2:]), strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, string(text))
}

// errorPacket is RFC 1350 figure 5-4.
func errorPacket(code uint16, words string) []byte {
	b := binary.BigEndian.AppendUint16(nil, opERROR)
	b = binary.BigEndian.AppendUint16(b, code)
	return append(append(b, words...), 0)
}
