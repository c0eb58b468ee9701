// Package evidencetest gives tests a machine with a TPM: swtpm, into which the
// measurements of a recorded boot are extended as its firmware did.
//
//	m, err := evidencetest.Start(dir)
//	defer m.Stop()
//	err = m.Extend(log)
//	e, err := evidence.Collect(evidence.Source{Device: m.Socket, ...})
package evidencetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/ingot-os/ingot/attest/eventlog"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/tpm"
)

// Package is the Debian package that has swtpm.
const Package = "swtpm"

// Log reads the event log of a boot that package attest has recorded; path is
// that of its JSON.
func Log(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var r struct {
		Log []byte `json:"log"`
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("read recording %s: %w", path, err)
	}
	return r.Log, nil
}

// Machine is a running swtpm with state in a directory of its own.
type Machine struct {
	Socket string // its data socket
	cmd    *exec.Cmd
	dir    string
}

// Start runs swtpm on a new TPM, or on the state of a TPM in the directory
// state. Sockets have short names, so they lie in a directory of their own.
func Start(state string) (*Machine, error) {
	dir, err := os.MkdirTemp("", "tpm")
	if err != nil {
		return nil, err
	}
	m := &Machine{Socket: filepath.Join(dir, "sock"), dir: dir}
	if state == "" {
		state = dir
	}
	m.cmd = exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+state, "--server", "type=unixio,path="+m.Socket,
		"--ctrl", "type=unixio,path="+m.Socket+".ctrl", "--flags", "not-need-init,startup-clear")
	m.cmd.Stderr = os.Stderr
	if err := m.cmd.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	for range 500 {
		// The socket is there a moment before swtpm listens on it.
		if c, err := net.Dial("unix", m.Socket); err == nil {
			c.Close()
			return m, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	m.Stop()
	return nil, errors.New("swtpm does not listen")
}

// Stop ends swtpm without a shutdown, as a power cut does. It can be called
// more than once.
func (m *Machine) Stop() {
	if m.cmd.ProcessState == nil {
		m.cmd.Process.Kill()
		m.cmd.Wait()
	}
	os.RemoveAll(m.dir)
}

// Extend extends what the log says.
func (m *Machine) Extend(log []byte) (err error) {
	l, err := eventlog.Parse(log)
	if err != nil {
		return err
	}
	t, err := tpm.Open(m.Socket)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	for i := range l.Events {
		e := &l.Events[i]
		if !e.Extends() {
			continue
		}
		digests := map[pcr.Bank]pcr.Digest{}
		for _, b := range l.Banks {
			digests[b] = e.Digest(b)
		}
		if err := t.Extend(int(e.PCR), digests); err != nil {
			return err
		}
	}
	return nil
}
