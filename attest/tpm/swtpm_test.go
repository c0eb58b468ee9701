package tpm

import (
	"crypto/rand"
	"encoding/hex"
	"os"
	"os/exec"
	"testing"

	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/tpmtest"
)

// tool is the path of a program, or the test is over.
func tool(t testing.TB, program, pkg string) string {
	t.Helper()
	return oracle.Need(t, pkg, program)
}

func run(t testing.TB, program string, args ...string) string {
	t.Helper()
	out, err := command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", program, args, err, out)
	}
	return string(out)
}

// emulator is an open swtpm.
type emulator struct {
	*TPM
	dir    string
	socket string
	e      *tpmtest.Emulator
}

// start runs swtpm on the state in dir.
func start(t testing.TB, dir string) *emulator {
	t.Helper()
	return opened(t, tpmtest.Start(t, dir))
}

func opened(t testing.TB, e *tpmtest.Emulator) *emulator {
	t.Helper()
	tpm, err := Open(e.Socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tpm.Close() })
	return &emulator{tpm, e.Dir, e.Socket, e}
}

// kill ends swtpm without a shutdown, as a power cut does.
func (e *emulator) kill() {
	e.Close()
	e.e.Kill()
}

// blank is a new TPM without certificates.
func blank(t testing.TB) *emulator {
	t.Helper()
	return opened(t, tpmtest.Blank(t))
}

func TestMain(m *testing.M) {
	code := m.Run()
	tpmtest.Clean()
	os.Exit(code)
}

// certified is a TPM with certificates, and its authority's certificates in PEM
// (root first). All are the same TPM.
func certified(t testing.TB) (*emulator, []byte) {
	t.Helper()
	e, roots := tpmtest.Certified(t)
	return opened(t, e), roots
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
