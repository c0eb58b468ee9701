package deb

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// The common ar format of deb(5): an 8 byte magic, then per member a 60 byte
// header in ASCII and the content, padded to an even offset. Neither BSD nor
// GNU long names occur in packages.
const (
	arMagic    = "!<arch>\n"
	arHeader   = 60
	arName     = 16 // bytes; the name field comes first
	arSizeAt   = 48
	arSizeLen  = 10
	arEndAt    = 58
	arEnd      = "`\n"
	maxMembers = 16 // deb(5) knows three, and allows others that start with "_"
)

// FormatError names where a package is malformed.
type FormatError struct {
	Off   int64 // bytes from the start of the file
	Field string
	Msg   string
}

// Error implements error.
func (e *FormatError) Error() string {
	return fmt.Sprintf("read deb: ar header at %d: %s: %s", e.Off, e.Field, e.Msg)
}

// member is one part of the ar archive.
type member struct {
	name      string
	r         io.ReaderAt
	off, size int64
}

func (m member) reader() io.Reader { return io.NewSectionReader(m.r, m.off, m.size) }

func readAr(r io.ReaderAt, size int64) ([]member, error) {
	magic := make([]byte, len(arMagic))
	if _, err := r.ReadAt(magic, 0); err != nil || string(magic) != arMagic {
		return nil, &FormatError{0, "magic", fmt.Sprintf("%q, want %q", bytes.TrimRight(magic, "\x00"), arMagic)}
	}
	var list []member
	for off := int64(len(arMagic)); off < size; {
		m, err := readMember(r, off, size)
		if err != nil {
			return nil, err
		}
		if list = append(list, m); len(list) > maxMembers {
			return nil, &FormatError{off, "members", fmt.Sprintf("more than %d", maxMembers)}
		}
		off = m.off + m.size + m.size%2
	}
	return list, nil
}

func readMember(r io.ReaderAt, off, size int64) (member, error) {
	h := make([]byte, arHeader)
	if n, err := r.ReadAt(h, off); n < arHeader {
		return member{}, &FormatError{off, "header", fmt.Sprintf("%d of %d bytes: %v", n, arHeader, err)}
	}
	if string(h[arEndAt:]) != arEnd {
		return member{}, &FormatError{off + arEndAt, "end", fmt.Sprintf("%q, want %q", h[arEndAt:], arEnd)}
	}
	text := strings.TrimRight(string(h[arSizeAt:arSizeAt+arSizeLen]), " ")
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil || int64(n) > size-off-arHeader {
		return member{}, &FormatError{off + arSizeAt, "size", fmt.Sprintf("%q with %d bytes left", text, size-off-arHeader)}
	}
	name := strings.TrimRight(string(h[:arName]), " ")
	name = strings.TrimSuffix(name, "/") // GNU ar ends names so
	return member{name: name, r: r, off: off + arHeader, size: int64(n)}, nil
}
