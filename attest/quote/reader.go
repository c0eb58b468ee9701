package quote

import (
	"encoding/binary"
	"fmt"
)

var be = binary.BigEndian

// reader walks a structure; its first error stays, and later reads give zeros.
type reader struct {
	what string
	b    []byte
	off  int
	err  error
}

// fail notes an error at a distance from the present offset.
func (r *reader) fail(at int, field string, kind error, format string, args ...any) error {
	if r.err == nil {
		r.err = &FormatError{Struct: r.what, Off: r.off + at, Field: field, Msg: fmt.Sprintf(format, args...), kind: kind}
	}
	return r.err
}

func (r *reader) take(field string, n int) []byte {
	if r.err != nil {
		return nil
	}
	if n > len(r.b)-r.off {
		r.fail(0, field, nil, "%d bytes, %d are left", n, len(r.b)-r.off)
		return nil
	}
	r.off += n
	return r.b[r.off-n : r.off : r.off]
}

func (r *reader) u8(field string) byte {
	if b := r.take(field, 1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16(field string) uint16 {
	if b := r.take(field, 2); b != nil {
		return be.Uint16(b)
	}
	return 0
}

func (r *reader) u32(field string) uint32 {
	if b := r.take(field, 4); b != nil {
		return be.Uint32(b)
	}
	return 0
}

func (r *reader) u64(field string) uint64 {
	if b := r.take(field, 8); b != nil {
		return be.Uint64(b)
	}
	return 0
}

// boolean is a TPMI_YES_NO, 0 or 1.
func (r *reader) boolean(field string) bool {
	v := r.u8(field)
	if v > 1 {
		r.fail(-1, field, nil, "%d is neither NO nor YES", v)
	}
	return v == 1
}

// sized is a TPM2B of at most most bytes.
func (r *reader) sized(field string, most int) []byte {
	n := int(r.u16(field + ".size"))
	if r.err == nil && n > most {
		r.fail(-2, field+".size", nil, "%d bytes are more than %d", n, most)
	}
	return r.take(field, n)
}

// end is the error of the walk, or that of bytes that are left.
func (r *reader) end() error {
	if r.err == nil && r.off != len(r.b) {
		r.fail(0, "end", ErrTrailing, "%d bytes are left", len(r.b)-r.off)
	}
	return r.err
}
