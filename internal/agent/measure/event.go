// Package measure is what PID 1 itself needs of a TPM 2.0: to extend a register
// by the digest of some bytes and to keep a log of it, in the format that
// firmware uses ("TCG PC Client Platform Firmware Profile", section 10).
//
// It knows one command, TPM2_PCR_Event (TPM 2.0 Library part 3, section 22.3):
// the TPM hashes in all its active banks and tells the digests, so there is
// nothing to ask before and nothing to leave behind. Everything else about TPMs
// is in attest/tpm, which is ten times larger and in the fleet variant only.
//
// Limits: data of at most MaxData bytes, registers without a password, as all
// that outlive the boot are.
//
// Shape of use:
//
//	dev, err := measure.Open("/dev/tpmrm0")
//	digests, err := measure.Event(dev, 15, data)
//	err = log.Append(15, data, digests)
package measure

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/attest/pcr"
)

// MaxData bounds what one event can be about, in bytes (TPM2B_EVENT, part 2,
// section 10.4.9).
const MaxData = 1024

// Numbers of the Library specification, part 2.
const (
	tagSessions = 0x8002     // TPM_ST_SESSIONS
	ccPCREvent  = 0x0000013c // TPM_CC_PCR_Event
	password    = 0x40000009 // TPM_RS_PW
	headerSize  = 10
	maxAnswer   = 4096
	maxDigests  = 16
)

// sizes are the lengths of digests in bytes by algorithm, also of banks that
// nothing here computes: without its length a digest cannot be stepped over.
var sizes = map[uint16]int{
	0x0004: 20, 0x000b: 32, 0x000c: 48, 0x000d: 64, // SHA-1, SHA-256, SHA-384, SHA-512
	0x0012: 32, 0x0027: 32, 0x0028: 48, 0x0029: 64, // SM3-256, SHA3-256, SHA3-384, SHA3-512
}

// Open opens the TPM's character device so that a read waits for the answer. It
// does not take os.Open, which opens what can be polled in non-blocking mode: then
// the driver works in the background, and a read that comes before the answer
// is told the end of the file (seen with Linux 6.12).
func Open(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// Error is a refusal by the TPM.
type Error uint32 // TPM_RC

// Error implements error.
func (e Error) Error() string { return fmt.Sprintf("the TPM answers %#x", uint32(e)) }

// Digest is what a register of one bank was extended by.
type Digest struct {
	Bank  pcr.Bank
	Value pcr.Digest
}

// Event lets the TPM extend a register by the digest of data, in all active
// banks, and returns the digests in the TPM's order. Each write to dev is one
// command and each read one answer, as with the kernel's devices.
func Event(dev io.ReadWriter, register int, data []byte) ([]Digest, error) {
	digests, err := event(dev, register, data)
	if err != nil {
		return nil, fmt.Errorf("measure into PCR %d: %w", register, err)
	}
	return digests, nil
}

func event(dev io.ReadWriter, register int, data []byte) ([]Digest, error) {
	if len(data) > MaxData {
		return nil, fmt.Errorf("%d bytes are more than %d", len(data), MaxData)
	}
	if _, err := dev.Write(command(register, data)); err != nil {
		return nil, err
	}
	answer := make([]byte, maxAnswer)
	n, err := dev.Read(answer)
	if err != nil {
		return nil, err
	}
	return parse(answer[:n])
}

// command encodes TPM2_PCR_Event with an empty password.
func command(register int, data []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, tagSessions)
	b = binary.BigEndian.AppendUint32(b, uint32(headerSize+4+4+9+2+len(data)))
	b = binary.BigEndian.AppendUint32(b, ccPCREvent)
	b = binary.BigEndian.AppendUint32(b, uint32(register))
	b = binary.BigEndian.AppendUint32(b, 9) // authorizationSize: one session
	b = binary.BigEndian.AppendUint32(b, password)
	b = append(b, 0, 0, 0, 0, 0) // no nonce, no attributes, no password
	b = binary.BigEndian.AppendUint16(b, uint16(len(data)))
	return append(b, data...)
}

var errShort = errors.New("the TPM's answer is cut")

// parse reads the answer: header, size of the parameters, TPML_DIGEST_VALUES,
// and the session, which says nothing.
func parse(b []byte) ([]Digest, error) {
	if len(b) < headerSize {
		return nil, errShort
	}
	if rc := binary.BigEndian.Uint32(b[6:]); rc != 0 {
		return nil, Error(rc)
	}
	if size := binary.BigEndian.Uint32(b[2:]); int64(size) != int64(len(b)) || len(b) < headerSize+8 {
		return nil, errShort
	}
	count := binary.BigEndian.Uint32(b[headerSize+4:])
	if count > maxDigests {
		return nil, fmt.Errorf("the TPM's answer has %d digests", count)
	}
	b = b[headerSize+8:]
	var out []Digest
	for range count {
		if len(b) < 2 {
			return nil, errShort
		}
		alg := binary.BigEndian.Uint16(b)
		n := sizes[alg]
		if n == 0 {
			return nil, fmt.Errorf("the TPM has a bank of an unknown algorithm %#04x", alg)
		}
		if len(b) < 2+n {
			return nil, errShort
		}
		out = append(out, Digest{pcr.Bank(alg), append(pcr.Digest(nil), b[2:2+n]...)})
		b = b[2+n:]
	}
	return out, nil
}
