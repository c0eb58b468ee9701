// Package tpm talks to a TPM 2.0: it is the only package that does. It gives
// what a verifier asks for (an attestation key, an endorsement key with its
// certificate, registers, quotes, the answer to a credential), and seals keys to
// the policies of package policy. Keys are made again from fixed templates at
// each start, so that nothing is stored and nothing can be lost; only counters
// last.
//
// After the TPM 2.0 Library specification and the "TCG EK Credential Profile
// for TPM Family 2.0" (version 2.5). Limits: endorsement keys RSA-2048, P-256
// and P-384; endorsement and owner hierarchies have no password, as on a
// machine that no other system has taken over. A TPM is for one goroutine.
//
// Shape of use:
//
//	t, err := tpm.Open("/dev/tpmrm0")
//	defer t.Close()
//	ak, err := t.AttestationKey()
//	defer t.Flush(ak)
//	q, err := t.Quote(ak, extraData, tpm.Want{Bank: pcr.SHA256, PCRs: []int{4, 11}})
package tpm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"

	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/quote"
)

// Device is the TPM's device with the kernel's resource manager, which takes
// back what a process that died has left in the TPM.
const Device = "/dev/tpmrm0"

// maxResponse bounds an answer in bytes (TPM2_PT_MAX_RESPONSE_SIZE is 4096).
const maxResponse = 4096

// TPM is an open TPM.
type TPM struct{ t transport.TPMCloser }

// Open opens a character device, or the data socket of an emulator.
func Open(path string) (*TPM, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open TPM: %w", err)
	}
	if info.Mode()&os.ModeSocket == 0 {
		t, err := linuxtpm.Open(path)
		if err != nil {
			return nil, fmt.Errorf("open TPM %s: %w", path, err)
		}
		return &TPM{t}, nil
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, fmt.Errorf("open TPM: %w", err)
	}
	return New(conn), nil
}

// New speaks to a TPM over a stream.
func New(stream io.ReadWriteCloser) *TPM { return &TPM{socket{stream}} }

// Close closes the connection.
func (t *TPM) Close() error { return t.t.Close() }

// socket is a stream to a TPM: an answer may come in pieces.
type socket struct{ io.ReadWriteCloser }

// retries bounds how often a command is sent again to a TPM that was busy; the
// kernel does the same for its devices.
const retries = 10

// Send sends a command until the TPM has started it.
func (s socket) Send(command []byte) (answer []byte, err error) {
	for range retries {
		answer, err = s.send(command)
		if err != nil || tpm2.TPMRC(binary.BigEndian.Uint32(answer[6:])) != tpm2.TPMRCRetry {
			break
		}
	}
	return answer, err
}

// send reads the whole answer, whose size is in its header.
func (s socket) send(command []byte) ([]byte, error) {
	if _, err := s.Write(command); err != nil {
		return nil, err
	}
	answer := make([]byte, 10, 256)
	if _, err := io.ReadFull(s, answer); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(answer[2:])
	if size < 10 || size > maxResponse {
		return nil, fmt.Errorf("answer of %d bytes", size)
	}
	answer = append(answer, make([]byte, size-10)...)
	_, err := io.ReadFull(s, answer[10:])
	return answer, err
}

// Clock reads the TPM's clock and counters.
func (t *TPM) Clock() (quote.Clock, error) {
	r, err := tpm2.ReadClock{}.Execute(t.t)
	if err != nil {
		return quote.Clock{}, fmt.Errorf("read clock of TPM: %w", err)
	}
	c := r.CurrentTime.ClockInfo
	return quote.Clock{Millis: c.Clock, ResetCount: c.ResetCount, RestartCount: c.RestartCount, Safe: bool(c.Safe)}, nil
}

// Key is a key that is loaded in the TPM.
type Key struct {
	// Public is its public area, a TPMT_PUBLIC.
	Public []byte

	handle tpm2.TPMHandle
	name   tpm2.TPM2BName
}

// Name is the key's name as the TPM computed it.
func (k *Key) Name() []byte { return k.name.Buffer }

// Flush removes a key from the TPM.
func (t *TPM) Flush(k *Key) error {
	_, err := tpm2.FlushContext{FlushHandle: k.handle}.Execute(t.t)
	return err
}

// primary makes a key of the endorsement hierarchy, the same at each call
// until the TPM is cleared.
func (t *TPM) primary(template tpm2.TPMTPublic) (*Key, error) {
	r, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(template)}.Execute(t.t)
	if err != nil {
		return nil, err
	}
	return &Key{Public: r.OutPublic.Bytes(), handle: r.ObjectHandle, name: r.Name}, nil
}

// Banks lists the active PCR banks that can be computed.
func (t *TPM) Banks() ([]pcr.Bank, error) {
	r, err := tpm2.GetCapability{Capability: tpm2.TPMCapPCRs, PropertyCount: 1}.Execute(t.t)
	if err != nil {
		return nil, fmt.Errorf("list PCR banks: %w", err)
	}
	selections, err := r.CapabilityData.Data.AssignedPCR()
	if err != nil {
		return nil, fmt.Errorf("list PCR banks: %w", err)
	}
	var banks []pcr.Bank
	for _, s := range selections.PCRSelections {
		active := false
		for _, octet := range s.PCRSelect {
			active = active || octet != 0
		}
		if b := pcr.Bank(s.Hash); active && b.Known() {
			banks = append(banks, b)
		}
	}
	return banks, nil
}

// Extend extends one register by a digest for each bank.
func (t *TPM) Extend(register int, digests map[pcr.Bank]pcr.Digest) error {
	var list []tpm2.TPMTHA
	for _, bank := range []pcr.Bank{pcr.SHA1, pcr.SHA256, pcr.SHA384, pcr.SHA512} {
		if d := digests[bank]; d != nil {
			list = append(list, tpm2.TPMTHA{HashAlg: tpm2.TPMAlgID(bank), Digest: d})
		}
	}
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(register), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: list},
	}.Execute(t.t)
	if err != nil {
		return fmt.Errorf("extend PCR %d: %w", register, err)
	}
	return nil
}

// unsupported reports whether the TPM does not have the algorithm or the size
// that a template asks for.
func unsupported(err error) bool {
	for _, rc := range []tpm2.TPMRC{tpm2.TPMRCCurve, tpm2.TPMRCValue, tpm2.TPMRCScheme, tpm2.TPMRCType,
		tpm2.TPMRCHash, tpm2.TPMRCSymmetric, tpm2.TPMRCKeySize, tpm2.TPMRCAsymmetric} {
		if errors.Is(err, rc) {
			return true
		}
	}
	return false
}
