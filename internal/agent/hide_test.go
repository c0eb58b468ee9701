package agent

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ingot-os/ingot/internal/appliance"
)

func asRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("gives files to another user, which needs root")
	}
}

// reads reports whether a service without user can read a file.
func reads(t *testing.T, m *Machine, path string, capabilities ...string) bool {
	t.Helper()
	c, err := m.resolveLocal(appliance.Service{Name: "curious", Command: "/bin/cat", Args: []string{path}, Capabilities: capabilities})
	if err != nil {
		t.Fatal(err)
	}
	p, err := m.reaper.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done
	return p.OK()
}

// TestHide: root without capabilities is shut out, PID 1 and a service that may
// override permissions are not, and a device that came again is hidden again.
func TestHide(t *testing.T) {
	asRoot(t)
	m := testMachine(t)
	dir := t.TempDir()
	device := filepath.Join(dir, "tpm")
	for range 2 {
		if err := os.WriteFile(device, []byte("tpm"), 0o666); err != nil {
			t.Fatal(err)
		}
		if !reads(t, m, device) {
			t.Fatal("not even a file for everybody can be read")
		}
		for range 2 {
			if err := hide(filepath.Join(dir, "absent"), device); err != nil {
				t.Fatal(err)
			}
		}
		holdsFile(t, device, "tpm", 0o600, nobodys)
		if reads(t, m, device) {
			t.Error("root without capabilities reads it")
		}
		if !reads(t, m, device, "DAC_OVERRIDE") {
			t.Error("root with DAC_OVERRIDE does not read it")
		}
		if err := os.Remove(device); err != nil {
			t.Fatal(err)
		}
	}
}
