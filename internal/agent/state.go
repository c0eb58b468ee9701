package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/internal/agent/listener"
	"github.com/ingot-os/ingot/internal/agent/slots"
	"github.com/ingot-os/ingot/internal/machine"
	"github.com/ingot-os/ingot/partition/state"
)

// errNoState means that this boot has no state partition: it runs from RAM, or
// its disk could not be told from another.
var errNoState = errors.New("no state partition")

// statePart is the open state partition.
type statePart struct{ *os.File }

// Sync makes writes durable and drops the cache of the device, so that reading
// back asks the disk.
func (p statePart) Sync() error {
	if err := p.File.Sync(); err != nil {
		return err
	}
	return unix.IoctlSetInt(int(p.Fd()), unix.BLKFLSBUF, 0)
}

func (m *Machine) openState(flag int) (slots.Part, error) {
	if m.stateAt != nil {
		return m.stateAt(flag)
	}
	if m.disk == nil {
		return nil, errNoState
	}
	node := m.disk.NodeOf(partState)
	if node == "" {
		return nil, errNoState
	}
	f, err := os.OpenFile(node, flag, 0)
	return statePart{f}, err
}

func (m *Machine) loadState(region state.Region) ([]byte, uint64, error) {
	p, err := m.openState(os.O_RDONLY)
	if err != nil {
		return nil, 0, err
	}
	defer p.Close()
	return state.Load(p, region)
}

func (m *Machine) storeState(region state.Region, payload []byte) error {
	p, err := m.openState(os.O_RDWR)
	if err != nil {
		return err
	}
	defer p.Close()
	return state.Store(p, region, payload)
}

// machineFile is machine.yaml as it lies on the state partition; absent: with
// neither a digest nor an error.
type machineFile struct {
	data   []byte
	digest []byte // SHA-256; nil when it could not be read
	err    error
}

// loadMachine reads machine.yaml. It is measured before anything looks at it.
func (m *Machine) loadMachine() machineFile {
	data, _, err := m.loadState(state.Machine)
	if errors.Is(err, errNoState) || errors.Is(err, state.ErrEmpty) && !errors.Is(err, state.ErrDamaged) {
		return machineFile{}
	}
	if err != nil {
		return machineFile{err: err}
	}
	sum := sha256.Sum256(data)
	return machineFile{data: data, digest: sum[:]}
}

// applyMachine applies machine.yaml. A file that is refused leaves the recipe's
// settings and every error in the status.
func (m *Machine) applyMachine(f machineFile) {
	if f.err != nil {
		m.refuseMachine("", f.err)
		return
	}
	if f.digest == nil {
		return
	}
	digest := hex.EncodeToString(f.digest)
	parsed, err := machine.Parse("machine.yaml", f.data)
	if err != nil {
		m.refuseMachine(digest, err)
		return
	}
	m.machine = *parsed
	m.log.Printf("machine.yaml %.12s applied", digest)
	m.update(func(s *listener.Status) {
		s.Machine = listener.MachineFile{State: "applied", SHA256: digest}
		s.Labels = parsed.Labels
	})
}

func (m *Machine) refuseMachine(digest string, err error) {
	m.problem("machine.yaml is refused, the recipe's settings are used: %v", err)
	// One element for each finding: a hint stays with what it belongs to.
	findings := strings.Split(strings.ReplaceAll(err.Error(), "\nhint: ", "; hint: "), "\n")
	m.update(func(s *listener.Status) {
		s.Machine = listener.MachineFile{State: "refused", SHA256: digest, Errors: findings}
	})
}
