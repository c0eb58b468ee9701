package timeline

import (
	"container/list"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// tier says how long a machine is kept: those of a lower one make room first. It
// never falls while a machine is remembered.
type tier int

const (
	stranger tier = iota // only asked: a forged packet does that
	fetcher              // got a byte of a file: it answers where it says it is
	known                // attested, or was named by somebody
	tiers
)

// tierOf is what the boots of a machine say of it.
func (t *Timeline) tierOf(h *host) tier {
	if t.o.Named != nil && t.o.Named(h.mac) {
		return known
	}
	out := stranger
	for i := range h.boots {
		switch b := &h.boots[i]; {
		case b.has(netboot.Attested, Untrusted, netboot.Healthy, Released):
			return known
		case b.file() != nil:
			out = fetcher
		}
	}
	return out
}

// touch makes a machine the last one that was seen of its tier.
func (t *Timeline) touch(h *host) {
	t.last++
	h.order = t.last
	t.order[h.tier].MoveToFront(h.el)
}

// settle counts what a machine that has changed holds now, and makes room for it.
func (t *Timeline) settle(h *host) {
	t.count(h)
	if h.tier < known {
		if now := t.tierOf(h); now > h.tier {
			t.order[h.tier].Remove(h.el)
			h.tier = now
			h.el = t.order[now].PushFront(h)
		}
	}
	for len(t.hosts) > t.o.Hosts && t.evict(h, tiers) {
	}
	for t.steps > t.o.Total {
		switch {
		case t.evict(h, fetcher): // a stranger
		case len(h.boots) > 1: // its own past, before another's presence
			h.boots = append([]Boot(nil), h.boots[1:]...)
			t.count(h)
		case !t.evict(h, tiers):
			return // it is alone, and Total is more than one machine can have
		}
	}
}

func (t *Timeline) count(h *host) {
	n := len(h.pending)
	for i := range h.boots {
		n += len(h.boots[i].Steps)
	}
	t.steps += n - h.steps
	h.steps = n
}

// evict forgets the machine of the lowest tier below end that was not seen for
// longest. It is not the one that is being told of: that one needs the room.
func (t *Timeline) evict(but *host, end tier) bool {
	for i := range end {
		el := t.order[i].Back()
		if el != nil && el.Value.(*host) == but {
			el = el.Prev()
		}
		if el != nil {
			t.forget(el.Value.(*host))
			return true
		}
	}
	return false
}

// forget drops a machine. What was never kept needs no word that it is gone.
func (t *Timeline) forget(h *host) {
	t.order[h.tier].Remove(h.el)
	t.steps -= h.steps
	delete(t.hosts, h.mac)
	for _, a := range h.addrs {
		if t.addrs[a] == h.mac {
			delete(t.addrs, a)
		}
	}
	if delete(t.dirty, h.mac); h.stored {
		t.dirty[h.mac] = false
	}
}

// newestFirst gives the machines, last seen first.
func (t *Timeline) newestFirst() []*host {
	out := make([]*host, 0, len(t.hosts))
	var at [tiers]*list.Element
	for i := range at {
		at[i] = t.order[i].Front()
	}
	for len(out) < len(t.hosts) {
		best, order := 0, uint64(0)
		for i, el := range at {
			if el != nil && el.Value.(*host).order > order {
				best, order = i, el.Value.(*host).order
			}
		}
		out = append(out, at[best].Value.(*host))
		at[best] = at[best].Next()
	}
	return out
}
