package powercut

import (
	"encoding/json"
	"fmt"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/agent/slots"
	"github.com/ingot-os/ingot/partition/state"
)

// regions are what a boot reads of the state partition.
type regions struct {
	text     string // all of it
	kept     slots.Kept
	progress progress // of kept
}

// readRegions reads them, once for each content.
func (m *Machine) readRegions() regions {
	key := m.Disk.versions[StateArea]
	r, ok := m.regions[key]
	if ok {
		return r
	}
	part := m.Disk.Part(StateArea)
	for _, region := range []state.Region{state.Journal, state.Rejected, state.Update} {
		b, _, err := state.Load(part, region)
		r.text += fmt.Sprintf("%s %s %v;", region, b, err)
		if region == state.Update && err == nil && json.Unmarshal(b, &r.kept) == nil && r.kept.Progress != nil {
			_ = json.Unmarshal(r.kept.Progress, &r.progress) // what is not understood is nothing
		}
	}
	m.regions[key] = r
	return r
}

// trusts says whether an update goes on behind an offset of an area, and takes what
// is before it for written. The header is in the record itself, and comes last.
func (p progress) trusts(a Area, off int64) bool {
	of := map[string][2]Area{partRoot: {RootA, RootB}, partSlot: {SlotA, SlotB}}[p.Part]
	return p.Part != "" && slot.HeaderSize <= off && off < p.From && (slot.Slot(p.Slot) == slot.A && a == of[0] || slot.Slot(p.Slot) == slot.B && a == of[1])
}
