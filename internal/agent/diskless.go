package agent

import (
	"context"
	"crypto/sha256"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/ingot-os/ingot/internal/agent/proof"
	"github.com/ingot-os/ingot/internal/agent/updates"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// Diskless is what an image links that attests, for machines that keep nothing. An init
// without it has none of this code.
type Diskless struct {
	ask    func(*Machine) machineFile
	report func(*Machine)
}

// NewDiskless puts it together: ask gets the machine.yaml from the server (nil data when
// there is none), run reports until the context ends.
func NewDiskless(ask asker, run func(context.Context, updates.Diskless)) *Diskless {
	return &Diskless{
		ask:    func(m *Machine) machineFile { return m.askMachine(ask) },
		report: func(m *Machine) { m.reportBoots(run) },
	}
}

// diskless is nil where there is a disk, or no server to speak to.
func (m *Machine) diskless() *Diskless {
	if !m.isRAM() || m.spec.Attest == nil || m.spec.Trust == nil {
		return nil
	}
	return m.options.Diskless
}

type asker = func(context.Context, proof.Machine, proof.Hardware) (data []byte, from string, err error)

// askTime bounds how long a machine that keeps nothing waits for its machine.yaml,
// from the moment its network is up.
const askTime = 10 * time.Second

// askMachine gets machine.yaml from the server (S13). The network has to be up for
// it, with the recipe's settings; what the file says of it is applied after it was
// measured, as on a disk. Without an answer the machine goes on without a file.
func (m *Machine) askMachine(ask asker) machineFile {
	m.guard("network", m.startEarly)
	ctx, cancel := context.WithTimeout(m.ctx, askTime)
	defer cancel()
	data, from, err := m.askOnce(ctx, ask)
	switch {
	case err != nil:
		m.problem("ask the server for machine.yaml: %v: going on without", err)
		return machineFile{}
	case data == nil:
		return machineFile{}
	}
	m.log.Printf("machine.yaml from %s", from)
	m.served = data
	sum := sha256.Sum256(data)
	return machineFile{data: data, digest: sum[:]}
}

// startEarly brings the network up as the recipe says. When machine.yaml then has settings
// of its own, it begins anew with these.
func (m *Machine) startEarly() {
	ctx, cancel := context.WithCancel(m.ctx)
	m.netCtx = ctx
	m.startNetwork()
	m.netEnd = func() bool {
		m.netCtx = nil
		if len(m.machine.Network) == 0 {
			return false
		}
		cancel()
		m.network.Release()
		return true
	}
}

// askOnce keeps a panic of the client to itself, as attestOnce does.
func (m *Machine) askOnce(ctx context.Context, ask asker) (data []byte, from string, err error) {
	defer func() {
		if v := recover(); v != nil {
			m.log.Printf("%s", debug.Stack())
			data, err = nil, fmt.Errorf("it has failed: %v", v)
		}
	}()
	return ask(ctx, m.prover(*m.spec.Attest), m.hardware("/sys"))
}

// reportBoots tells the server of a machine that keeps nothing how its boot goes, and
// does what the server says: the slots of such a machine are the server's (S18).
func (m *Machine) reportBoots(run func(context.Context, updates.Diskless)) {
	client := updates.Diskless{Spec: m.spec, Server: m.server, Certificate: m.identity, Now: m.now, Report: m.bootReport,
		Health: func() (bool, string, string) {
			ok, cause, detail := m.trialHealth()
			return ok, cause.String(), detail
		},
		Reset: m.reset, Logf: m.log.Printf,
		UEFI: exists("/sys/firmware/efi"), Entries: m.installEntries, MachineYAML: func() []byte { return m.served },
		Settled: m.devices.IsSettled, Writing: m.installing.Store}
	for m.ctx.Err() == nil {
		m.disklessOnce(run, client)
		select {
		case <-time.After(updateAgain):
		case <-m.ctx.Done():
		}
	}
}

// disklessOnce keeps a panic to itself, as updateOnce does.
func (m *Machine) disklessOnce(run func(context.Context, updates.Diskless), client updates.Diskless) {
	defer func() {
		if v := recover(); v != nil {
			m.problem("reporting to the server has failed: %v", v)
			m.log.Printf("%s", debug.Stack())
		}
	}()
	run(m.ctx, client)
}

// bootReport is what does not change by itself.
func (m *Machine) bootReport() updateapi.BootReport {
	h := m.hardware("/sys")
	r := updateapi.BootReport{Name: m.spec.Name, Version: m.spec.Version, Build: m.spec.Build, Path: m.statedBoot(),
		MACs: h.MACs, UUID: h.UUID, Serial: h.Serial, Asset: h.Asset, Uptime: uptime().Seconds()}
	for _, e := range m.evidenceFound() {
		r.Evidence = append(r.Evidence, updateapi.BootEvidence{Cause: e.Cause.String(), Detail: e.Detail})
	}
	return r
}
