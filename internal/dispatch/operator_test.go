package dispatch

import (
	"errors"
	"testing"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/internal/verifier"
)

// TestSpellings: a machine is found by its address in each form that people see, and a
// host by its name even where that looks like an address.
func TestSpellings(t *testing.T) {
	r := newRig(t, "default: hello@1.0\n")
	const colons = "52:54:00:ab:cd:ef"
	for _, name := range []string{colons, "52:54:00:AB:CD:EF", "52-54-00-ab-cd-ef", "52-54-00-AB-CD-EF", "525400abcdef", "525400ABCDEF"} {
		if err := r.d.Order(ctx, name, verifier.BootOrder{Action: verifier.OrderOnce, Boot: "hello@2.0"}, "alice"); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		d, err := r.d.Boot(ctx, name)
		if err != nil || d.Host != "" || d.Ticket == nil || len(d.Machines) != 1 || d.Machines[0].MAC != colons {
			t.Fatalf("%s: %+v, %v", name, d, err)
		}
		if err := r.d.Order(ctx, name, verifier.BootOrder{Action: verifier.OrderNoOnce}, "alice"); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if d, err := r.d.Boot(ctx, "525400abcdef"); err != nil || d.Name != colons {
		t.Errorf("the record would say %q, %v", d.Name, err)
	}
	r.machine("525400abcdef", 7)
	if d, err := r.d.Boot(ctx, "525400abcdef"); err != nil || d.Host != "525400abcdef" || d.Name != d.Host || len(d.Machines) != 0 {
		t.Errorf("a host of that name: %+v, %v", d, err)
	}
	var e *updateapi.Error
	if _, err := r.d.Boot(ctx, "5254-00abcd"); !errors.As(err, &e) || e.Code != string(attest.HostUnknown) {
		t.Errorf("five bytes: %v", err)
	}
}
