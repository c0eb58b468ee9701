package qemu

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Hash algorithms of PCR banks (TPM 2.0 Library part 2, table "TPM_ALG_ID").
const (
	SHA1   = 0x0004
	SHA256 = 0x000b
	SHA384 = 0x000c
	SHA512 = 0x000d
)

// banks are all that swtpm implements. A new TPM of its has every one active,
// and firmware hashes whatever it measures once per active bank: a boot of a
// 24 MB UKI under TCG takes 3 s longer with four banks than with SHA-256 alone,
// which is what most real machines are delivered with.
var banks = []uint16{SHA1, SHA256, SHA384, SHA512}

// manufacture makes the state of a new TPM in dir with the given active PCR
// banks. A TPM that is there already is left as it is: a machine keeps its own.
// It is made under another name first, so that one whose making was interrupted
// is never taken for a machine's own, with banks that nobody asked for.
func manufacture(program, dir string, active []uint16) error {
	if _, err := os.Stat(filepath.Join(dir, "tpm2-00.permall")); err == nil {
		return nil
	}
	temp := dir + ".new"
	err := os.RemoveAll(temp)
	if err == nil {
		err = os.Mkdir(temp, 0o700)
	}
	if err == nil {
		err = allocate(program, temp, active)
	}
	if err == nil {
		err = os.RemoveAll(dir) // empty, or what a start without a TPM's state has left
	}
	if err == nil {
		err = os.Rename(temp, dir)
	}
	if err != nil {
		os.RemoveAll(temp)
		return fmt.Errorf("make TPM: %w", err)
	}
	return nil
}

// allocate runs a TPM on an empty directory until it has its banks.
func allocate(program, dir string, active []uint16) error {
	ours, theirs, err := socketPair("tpm")
	if err != nil {
		return err
	}
	defer ours.Close()
	p, err := start(program, []string{"socket", "--tpm2", "--tpmstate", "dir=" + dir,
		"--fd", "3", "--flags", "not-need-init,startup-clear"}, theirs)
	if err != nil {
		return err
	}
	defer p.kill()
	conn, err := net.FileConn(ours)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	answer, err := execute(conn, pcrAllocate(active))
	if err == nil && (len(answer) < 5 || answer[4] != 1) { // parameterSize, then allocationSuccess
		err = fmt.Errorf("PCR banks %#x are not to be had", active)
	}
	if err == nil {
		_, err = execute(conn, shutdownClear)
	}
	if err == nil {
		return nil
	}
	conn.Close()
	p.kill()
	if words := p.tail.String(); words != "" {
		return fmt.Errorf("%w: %s: %s", err, program, words)
	}
	return err
}

// shutdownClear is TPM2_Shutdown(TPM_SU_CLEAR) (part 3, section 9.4): state is
// written, and the next start is an orderly one.
var shutdownClear = []byte{0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x45, 0, 0}

// pcrAllocate is TPM2_PCR_Allocate (part 3, section 22.5) by the platform with
// an empty password: all 24 PCRs of the active banks, none of the others. It
// takes effect at the next reset.
func pcrAllocate(active []uint16) []byte {
	const (
		sessions = 0x8002     // TPM_ST_SESSIONS
		code     = 0x0000012b // TPM_CC_PCR_Allocate
		platform = 0x4000000c // TPM_RH_PLATFORM
		password = 0x40000009 // TPM_RS_PW
	)
	be := binary.BigEndian
	b := be.AppendUint16(nil, sessions)
	b = be.AppendUint32(b, 0) // size, below
	b = be.AppendUint32(b, code)
	b = be.AppendUint32(b, platform)
	b = be.AppendUint32(b, 9) // bytes of the authorization area
	b = be.AppendUint32(b, password)
	b = append(b, 0, 0, 0, 0, 0) // nonce, attributes, password: empty
	b = be.AppendUint32(b, uint32(len(banks)))
	for _, bank := range banks {
		b = be.AppendUint16(b, bank)
		mask := byte(0)
		for _, a := range active {
			if a == bank {
				mask = 0xff
			}
		}
		b = append(b, 3, mask, mask, mask)
	}
	be.PutUint32(b[2:], uint32(len(b)))
	return b
}

// execute sends a command and returns what follows the header of the answer,
// which must be TPM_RC_SUCCESS.
func execute(conn io.ReadWriter, command []byte) ([]byte, error) {
	if _, err := conn.Write(command); err != nil {
		return nil, err
	}
	head := make([]byte, 10)
	if _, err := io.ReadFull(conn, head); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[2:])
	if size < 10 || size > 4096 {
		return nil, fmt.Errorf("answer of %d bytes", size)
	}
	body := make([]byte, size-10)
	if _, err := io.ReadFull(conn, body); err != nil {
		return nil, err
	}
	if rc := binary.BigEndian.Uint32(head[6:]); rc != 0 {
		return nil, fmt.Errorf("command %#x: TPM response code %#x", command[6:10], rc)
	}
	return body, nil
}

// findTPM is the path of swtpm.
func findTPM() (string, error) {
	program, err := exec.LookPath(swtpmProgram)
	if errors.Is(err, exec.ErrNotFound) {
		return "", &MissingError{[]Missing{{swtpmProgram, "swtpm", "the TPM"}}}
	}
	return program, err
}
