package build

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/boot/pe"
	"github.com/ingot-os/ingot/internal/build/buildtest"
	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/internal/recipe"
	"github.com/ingot-os/ingot/partition/tree"
)

// TestStubError: ingot check says beforehand what a build would refuse.
func TestStubError(t *testing.T) {
	good := buildtest.Stub(t)
	twice, err := pe.AppendSections(good, []pe.Section{{Name: ".sbat", Data: tree.Bytes("a")}, {Name: ".sbat", Data: tree.Bytes("b")}})
	if err != nil {
		t.Fatal(err)
	}
	var ambiguous bytes.Buffer
	if _, err := twice.WriteTo(&ambiguous); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ stub, want, hint string }{
		"good":         {string(good), "", ""},
		"two sections": {ambiguous.String(), `the stub cannot be used: check stub: pe: offset 0x400, Name: second section named ".sbat"`, "leave out stub"},
		"version":      {strings.Replace(string(good), "systemd-stub 257.", "systemd-stub 199.", 1), `"systemd-stub 199.13-1": no rules`, "systemd 252, 253, 254, 255, 256, 257, 262 "},
	} {
		b := newBench(t, "")
		b.File("stub.efi", c.stub, 0o644)
		r, l, f := b.Locked()
		for _, locked := range []*lock.Lock{l, nil} {
			err := recipe.Check(r, recipe.Facts{StubError: StubError(f.Store, locked, r)}).Err()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "appliance.yaml:5:")) {
				t.Errorf("%s: %v, want %s", name, err, c.want)
			}
			if c.want != "" && !strings.Contains(fmt.Sprintf("%+v", recipe.Check(r, recipe.Facts{StubError: StubError(f.Store, locked, r)})), c.hint) {
				t.Errorf("%s: no hint %q", name, c.hint)
			}
		}
	}
}

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
	if !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "systemd 252, 253, 254, 255, 256, 257, 262 ") {
		t.Errorf("no hint which stub to take: %v", err)
	}
	if _, err := os.Stat(b.Out + "/tiny-1.0.0"); !os.IsNotExist(err) {
		t.Errorf("something was published: %v", err)
	}
}
