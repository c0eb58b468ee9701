package updater

import "testing"

// TestLater: a release of the same lock is newer by its version alone, and none is
// newer than itself.
func TestLater(t *testing.T) {
	for _, c := range []struct {
		epoch   int64
		version string
		want    bool
	}{
		{2, "1.0.0", true}, {0, "9.0.0", false}, {1, "1.9.0", false}, {1, "1.10.0", false}, {1, "1.10.1", true}, {1, "1.11", true}, {1, "2", true},
		{1, "1.10.0-rc1", true}, {1, "1.10", false}, {1, "1.x", true}, {1, "", false},
	} {
		if got := later(c.epoch, c.version, 1, "1.10.0"); got != c.want {
			t.Errorf("later(%d, %q) = %t, want %t", c.epoch, c.version, got, c.want)
		}
	}
	if later(1, "99999999999999999999999", 1, "99999999999999999999999") {
		t.Error("a version is later than itself")
	}
}
