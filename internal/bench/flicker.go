package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/ingot-os/ingot/boot/varstore"
	"github.com/ingot-os/ingot/internal/powercut/plug"
)

// ofFirmware are variables that EDK2 itself writes at boots of any system: the high
// half of its monotonic counter (MonotonicCounterRuntimeDxe), its cache of disks
// (UefiBootManagerLib), in which the path that was looked up last comes first, and
// the consoles that it has found (OVMF's PlatformBootManagerLib).
var ofFirmware = []string{
	"MTC-eb704011-1402-11d3-8e77-00a0c969723b", "HDDP-fab7e9e1-39dd-4f2b-8408-e20e906cb6de",
	"ConIn-8be4df61-93ca-11d2-aa0d-00e098032b8c", "ConOut-8be4df61-93ca-11d2-aa0d-00e098032b8c", "ErrOut-8be4df61-93ca-11d2-aa0d-00e098032b8c",
}

// flicker switches a machine with a blessed slot on, cycles times for a random moment:
// neither its state partition nor its variables change, but for those
// that the firmware writes for itself.
func (s *site) flicker(ctx context.Context, seed uint64, cycles int) error {
	v, remove, err := s.victim(seed)
	if err != nil {
		return err
	}
	defer remove()
	for range 2 { // the first boot with these variables may write them
		if _, err := v.Off(ctx); err != nil {
			return err
		}
	}
	before, err := remember(v)
	if err != nil {
		return err
	}
	rnd := rand.New(rand.NewPCG(seed, 3))
	for i := range cycles {
		after := time.Duration(rnd.Int64N(int64(12 * time.Second)))
		if err := v.Flicker(ctx, after); err != nil {
			return err
		}
		now, err := remember(v)
		if err != nil {
			return err
		}
		if what := before.differs(now); what != "" {
			return fmt.Errorf("power cycle %d after %s: %s (seed %d)", i+1, after, what, seed)
		}
	}
	say("%d power cycles of a blessed slot: no byte of the state partition has changed, and no variable but those that the firmware writes for itself (MTC, HDDP, ConIn, ConOut, ErrOut)", cycles)
	return nil
}

// memory is what a machine keeps beside its slots and its data.
type memory struct {
	vars  map[string]varstore.Variable
	state []byte
}

func remember(v *plug.Victim) (m memory, err error) {
	store, state, err := v.Stored()
	if err != nil {
		return m, err
	}
	s, err := varstore.Open(store)
	if err != nil {
		return m, err
	}
	m = memory{map[string]varstore.Variable{}, state}
	for _, x := range s.List() {
		if name := fmt.Sprintf("%s-%s", x.Name, x.GUID); !slices.Contains(ofFirmware, name) {
			m.vars[name] = x
		}
	}
	return m, nil
}

// differs names what is not the same; "" says that all is.
func (m memory) differs(o memory) string {
	var what []string
	if !bytes.Equal(m.state, o.state) {
		what = append(what, "the state partition")
	}
	names := maps.Clone(m.vars)
	maps.Copy(names, o.vars)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		a, had := m.vars[name]
		b, has := o.vars[name]
		if had != has || a.Attributes != b.Attributes || !bytes.Equal(a.Data, b.Data) {
			what = append(what, fmt.Sprintf("variable %s: %x, then %x", name, a.Data, b.Data))
		}
	}
	if len(what) == 0 {
		return ""
	}
	return strings.Join(what, ", ") + " changed"
}
