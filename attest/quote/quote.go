// Package quote reads what a TPM says about itself: quotes and certified NV
// contents (TPMS_ATTEST), their signatures (TPMT_SIGNATURE) and public areas of keys (TPMT_PUBLIC),
// after the TPM 2.0 Library specification, part 2, and checks signatures.
//
// The parsers are written by hand because a verifier reads thousands of quotes
// each second: they make few allocations, share memory with the input, and
// refuse what they do not know, bytes behind the structure among it.
//
// Limits: ECDSA on P-256 and P-384 and RSASSA-PKCS1-v1_5 with 2048 to 4096
// bits, hashes SHA-256 and longer for signatures; name algorithms SHA-256,
// SHA-384 and SHA-512. A quote may select at most 16 banks of 24 registers.
//
// Shape of use:
//
//	key, err := quote.ParsePublic(ak)
//	s, err := quote.ParseSignature(signature)
//	err = key.Verify(attest, s)
//	q, err := quote.Parse(attest)
package quote

import (
	"errors"
	"fmt"

	"github.com/ingot-os/ingot/attest/pcr"
)

// Values of the specification, part 2.
const (
	magic      = 0xff544347 // TPM_GENERATED_VALUE (section 6.2)
	typeNV     = 0x8014     // TPM_ST_ATTEST_NV (section 6.9)
	typeQuote  = 0x8018     // TPM_ST_ATTEST_QUOTE
	maxBanks   = 16
	maxDigest  = 64
	selectSize = 3 // octets of a selection of 24 registers
)

// Kinds of malformed structures that a verifier tells apart; Parse and ParseNV
// wrap them.
var (
	ErrMagic    = errors.New("not made by a TPM")
	ErrType     = errors.New("of another type")
	ErrTrailing = errors.New("bytes behind the structure")
)

// Clock is a TPMS_CLOCK_INFO (section 10.11.1).
type Clock struct {
	Millis       uint64 `json:"clock"`         // milliseconds of power since the TPM was cleared
	ResetCount   uint32 `json:"reset_count"`   // TPM resets since then
	RestartCount uint32 `json:"restart_count"` // resumes since the last reset
	Safe         bool   `json:"safe"`          // no greater value of Millis was ever given out
}

// Selection is the registers of one bank that a quote covers.
type Selection struct {
	Bank pcr.Bank
	Mask uint32 // bit n is register n
}

// Has reports whether register i is selected.
func (s Selection) Has(i int) bool { return i >= 0 && i < 32 && s.Mask>>i&1 == 1 }

// Head is what every TPMS_ATTEST begins with (section 10.12.12).
type Head struct {
	Signer          []byte // qualified name of the key
	ExtraData       []byte
	Clock           Clock
	FirmwareVersion uint64
}

// Quote is a TPMS_ATTEST of the type TPM_ST_ATTEST_QUOTE (section 10.12.4).
// Slices share memory with the input.
type Quote struct {
	Head
	Selections []Selection
	Digest     []byte // of the selected values, by the hash of the signature
}

// Parse reads the TPMS_ATTEST of a quote. The error is a *FormatError, which wraps one of
// the kinds above where it is one.
func Parse(b []byte) (*Quote, error) {
	r := &reader{what: "TPMS_ATTEST", b: b}
	q := &Quote{Head: r.head(typeQuote)}
	q.Selections = r.selections()
	q.Digest = r.sized("pcrDigest", maxDigest)
	if err := r.end(); err != nil {
		return nil, err
	}
	return q, nil
}

// head reads a Head of one type.
func (r *reader) head(typ uint16) (h Head) {
	if v := r.u32("magic"); r.err == nil && v != magic {
		r.fail(-4, "magic", ErrMagic, "%#08x", v)
	}
	if v := r.u16("type"); r.err == nil && v != typ {
		r.fail(-2, "type", ErrType, "%#04x", v)
	}
	h.Signer, h.ExtraData = r.sized("qualifiedSigner", 2+maxDigest), r.sized("extraData", 2+maxDigest)
	h.Clock = Clock{Millis: r.u64("clock"), ResetCount: r.u32("resetCount"), RestartCount: r.u32("restartCount"), Safe: r.boolean("safe")}
	h.FirmwareVersion = r.u64("firmwareVersion")
	return h
}

func (r *reader) selections() []Selection {
	n := r.u32("pcrSelect.count")
	if r.err != nil || n > maxBanks {
		r.fail(-4, "pcrSelect.count", nil, "%d banks are more than %d", n, maxBanks)
		return nil
	}
	out := make([]Selection, 0, n)
	for range n {
		s := Selection{Bank: pcr.Bank(r.u16("hash"))}
		size := r.u8("sizeofSelect")
		if r.err == nil && size > 4 {
			r.fail(-1, "sizeofSelect", nil, "%d octets are more than 4", size)
		}
		for i, octet := range r.take("pcrSelect", int(size)) {
			s.Mask |= uint32(octet) << (8 * i)
		}
		if r.err == nil && s.Mask>>(8*selectSize) != 0 {
			r.fail(0, "pcrSelect", nil, "register above %d", pcr.Count-1)
		}
		for _, other := range out {
			if r.err == nil && other.Bank == s.Bank {
				r.fail(0, "hash", nil, "%s is selected twice", s.Bank)
			}
		}
		out = append(out, s)
	}
	return out
}

// FormatError says where a structure is malformed.
type FormatError struct {
	Struct string // the structure's name in the specification
	Off    int    // in bytes from its start
	Field  string // the field's name in the specification
	Msg    string
	kind   error
}

// Error implements error.
func (e *FormatError) Error() string {
	s := fmt.Sprintf("%s: offset %#x, %s: %s", e.Struct, e.Off, e.Field, e.Msg)
	if e.kind != nil {
		s += ": " + e.kind.Error()
	}
	return s
}

// Unwrap is the kind of error, if it is one that verifiers tell apart.
func (e *FormatError) Unwrap() error { return e.kind }
