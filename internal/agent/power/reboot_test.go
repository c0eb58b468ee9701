package power

import (
	"errors"
	"testing"
)

// TestRebootIsForInit would restart this computer when the check is gone, were the
// command not one that no kernel knows.
func TestRebootIsForInit(t *testing.T) {
	if err := Reboot(0x12345); !errors.Is(err, ErrNotInit) {
		t.Errorf("Reboot: %v, want %v", err, ErrNotInit)
	}
}
