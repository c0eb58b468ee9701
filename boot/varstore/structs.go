package varstore

import (
	"encoding/binary"
	"unicode/utf16"

	"github.com/ingot-os/ingot/partition/gpt"
)

var le = binary.LittleEndian

// The on-flash structures, little-endian, with EDK2's names.

// Sizes in bytes of the structures.
const (
	volumeHeaderSize   = 56 // EFI_FIRMWARE_VOLUME_HEADER without its block map
	storeHeaderSize    = 28 // VARIABLE_STORE_HEADER
	variableHeaderSize = 60 // AUTHENTICATED_VARIABLE_HEADER
)

var (
	nvDataVolume       = gpt.MustGUID("fff12b8d-7696-4c8b-a985-2747075b4f50") // gEfiSystemNvDataFvGuid
	authenticatedStore = gpt.MustGUID("aaf32c78-947b-439a-a180-2e144ec37792") // gEfiAuthenticatedVariableGuid
	plainStore         = gpt.MustGUID("ddcf3616-3275-4164-98b6-fe85707ffe7d") // gEfiVariableGuid
)

const (
	startID        = 0x55aa
	storeFormatted = 0x5a
	storeHealthy   = 0xfe
)

// States of a record. Firmware clears bits as a write goes on: header written,
// data written, replaced, deleted.
const (
	stateAdded        = 0x3f
	stateInTransition = 0xfe // this bit cleared: a newer record is being written
)

type volumeHeader struct {
	ZeroVector      [16]byte
	FileSystemGuid  gpt.GUID
	FvLength        uint64
	Signature       [4]byte // "_FVH"
	Attributes      uint32
	HeaderLength    uint16 // with the block map
	Checksum        uint16 // makes the 16-bit sum of the header zero
	ExtHeaderOffset uint16
	Reserved        uint8
	Revision        uint8
}

type storeHeader struct {
	Signature gpt.GUID
	Size      uint32 // with this header
	Format    uint8
	State     uint8
	Reserved  uint16
	Reserved1 uint32
}

type variableHeader struct {
	StartID        uint16
	State          uint8
	Reserved       uint8
	Attributes     uint32
	MonotonicCount uint64
	TimeStamp      [16]byte // EFI_TIME
	PubKeyIndex    uint32
	NameSize       uint32 // bytes, with the NUL
	DataSize       uint32
	VendorGUID     gpt.GUID
}

// The flash of ArmVirt (ArmVirtPkg/ArmVirtQemu.dsc, the PcdFlashNvStorage
// sizes): variables, the working and the spare part of fault-tolerant writes,
// each one block of 256 KiB.
const (
	armVirtBlock  = 256 << 10
	armVirtVolume = 3 * armVirtBlock
)

// armVirtAttributes are what its flash driver writes into the volume header
// (NorFlashDxe): read and write enabled and able, sticky, memory mapped, erase
// polarity one, and no others.
const armVirtAttributes = 0x00000e36

// blankArmVirt returns the beginning of the image that firmware would make of a
// blank one of that many bytes: the block map counts the blocks of the whole
// flash, although the volume has three. The working block stays erased;
// firmware writes it at boot.
func blankArmVirt(flash int) []byte {
	b := make([]byte, armVirtVolume)
	fill(b, 0xff)
	h := volumeHeader{FileSystemGuid: nvDataVolume, FvLength: armVirtVolume, Signature: [4]byte([]byte("_FVH")),
		Attributes: armVirtAttributes, HeaderLength: volumeHeaderSize + 16, Revision: 2}
	blocks := []uint32{uint32(flash / armVirtBlock), armVirtBlock, 0, 0}
	store := storeHeader{Signature: authenticatedStore, Size: armVirtBlock - uint32(h.HeaderLength), Format: storeFormatted, State: storeHealthy}
	write := func(at int, v any) {
		if _, err := binary.Encode(b[at:], le, v); err != nil {
			panic(err) // the structs have fixed sizes; see TestSizes
		}
	}
	write(0, &h)
	write(volumeHeaderSize, blocks)
	h.Checksum = -sum16(b[:h.HeaderLength])
	write(0, &h)
	write(int(h.HeaderLength), &store)
	return b
}

// sum16 adds the 16-bit words of b, whose length is even.
func sum16(b []byte) (sum uint16) {
	for i := 0; i+1 < len(b); i += 2 {
		sum += le.Uint16(b[i:])
	}
	return sum
}

// encode returns the record without the padding to the next one. Name and data
// follow each other directly: EDK2's ALIGNMENT is 1 on x86 and Arm.
func (r record) encode() []byte {
	h := r.header
	h.StartID, h.State, h.Reserved = startID, stateAdded, 0
	h.Attributes = r.v.Attributes
	h.NameSize, h.DataSize = uint32(len(r.name)), uint32(len(r.v.Data))
	h.VendorGUID = r.v.GUID
	b := make([]byte, variableHeaderSize, variableHeaderSize+len(r.name)+len(r.v.Data))
	if _, err := binary.Encode(b, le, &h); err != nil {
		panic(err) // the struct has a fixed size; see TestSizes
	}
	return append(append(b, r.name...), r.v.Data...)
}

func encodeName(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = le.AppendUint16(b, u)
	}
	return le.AppendUint16(b, 0)
}

func decodeName(b []byte) string {
	units := make([]uint16, 0, len(b)/2)
	for i := 0; i+1 < len(b); i += 2 {
		u := le.Uint16(b[i:])
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units))
}
