package ui

import (
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/updateapi"
)

// TestSlotsAreText: what a machine says of itself cannot drive the terminal.
func TestSlotsAreText(t *testing.T) {
	var out, errs strings.Builder
	u := &UI{Out: &out, Err: &errs}
	bad := "\x1b]0;x\x07\x1b[2J"
	s := &updateapi.Slots{Phase: bad, Means: bad, Journal: bad, Cause: "c", Detail: bad, Entries: []string{bad}, Rejected: []updateapi.Rejected{{Version: bad, Cause: bad}},
		Slots: []updateapi.Slot{{Name: "a", Version: bad, Condition: bad, Image: bad}}}
	if err := u.Slots(s); err != nil {
		t.Fatal(err)
	}
	if err := u.Why([]string{bad}); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(out.String()+errs.String(), "\x1b\x07") {
		t.Errorf("%q", out.String())
	}
}
