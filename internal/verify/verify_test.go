package verify_test

import (
	"testing"

	"github.com/ingot-os/ingot/internal/verify"
)

// TestGood: what ingot builds is verified, and every check looked at something.
func TestGood(t *testing.T) {
	for name, recipe := range map[string]string{"squashfs": full, "erofs": "root: {directory: ./rootfs, format: erofs}\n", "small": ""} {
		t.Run(name, func(t *testing.T) {
			set := makeSet(t, fixture(t, recipe), authority(t, ours))
			r := run(t, verify.Options{Path: set.Dir, Trust: trust(t, ours)})
			accepted(t, r, verify.Verified)
			for _, c := range r.Checks {
				if c.State != verify.Passed && !(c.Name == verify.CheckRoot && name == "small") || c.State == verify.Passed && c.Count == 0 {
					t.Errorf("%s: %s of %d, %s", c.Name, c.State, c.Count, c.Why)
				}
			}
			t.Log(r.NotChecked)
		})
	}
}
