// Package tpmtest runs TPMs of software (swtpm) for tests: new ones, and such
// as a maker has certified. Tests open the socket by attest/tpm.
//
//	e := tpmtest.Blank(t)
//	tpm, err := tpm.Open(e.Socket)
//
// It is for tests only.
package tpmtest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/oracle"
)

// Emulator is a running swtpm, turned on once.
type Emulator struct {
	Dir    string // its state: Start on the same again is the next time it is turned on
	Socket string
	cmd    *exec.Cmd
}

// Start runs swtpm on the state in dir, until the end of the test.
func Start(t testing.TB, dir string) *Emulator {
	t.Helper()
	program := oracle.Need(t, "swtpm", "swtpm")
	e := &Emulator{Dir: dir, Socket: filepath.Join(dir, "sock")}
	os.Remove(e.Socket)
	e.cmd = exec.Command(program, "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,path="+e.Socket,
		"--ctrl", "type=unixio,path="+e.Socket+".ctrl", "--flags", "not-need-init,startup-clear")
	e.cmd.Stderr = os.Stderr
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Kill)
	for range 500 {
		if conn, err := net.Dial("unix", e.Socket); err == nil {
			conn.Close()
			return e
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("swtpm does not listen")
	return nil
}

// Kill ends swtpm without a shutdown, as a power cut does.
func (e *Emulator) Kill() {
	if e.cmd != nil {
		e.cmd.Process.Kill()
		e.cmd.Wait()
		e.cmd = nil
	}
}

// Blank is a new TPM without certificates.
func Blank(t testing.TB) *Emulator {
	t.Helper()
	return Start(t, directory(t))
}

// directory is a temporary directory whose name fits into a socket's.
func directory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tpm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// made is the state of a TPM with certificates by a local authority, which is
// made once and copied.
var made struct {
	sync.Once
	dir string
}

// Clean removes what is kept for all tests of a process: for TestMain.
func Clean() {
	if made.dir != "" {
		os.RemoveAll(made.dir)
	}
}

// Certified is a TPM with certificates, and its authority's certificates in PEM
// (root first). All are the same TPM.
func Certified(t testing.TB) (*Emulator, []byte) {
	t.Helper()
	oracle.Need(t, "swtpm-tools", "swtpm_setup")
	made.Do(func() { manufacture(t) })
	dir := directory(t)
	if err := os.CopyFS(dir, os.DirFS(made.dir)); err != nil {
		t.Fatal(err)
	}
	var roots []byte
	for _, name := range []string{"swtpm-localca-rootca-cert.pem", "issuer.pem"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		roots = append(roots, b...)
	}
	return Start(t, dir), roots
}

func manufacture(t testing.TB) {
	t.Helper()
	setup := oracle.Need(t, "swtpm-tools", "swtpm_setup")
	ca := oracle.Need(t, "swtpm-tools", "swtpm_localca")
	dir, err := os.MkdirTemp("", "tpm")
	if err != nil {
		t.Fatal(err)
	}
	made.dir = dir
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	local := write("localca.conf", fmt.Sprintf("statedir = %[1]s\nsigningkey = %[1]s/sign.pem\nissuercert = %[1]s/issuer.pem\ncertserial = %[1]s/serial\n", dir))
	options := write("localca.options", "--platform-manufacturer test\n--platform-version 1\n--platform-model test\n")
	config := write("setup.conf", fmt.Sprintf("create_certs_tool = %s\ncreate_certs_tool_config = %s\ncreate_certs_tool_options = %s\n", ca, local, options))
	oracle.Run(t, setup, "--tpm2", "--tpmstate", dir, "--create-ek-cert", "--config", config, "--pcr-banks", "sha1,sha256,sha384")
}
