package tpmtest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/oracle"
)

// Tools is a new TPM that is spoken to by tpm2-tools, each with its files in one
// directory: the oracle of digests and policies. It is a process of its own with
// TCP ports, because these programs know no other way to an emulator.
type Tools struct {
	Dir  string
	t    testing.TB
	tcti string
}

// NewTools starts one, until the end of the test.
func NewTools(t testing.TB) *Tools {
	t.Helper()
	oracle.Need(t, "swtpm", "swtpm")
	oracle.Need(t, "tpm2-tools", "tpm2_policyauthorize")
	for range 5 { // somebody else may take a port that was free
		if e := startTools(t); e != nil {
			return e
		}
	}
	t.Fatal("swtpm does not listen")
	return nil
}

func startTools(t testing.TB) *Tools {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	e := &Tools{t.TempDir(), t, fmt.Sprintf("swtpm:host=127.0.0.1,port=%d", port)}
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+e.Dir, "--flags", "not-need-init,startup-clear",
		"--server", fmt.Sprintf("type=tcp,port=%d", port), "--ctrl", fmt.Sprintf("type=tcp,port=%d", port+1))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for range 100 {
		if _, err := e.Try("tpm2_pcrread", "sha256:0"); err == nil {
			return e
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}

// Try runs a program in Dir and gives what it prints.
func (e *Tools) Try(program string, args ...string) (string, error) {
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env = e.Dir, append(os.Environ(), "TPM2TOOLS_TCTI="+e.tcti)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %q: %w\n%s", program, args, err, out)
	}
	return string(out), err
}

// Run is Try for what must work.
func (e *Tools) Run(program string, args ...string) string {
	e.t.Helper()
	out, err := e.Try(program, args...)
	if err != nil {
		e.t.Fatal(err)
	}
	return out
}

// File is the path of a file in Dir.
func (e *Tools) File(name string) string { return filepath.Join(e.Dir, name) }

// Write makes a file in Dir.
func (e *Tools) Write(name string, b []byte) string {
	e.t.Helper()
	if err := os.WriteFile(e.File(name), b, 0o600); err != nil {
		e.t.Fatal(err)
	}
	return e.File(name)
}

// Read reads a file of Dir.
func (e *Tools) Read(name string) []byte {
	e.t.Helper()
	b, err := os.ReadFile(e.File(name))
	if err != nil {
		e.t.Fatal(err)
	}
	return b
}
