package hostclient

import (
	"testing"

	"github.com/ingot-os/ingot/internal/updateapi"
)

// While the selector runs, a slot that was restored has not started yet: that is
// neither a bless nor a fall.
func TestWaitForRestored(t *testing.T) {
	s := &updateapi.Slots{Good: "a", Phase: "IDLE", Slots: []updateapi.Slot{{Name: "a", Condition: "damaged"}, {Name: "b"}}}
	w := &watch{image: "11"}
	for _, image := range []string{"", "11"} { // the journal may not know what was flashed
		s.Slots[0].Image = image
		if out := w.judge(s); out != nil {
			t.Errorf("good image %q in the selector: %+v", image, out)
		}
	}
	s.Running = "a"
	if out := w.judge(s); out == nil || !out.Blessed {
		t.Errorf("when it runs: %+v", out)
	}
	s.Running, s.Slots[0].Image = "", "22"
	if out := w.judge(s); out == nil || !out.Fell {
		t.Errorf("another release is good: %+v", out)
	}
}
