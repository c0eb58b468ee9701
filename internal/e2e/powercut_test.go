package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/powercut"
	"github.com/ingot-os/ingot/internal/powercut/plug"
)

// alike are rows in which a machine starts as it does in the row after them.
var alike = []string{"P0", "P2", "P5", "P10", "P17"}

// TestPowerCutStates starts what a power cut leaves of an update from one real
// release to another, without a server and without a network that leads anywhere:
// one state of each row of docs/slots.md but those that are alike.
// INGOT_POWERCUT_STATES asks for so many states of all rows.
func TestPowerCutStates(t *testing.T) {
	needs(t, "amd64")
	oracle.Need(t, "e2fsprogs", "e2fsck")
	f := newFoundry(t, "limit: 20s=limit: 4m;watchdog: 10s=watchdog: 1m;interval: 1h=interval: 5s") // plug.Times
	p, err := plug.NewPair(t.Context(), f.release(t, "1.0.0", ""), f.release(t, "1.1.0", ""), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	h, err := p.Record()
	if err != nil {
		t.Fatal(err)
	}
	n, atoiErr := strconv.Atoi(os.Getenv("INGOT_POWERCUT_STATES"))
	if atoiErr != nil {
		n = 17 // the rows
	}
	states, err := h.Sample(n, 1)
	if err != nil {
		t.Fatal(err)
	}
	if atoiErr != nil {
		states = slices.DeleteFunc(states, func(s powercut.State) bool { return slices.Contains(alike, s.Row) })
	}
	for _, s := range states {
		t.Run(fmt.Sprintf("%s/%d/%s", s.Row, s.Op, s.Where), func(t *testing.T) {
			t.Parallel()
			startState(t, p, s)
		})
	}
}

func startState(t *testing.T, p *plug.Pair, s powercut.State) {
	want, model, err := s.Alone()
	if err != nil {
		t.Fatal(err)
	}
	o, err := p.Run(t.Context(), s, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s, now %s in %s, candidate %q", strings.Join(o.Chain, " "), o.Version, o.Record.Phase, o.Record.Candidate)
	phase := o.Record.Phase
	if phase == slot.Blessed {
		phase = slot.Idle // after a minute, for which nobody waits here
	}
	if !slices.Equal(o.Chain, want) || phase != model.State.Phase || o.Version != model.Runs() {
		t.Errorf("the machine starts %q and runs %s in %s; the model %q, %s, %s", o.Chain, o.Version, o.Record.Phase, want, model.Runs(), model.State.Phase)
	}
	if o.Record.Good == slot.None || o.Record.Of(o.Record.Good).Version != o.Version {
		t.Errorf("%s runs, the journal says %+v", o.Version, o.Record)
	}
	if o.Resets() > 2 {
		t.Errorf("%d resets: %q", o.Resets(), o.Chain)
	}
	// A boot that only repairs variables ends before the service begins.
	if n := len(o.Starts); n < 2 || n > len(o.Chain)+1 || o.Starts[0] != p.Old.Manifest.Version || o.Starts[n-1] != o.Version {
		t.Errorf("the data partition knows of %q", o.Starts)
	}
	data := filepath.Join(t.TempDir(), "data")
	if err := plug.ExtractData(o.Disk, data); err != nil {
		t.Fatal(err)
	}
	oracle.Run(t, "e2fsck", "-f", "-n", data)
	why := ingot(t, "why", o.Disk)
	if lines := strings.Count(why.out, "\n"); why.code != 0 || lines == 0 || lines > 20 || !strings.Contains(why.out, o.Version) {
		t.Errorf("ingot why: code %d: %s%s", why.code, why.out, why.stderr)
	}
}
