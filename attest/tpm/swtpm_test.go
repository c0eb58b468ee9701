package tpm

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// tool is the path of a program, or the test is over.
func tool(t testing.TB, program, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if errors.Is(err, exec.ErrNotFound) {
		if os.Getenv("INGOT_REQUIRE_TOOLS") == "1" {
			t.Fatalf("%s is missing (Debian package %s)", program, pkg)
		}
		t.Skipf("%s is missing (Debian package %s)", program, pkg)
	}
	return path
}

func run(t testing.TB, program string, args ...string) string {
	t.Helper()
	out, err := command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", program, args, err, out)
	}
	return string(out)
}

// emulator is a running swtpm.
type emulator struct {
	*TPM
	dir    string
	socket string
	cmd    *exec.Cmd
}

// start runs swtpm on the state in dir.
func start(t testing.TB, dir string) *emulator {
	t.Helper()
	program := tool(t, "swtpm", "swtpm")
	e := &emulator{dir: dir, socket: filepath.Join(dir, "sock")}
	os.Remove(e.socket)
	e.cmd = exec.Command(program, "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,path="+e.socket,
		"--ctrl", "type=unixio,path="+e.socket+".ctrl", "--flags", "not-need-init,startup-clear")
	e.cmd.Stderr = os.Stderr
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.kill)
	for range 200 {
		var err error
		if e.TPM, err = Open(e.socket); err == nil {
			return e
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("swtpm does not listen")
	return nil
}

// kill ends swtpm without a shutdown, as a power cut does.
func (e *emulator) kill() {
	if e.TPM != nil {
		e.TPM.Close()
	}
	if e.cmd != nil {
		e.cmd.Process.Kill()
		e.cmd.Wait()
		e.cmd = nil
	}
}

// blank is a new TPM without certificates.
func blank(t testing.TB) *emulator {
	t.Helper()
	return start(t, short(t))
}

// short is a temporary directory whose name fits into a socket's.
func short(t testing.TB) string {
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

func TestMain(m *testing.M) {
	code := m.Run()
	if made.dir != "" {
		os.RemoveAll(made.dir)
	}
	os.Exit(code)
}

func manufacture(t testing.TB) {
	t.Helper()
	setup := tool(t, "swtpm_setup", "swtpm-tools")
	ca := tool(t, "swtpm_localca", "swtpm-tools")
	dir, err := os.MkdirTemp("", "tpm")
	if err != nil {
		t.Fatal(err)
	}
	made.dir = dir
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		writeFile(t, path, []byte(text))
		return path
	}
	local := write("localca.conf", fmt.Sprintf("statedir = %[1]s\nsigningkey = %[1]s/sign.pem\nissuercert = %[1]s/issuer.pem\ncertserial = %[1]s/serial\n", dir))
	options := write("localca.options", "--platform-manufacturer test\n--platform-version 1\n--platform-model test\n")
	config := write("setup.conf", fmt.Sprintf("create_certs_tool = %s\ncreate_certs_tool_config = %s\ncreate_certs_tool_options = %s\n", ca, local, options))
	run(t, setup, "--tpm2", "--tpmstate", dir, "--create-ek-cert", "--config", config, "--pcr-banks", "sha1,sha256,sha384")
}

// certified is a TPM with certificates, and its authority's certificates in PEM
// (root first). All are the same TPM.
func certified(t testing.TB) (*emulator, []byte) {
	t.Helper()
	tool(t, "swtpm_setup", "swtpm-tools")
	made.Do(func() { manufacture(t) })
	dir := short(t)
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
	return start(t, dir), roots
}

func random(t testing.TB, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func command(program string, args ...string) *exec.Cmd { return exec.Command(program, args...) }

func hexText(b []byte) string { return hex.EncodeToString(b) }

func writeFile(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
