package inspect

import (
	"fmt"
	"strings"

	"github.com/ingot-os/ingot/internal/visible"
)

// Difference is one place where two artifacts are not the same.
type Difference struct {
	Where string `json:"where"` // "partition 2 slot-a → file EFI/BOOT/BOOTX64.EFI → section .cmdline"
	Field string `json:"field,omitempty"`
	A     string `json:"a,omitempty"`
	B     string `json:"b,omitempty"`

	follows bool  // from another difference: the build's digest, a root hash
	sum     bool  // only sums up what is inside
	at      int64 // of the first byte, where Field says so
}

// Follows reports whether the difference is only what another one leads to:
// the digest of the lock, a root hash, a place that differs as another does.
func (d Difference) Follows() bool { return d.follows }

// String is one line for people.
func (d Difference) String() string {
	d.Where, d.Field, d.A, d.B = visible.Line(d.Where), visible.Line(d.Field), visible.Lines(d.A), visible.Lines(d.B)
	switch {
	case d.Field == sameAs:
		return d.Where + ": differs as " + d.A + " does"
	case d.Field == "" && d.A == "":
		return d.Where + ": only in B"
	case d.Field == "" && d.B == "":
		return d.Where + ": only in A"
	case d.A == "":
		return fmt.Sprintf("%s: %s: %s only in B", d.Where, d.Field, d.B)
	case d.B == "":
		return fmt.Sprintf("%s: %s: %s only in A", d.Where, d.Field, d.A)
	case strings.Contains(d.A+d.B, "\n"):
		return fmt.Sprintf("%s: %s:\n    A: %s\n    B: %s", d.Where, d.Field, indent(d.A), indent(d.B))
	}
	return fmt.Sprintf("%s: %s: %s, %s", d.Where, d.Field, d.A, d.B)
}

func indent(s string) string { return strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n       ") }
