package dispatch

import "github.com/ingot-os/ingot/pxe/netboot"

// maxRecent bounds what is remembered of machines that only asked: anybody can
// send any MAC address.
const maxRecent = 1 << 15

// recent is a bounded map: when it is full, what was not touched since it was
// half full is gone.
type recent[V any] struct {
	limit    int
	now, old map[netboot.MAC]V
}

func (r *recent[V]) get(mac netboot.MAC) (V, bool) {
	if v, ok := r.now[mac]; ok {
		return v, true
	}
	v, ok := r.old[mac]
	if ok {
		r.put(mac, v)
	}
	return v, ok
}

func (r *recent[V]) put(mac netboot.MAC, v V) {
	if r.now == nil || len(r.now) >= r.limit/2 {
		r.old, r.now = r.now, make(map[netboot.MAC]V)
	}
	r.now[mac] = v
}
