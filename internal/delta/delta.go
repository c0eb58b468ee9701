// Package delta makes and applies the difference between two slot images: the
// new one compressed by zstd (RFC 8878) with the old one as its dictionary.
// Slots hold their kernel and initramfs uncompressed (D4), so a changed line of
// a program is some ten kilobytes.
//
//	info, err := delta.Make(w, old, new)
//	r, err := delta.Open(slot, patch, delta.Limits{Size: slotSize})
//	err = slot.Writing{...}.Write(device, r)          // r is the new image
//
// Only what comes before the zeros at the end of an image counts, so a slot of
// 256 MiB with 25 MiB in it costs 25 MiB of memory. A patch says what it fits:
// Open fails with ErrBase when the slot holds anything else, and the caller
// takes the full image. The last Read fails when the result is not bit for bit
// the new image.
//
// The level is the best one. Measured on two images of hello that differ by a
// word: 12,460 bytes of 25 MB (0.05 %); of a changed line of its Go program: 25 KB
// (0.1 %); the next weaker level of this encoder
// does not look far enough and makes 14 MB.
//
// The patch starts with 160 bytes, little endian, then one zstd frame:
//
//	  0  8  magic "INGOTDL1"
//	  8  8  size of the old image in bytes
//	 16  8  of it, bytes before the zeros at the end
//	 24  8  size of the new image
//	 32  8  of it, bytes before the zeros at the end
//	 40 24  zero
//	 64 32  SHA-256 of the old image's bytes before the zeros
//	 96 32  SHA-256 of the old image
//	128 32  SHA-256 of the new image
//
// Limits: both images together at most 512 MiB before their zeros, which is the
// largest window of the encoder.
package delta

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrBase means that the patch is for another old image.
var ErrBase = errors.New("the patch does not fit this image")

// ErrTooLarge means that there is no delta of images of this size.
var ErrTooLarge = errors.New("too large for a delta")

// Digest is a SHA-256.
type Digest [32]byte

// HeaderSize is the size of a patch's header in bytes.
const HeaderSize = 160

const magic = "INGOTDL1"

// maxWindow is the largest window of the encoder, in bytes.
const maxWindow = 512 << 20

// minWindow keeps small patches to one size of window, in bytes.
const minWindow = 1 << 20

// dictionary is the id of the old image in the frame; any but 0, which means
// none.
const dictionary = 1

// Info is what a patch says of itself.
type Info struct {
	OldSize, OldUsed int64 // bytes; used is what comes before the zeros at the end
	NewSize, NewUsed int64
	OldPrefix        Digest // of the used bytes
	Old, New         Digest
}

type header struct {
	Magic            [8]byte
	OldSize, OldUsed int64
	NewSize, NewUsed int64
	Reserved         [24]byte
	OldPrefix        Digest
	Old, New         Digest
}

// FormatError says which field of a patch does not hold, and where.
type FormatError struct {
	Off   int64 // in the patch, in bytes
	Field string
	Msg   string
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("patch, offset %d, %s: %s", e.Off, e.Field, e.Msg)
}

func (i Info) encode() []byte {
	h := header{Magic: [8]byte([]byte(magic)), OldSize: i.OldSize, OldUsed: i.OldUsed, NewSize: i.NewSize, NewUsed: i.NewUsed, OldPrefix: i.OldPrefix, Old: i.Old, New: i.New}
	b, _ := binary.Append(nil, binary.LittleEndian, h) // fixed size: cannot fail
	return b
}

// ParseHeader decodes the first HeaderSize bytes of a patch. Errors are
// *FormatError.
func ParseHeader(b []byte) (Info, error) {
	var h header
	if _, err := binary.Decode(b, binary.LittleEndian, &h); err != nil {
		return Info{}, &FormatError{0, "header", err.Error()}
	}
	i := Info{h.OldSize, h.OldUsed, h.NewSize, h.NewUsed, h.OldPrefix, h.Old, h.New}
	switch {
	case string(h.Magic[:]) != magic:
		return Info{}, &FormatError{0, "magic", fmt.Sprintf("%q, want %q", h.Magic[:], magic)}
	case h.OldUsed < 0 || h.OldUsed > h.OldSize:
		return Info{}, &FormatError{16, "old bytes", fmt.Sprintf("%d of %d", h.OldUsed, h.OldSize)}
	case h.NewUsed < 0 || h.NewUsed > h.NewSize:
		return Info{}, &FormatError{32, "new bytes", fmt.Sprintf("%d of %d", h.NewUsed, h.NewSize)}
	case h.Reserved != [24]byte{}:
		return Info{}, &FormatError{40, "reserved", "not zero"}
	case h.OldUsed > maxWindow || h.NewUsed > maxWindow || h.OldUsed+h.NewUsed > maxWindow:
		return Info{}, &FormatError{16, "bytes", ErrTooLarge.Error()}
	}
	return i, nil
}

// window is the smallest power of two that reaches from the end of the new
// image to the start of the old one.
func (i Info) window() int {
	n := minWindow
	for int64(n) < i.OldUsed+i.NewUsed {
		n *= 2
	}
	return n
}
