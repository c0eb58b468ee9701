package agent

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/appliance"
)

func TestReadLine(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := readLine(context.Background(), int(r.Fd()), 300*time.Millisecond, time.Minute); err == nil {
		t.Errorf("nobody typed, but %q was read", got)
	}
	w.WriteString("abc")
	go func() {
		time.Sleep(300 * time.Millisecond) // longer than the wait for the first byte that is left
		w.WriteString("de\r\nrest")
	}()
	if got, err := readLine(context.Background(), int(r.Fd()), 200*time.Millisecond, time.Minute); err != nil || got != "abcde" {
		t.Errorf("got %q, %v", got, err)
	}
	w.WriteString(strings.Repeat("x", 2000))
	if _, err := readLine(context.Background(), int(r.Fd()), time.Second, time.Minute); err == nil {
		t.Error("a line without end is read on")
	}
	w.Close()
	for { // what is left, then the end
		if _, err := readLine(context.Background(), int(r.Fd()), time.Second, time.Second); err != nil {
			break
		}
	}
}

func TestOwnSecureBoot(t *testing.T) {
	m := &Machine{spec: appliance.Spec{Trust: &appliance.Trust{PK: []byte("certificate")}}}
	m.status.SecureBoot = "disabled"
	if err := m.ownSecureBoot(); err == nil || !strings.Contains(err.Error(), "Secure Boot is disabled") {
		t.Errorf("off: %v", err)
	}
	m.status.SecureBoot, m.status.PlatformKey = "enabled", fmt.Sprintf("%x", sha256.Sum256([]byte("another")))
	if err := m.ownSecureBoot(); err == nil || !strings.Contains(err.Error(), "platform key") {
		t.Errorf("another owner: %v", err)
	}
	m.status.PlatformKey = fmt.Sprintf("%x", sha256.Sum256([]byte("certificate")))
	if err := m.ownSecureBoot(); err != nil {
		t.Errorf("ours: %v", err)
	}
	m.spec.Trust = nil
	if err := m.ownSecureBoot(); err == nil {
		t.Error("an image without keys owns the firmware")
	}
}
