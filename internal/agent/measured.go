package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/ingot-os/ingot/attest/eventlog"
	"github.com/ingot-os/ingot/attest/phase"
	"github.com/ingot-os/ingot/attest/statement"
	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/internal/agent/listener"
	"github.com/ingot-os/ingot/internal/agent/measure"
	"github.com/ingot-os/ingot/internal/agent/proof"
)

// Places of the TPM and its logs. The firmware's log is below securityfs.
const (
	tpmDevice   = "/dev/tpmrm0"
	firmwareLog = "/sys/kernel/security/tpm0/binary_bios_measurements"
	tpmTable    = "/sys/firmware/acpi/tables/TPM2"
	initLog     = "/run/ingot/measurements"
)

// Registers that init extends: PCR 11 holds the image and how far its boot has
// come, PCR 15 what init states about the boot (S9).
const (
	phasePCR     = 11
	statementPCR = statement.PCR
)

// tpmWait bounds the wait for the driver of a TPM that the firmware speaks of, in
// all of a boot: a TPM whose driver never comes is waited for once.
const tpmWait = 5 * time.Second

var errNoTPM = errors.New("the machine has no TPM 2.0")

// findTPM waits for the TPM, if the firmware has told the kernel of one: a
// machine without a TPM waits for nothing.
func (m *Machine) findTPM(ctx context.Context) (string, error) {
	there := func() bool { return exists(tpmDevice) }
	defer func() { m.tell("hide the TPM from services", hide(tpmNodes...)) }()
	if there() {
		return tpmDevice, nil
	}
	if !exists(tpmTable) && !exists(filepath.Dir(firmwareLog)) {
		return "", errNoTPM
	}
	if m.devices == nil || !m.devices.Wait(ctx, m.tpmLeft(uptime()), there) {
		return "", fmt.Errorf("the firmware has a TPM, but the kernel has no %s", tpmDevice)
	}
	return tpmDevice, nil
}

// tpmLeft is what is left of tpmWait, which begins with the first call.
func (m *Machine) tpmLeft(now time.Duration) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tpmUntil == 0 {
		m.tpmUntil = now + tpmWait
	}
	return max(m.tpmUntil-now, 0)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// extend measures data into a register and logs it.
func (m *Machine) extend(register int, data []byte) error {
	path, err := m.findTPM(m.ctx)
	if err != nil {
		return err
	}
	m.measuring.Lock() // whoever reads the log while a register changes waits
	defer m.measuring.Unlock()
	dev, err := measure.Open(path)
	if err != nil {
		return fmt.Errorf("open TPM: %w", err)
	}
	defer dev.Close()
	digests, err := measure.Event(dev, register, data)
	if err != nil {
		return err
	}
	if err := m.measured.Append(register, data, digests); err != nil {
		return err
	}
	return replace(initLog, m.measured.Bytes(), 0o444, 0, 0)
}

// initLogBytes is the log of what was extended, at a moment when nothing is
// being extended.
func (m *Machine) initLogBytes() []byte {
	m.measuring.Lock()
	defer m.measuring.Unlock()
	return m.measured.Bytes()
}

// replace writes a file as a whole: whoever reads it sees the old one or the new.
// Until then it has a name that no secret can have: a dot comes first.
func replace(path string, b []byte, mode os.FileMode, uid, gid int) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"~")
	_ = os.Remove(tmp) // left by a write that failed
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = f.Chown(uid, gid) // first: nobody else opens it before there is something to read
	_, writeErr := f.Write(b)
	err = errors.Join(err, writeErr, f.Chmod(mode), f.Close())
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return os.Rename(tmp, path)
}

// measureBoot states how this system was started and with which machine.yaml,
// in PCR 15, before any of it is used (S9, S13).
func (m *Machine) measureBoot(f machineFile) {
	s := statement.Statement{Slot: m.statedSlot(), Boot: m.statedBoot(), Machine: f.digest}
	if m.disk != nil {
		s.Disk = m.disk.Table.Disk
	}
	m.tell("measure how this machine was booted", m.extend(statementPCR, s.Data()))
}

// tell records that something was not measured. A machine without a TPM has
// nothing to measure into, which is no problem.
func (m *Machine) tell(what string, err error) {
	if err != nil && !errors.Is(err, errNoTPM) {
		m.problem("%s: %v", what, err)
	}
}

// endPhase ends the time in which the data key can be had (S3). When it cannot
// be ended and there is such a key, no service may start: each could ask for it.
func (m *Machine) endPhase() bool {
	err := m.extend(phasePCR, []byte(phase.Services))
	m.tell("end the phase in which the data key is open", err)
	if err != nil && m.spec.Data.Encrypt != "" && !errors.Is(err, errNoTPM) {
		m.problem("services are not started: each of them could have the data key")
		return false
	}
	return true
}

// statedSlot is where the image came from: a, b or esp.
func (m *Machine) statedSlot() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch b := m.status.Boot; {
	case b.Slot != "":
		return b.Slot
	case b.Path == roleSelector || b.Path == systemdBoot:
		return "esp"
	}
	return ""
}

// statedBoot is how the firmware came by the image: disk, or by the device path
// of its boot entry http or pxe; ram where it tells nothing.
func (m *Machine) statedBoot() string {
	m.mu.Lock()
	role := m.status.Boot.Role
	m.mu.Unlock()
	if role == roleAppliance {
		return "disk"
	}
	return networkBoot(m.vars.Current())
}

// Device path nodes of network boots: messaging, MAC address and URI (UEFI
// section 10.3.4).
const (
	messaging = 3
	macNode   = 11
	uriNode   = 24
)

func networkBoot(path efivar.DevicePath) string {
	kind := roleRAM
	for _, n := range path {
		switch {
		case n.Type == messaging && n.SubType == uriNode:
			return "http"
		case n.Type == messaging && n.SubType == macNode:
			kind = "pxe"
		}
	}
	return kind
}

// polluted says whether another program ran before this image: memory may hold
// what it left, and no server would trust the boot (S7). Then the machine is
// reset, once: the journal knows about the first time.
func (m *Machine) polluted() bool {
	m.mu.Lock()
	b := m.status.Boot
	m.mu.Unlock()
	if b.Path != "disk" || b.Slot == "" {
		return false
	}
	if _, err := m.findTPM(m.ctx); err != nil {
		return false // measureBoot says so
	}
	raw, err := os.ReadFile(firmwareLog)
	if err != nil {
		return false // firmware that logs nothing
	}
	l, err := eventlog.Parse(raw)
	if err != nil {
		m.problem("read the firmware's event log: %v", err)
		return false
	}
	what := measure.Polluted(l)
	if what == "" {
		return false
	}
	m.problem("boot.polluted: %s", what)
	return true
}

// attest keeps proving to a server what was booted, when the recipe says so and
// this init can.
func (m *Machine) attest() {
	a := m.spec.Attest
	switch {
	case a == nil:
		return
	case m.options.Attest == nil:
		m.problem("attest: this init cannot; the image has the wrong variant of it")
		m.update(func(s *listener.Status) { s.Attestation.Error = "this init cannot attest" })
		return
	}
	prover := m.prover(*a)
	for m.ctx.Err() == nil {
		m.attestOnce(prover)
		select {
		case <-time.After(attestAgain):
		case <-m.ctx.Done():
		}
	}
}

// attestAgain is the wait before an attester that has ended is started anew.
const attestAgain = time.Minute

// attestOnce keeps a panic of the attester to itself: it speaks to the network,
// and a machine that a server's answer could reset would be worth less than one
// that cannot attest.
func (m *Machine) attestOnce(p proof.Machine) {
	defer func() {
		if v := recover(); v != nil {
			m.problem("attestation has failed: %v", v)
			m.log.Printf("%s", debug.Stack())
			m.update(func(s *listener.Status) { s.Attestation.State, s.Attestation.Error = "failed", fmt.Sprint(v) })
		}
	}()
	m.options.Attest(m.ctx, p)
}
