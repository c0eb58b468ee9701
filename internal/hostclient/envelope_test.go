package hostclient_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/ingot-os/ingot/internal/dsse"
	"github.com/ingot-os/ingot/internal/hostclient"
	"github.com/ingot-os/ingot/internal/hosttest"
	"github.com/ingot-os/ingot/internal/stick"
)

// TestAnotherEnvelope: what is signed is what says where the parts lie.
func TestAnotherEnvelope(t *testing.T) {
	l := start(t, hosttest.Options{})
	l.release(t, two, hostclient.ReleaseOptions{})
	dir := filepath.Join(l.out, "lamp-2.0")
	path := filepath.Join(dir, "manifest.json")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := hostclient.OpenRelease(dir, hostclient.ReleaseOptions{}); !errors.Is(err, hostclient.ErrUnsigned) || !errors.Is(err, dsse.ErrOther) {
		t.Errorf("the envelope carries another manifest: %v", err)
	}
	if _, err := stick.Prepare(t.Context(), dir, nil); !errors.Is(err, stick.ErrUnsigned) || !errors.Is(err, dsse.ErrOther) {
		t.Errorf("on a stick: %v", err)
	}
}
