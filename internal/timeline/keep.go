package timeline

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// Record is one machine's boots as they are kept; Body nil: they are forgotten.
type Record struct {
	MAC  netboot.MAC
	At   time.Time
	Body []byte

	first bool // nothing of it was kept before
}

type hostRecord struct {
	MAC   netboot.MAC  `json:"mac"`
	Seen  time.Time    `json:"seen"`
	Addrs []netip.Addr `json:"addresses,omitempty"`
	Boots []Boot       `json:"boots"`
}

// Changed gives what has changed since it was last asked, at most n machines,
// to be kept beside the way that boots go. Machines that only asked are not among
// them: who forges addresses would fill the disk.
func (t *Timeline) Changed(n int) (out []Record, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for mac, there := range t.dirty {
		if len(out) == n {
			break
		}
		delete(t.dirty, mac)
		k := Record{MAC: mac}
		if h := t.hosts[mac]; there && h != nil {
			if h.tier == stranger || len(h.boots) == 0 {
				continue
			}
			k.At, k.first, h.stored = h.seen, !h.stored, true
			if k.Body, err = json.Marshal(hostRecord{h.mac, h.seen, h.addrs, h.boots}); err != nil {
				return out, fmt.Errorf("encode boots of %s: %w", mac, err)
			}
		}
		out = append(out, k)
	}
	return out, nil
}

// NotKept takes back what Changed gave and could not be kept: it gives that again.
func (t *Timeline) NotKept(list []Record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range list {
		switch h := t.hosts[k.MAC]; {
		case h != nil:
			h.stored, t.dirty[k.MAC] = !k.first, true
		case k.first: // and forgotten since: there is nothing to remove
			delete(t.dirty, k.MAC)
		default:
			t.dirty[k.MAC] = false
		}
	}
}

// Load takes what was kept, in any order.
func (t *Timeline) Load(bodies [][]byte) error {
	var all []hostRecord
	for _, b := range bodies {
		var k hostRecord
		if err := json.Unmarshal(b, &k); err != nil {
			return fmt.Errorf("read kept boots: %w", err)
		}
		for _, b := range k.Boots {
			if len(b.Steps) == 0 {
				return fmt.Errorf("read kept boots of %s: a boot without a step", k.MAC)
			}
		}
		all = append(all, k)
	}
	slices.SortStableFunc(all, func(a, b hostRecord) int { return cmp.Compare(a.Seen.UnixNano(), b.Seen.UnixNano()) })
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range all {
		if k.MAC.IsZero() {
			continue
		}
		h := t.host(k.MAC, k.Seen)
		h.boots = k.Boots[max(0, len(k.Boots)-t.o.Boots):]
		for _, a := range k.Addrs {
			t.learn(h, a)
		}
		h.stored = true
		t.settle(h)
		delete(t.dirty, k.MAC)
	}
	return nil
}
