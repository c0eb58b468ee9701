package dhcp

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// FormatError says where a message is not one.
type FormatError struct {
	Off   int // bytes from the start of the message
	Field string
	Msg   string
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("read dhcp message: byte %d: %s: %s", e.Off, e.Field, e.Msg)
}

// Parse reads a message. Nothing of b is kept. A missing end option is forgiven, as
// firmware forgets it; an option that is longer than its field is not.
func Parse(b []byte) (Message, error) {
	var m Message
	switch {
	case len(b) < fixedSize:
		return m, &FormatError{len(b), "header", fmt.Sprintf("ends after %d bytes, of at least %d", len(b), fixedSize)}
	case len(b) > MaxSize:
		return m, &FormatError{MaxSize, "options", fmt.Sprintf("%d bytes, more than %d", len(b), MaxSize)}
	case [4]byte(b[headerSize:]) != cookie:
		return m, &FormatError{headerSize, "cookie", "is not 99.130.83.99 (BOOTP without DHCP?)"}
	case b[0] != opRequest && b[0] != opReply:
		return m, &FormatError{0, "op", fmt.Sprintf("%d, want 1 or 2", b[0])}
	case b[2] > 16:
		return m, &FormatError{2, "hlen", fmt.Sprintf("%d, more than 16", b[2])}
	}
	m.header(b)
	return m, m.options(b)
}

func (m *Message) header(b []byte) {
	m.Op, m.HType, m.HLen, m.Hops = b[0], b[1], b[2], b[3]
	m.XID = binary.BigEndian.Uint32(b[4:])
	m.Secs, m.Flags = binary.BigEndian.Uint16(b[8:]), binary.BigEndian.Uint16(b[10:])
	m.Client, m.Your, m.Next, m.Relay = getAddr(b[12:16]), getAddr(b[16:20]), getAddr(b[20:24]), getAddr(b[24:28])
	copy(m.Hardware[:], b[28:44])
}

// options reads the options field, then file and sname where option 52 says that options
// are there (RFC 2132 section 9.3), in the order of RFC 3396 section 5.
func (m *Message) options(b []byte) error {
	if err := m.field(b, fixedSize, len(b), "options"); err != nil {
		return err
	}
	var overload byte
	if v := m.Options.Get(optOverload); len(v) > 0 {
		overload = v[0]
	}
	if overload&1 != 0 {
		if err := m.field(b, fileAt, headerSize, "file"); err != nil {
			return err
		}
	} else {
		m.File = text(b[fileAt:headerSize])
	}
	if overload&2 != 0 {
		return m.field(b, snameAt, fileAt, "sname")
	}
	m.SName = text(b[snameAt:fileAt])
	return nil
}

func (m *Message) field(b []byte, off, end int, name string) error {
	for off < end && b[off] != optEnd {
		if b[off] == optPad {
			off++
			continue
		}
		if off+2 > end || off+2+int(b[off+1]) > end {
			return &FormatError{off, name, fmt.Sprintf("option %d is longer than what is left", b[off])}
		}
		m.Options.join(b[off], b[off+2:off+2+int(b[off+1])])
		off += 2 + int(b[off+1])
	}
	return nil
}

func text(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}
