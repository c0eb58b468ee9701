package build

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/build/buildtest"
)

// TestUnknownStub: an image whose measurements nobody can tell is not built,
// and the error says which stub to take.
func TestUnknownStub(t *testing.T) {
	b := newBench(t, "")
	b.File("stub.efi", strings.Replace(string(buildtest.Stub(t)), "systemd-stub 257.13-1", "systemd-stub 299.13-1", 1), 0o644)
	_, err := Build(t.Context(), b.options())
	want := `uki: stub ./stub.efi: what a boot would measure is not known: predict boot: "systemd-stub 299.13-1": no rules for this version`
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
	var hint interface{ Hint() string }
	if !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "systemd 252 to 257") {
		t.Errorf("no hint which stub to take: %v", err)
	}
	if _, err := os.Stat(b.Out + "/tiny-1.0.0"); !os.IsNotExist(err) {
		t.Errorf("something was published: %v", err)
	}
}
