package policy

import (
	"crypto/sha256"
	"encoding/binary"
)

// FloorIndex is the NV index of the version floor's counter: in the range of
// the owner (TCG Registry of Reserved TPM 2.0 Handles, section 2.2).
const FloorIndex = 0x01801907

// FloorAttributes is the counter's TPMA_NV (part 2, section 13.4) once it has a
// value: a counter that everyone reads and the owner increments, without a lock
// after wrong passwords. Nothing else can write it.
const FloorAttributes = nvOwnerWrite | nvTypeCounter | nvOwnerRead | nvAuthRead | nvNoDA | nvWritten

const (
	nvOwnerWrite  = 1 << 1
	nvTypeCounter = 1 << 4 // TPM_NT_COUNTER in bits 7:4
	nvOwnerRead   = 1 << 17
	nvAuthRead    = 1 << 18
	nvNoDA        = 1 << 25
	nvWritten     = 1 << 29
)

// FloorName is the name of the counter, of each one that is ever made: its name
// algorithm and the hash of its public area (part 1, section 16). An index that
// is not such a counter has another name.
func FloorName() []byte {
	area := binary.BigEndian.AppendUint32(nil, FloorIndex) // TPMS_NV_PUBLIC
	area = binary.BigEndian.AppendUint16(area, algSHA256)
	area = binary.BigEndian.AppendUint32(area, FloorAttributes)
	area = binary.BigEndian.AppendUint16(area, 0) // authPolicy: none
	area = binary.BigEndian.AppendUint16(area, 8) // dataSize
	sum := sha256.Sum256(area)
	return append([]byte{algSHA256 >> 8, algSHA256 & 0xff}, sum[:]...)
}
