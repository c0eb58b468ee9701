package dispatch

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/ingot-os/ingot/internal/bootrule"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/internal/verifier"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// learn has the MAC addresses of an attested host stand for it. An address that
// stands for another host already, or for other hardware, is quarantined: what was
// chosen by it was chosen for somebody else (S17).
func (d *Dispatcher) learn(ctx context.Context, h *fleet.Host, r *updateapi.BootReport) error {
	var list []fleet.Machine
	for _, text := range r.MACs {
		mac, err := netboot.ParseMAC(text)
		if err != nil || mac.IsZero() {
			continue
		}
		m := fleet.Machine{MAC: mac, Host: h.Record.Name, UUID: r.UUID, Serial: r.Serial, Asset: r.Asset, Arch: d.Arch(mac), At: d.now()}
		if !bootrule.Identifies(m.UUID) {
			m.UUID = ""
		}
		old, known := d.Machine(mac)
		if known {
			if m, err = d.compare(ctx, old, m); err != nil {
				return err
			}
			stays := m
			if stays.At = old.At; stays == old {
				continue
			}
		}
		list = append(list, m)
	}
	list, gone := makeRoom(d.machinesOf(h.Record.Name), list, h.Record.Name, r.MACs)
	return d.remember(ctx, list, gone)
}

// remember keeps machines, and forgets others.
func (d *Dispatcher) remember(ctx context.Context, list []fleet.Machine, gone []netboot.MAC) error {
	if len(list) == 0 {
		return nil
	}
	if len(gone) > 0 {
		if err := d.o.Store.RemoveMachines(ctx, gone...); err != nil {
			return err
		}
	}
	if err := d.o.Store.PutMachines(ctx, list...); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, mac := range gone {
		d.known.remove(mac)
	}
	for _, m := range list {
		d.known.put(m)
	}
	return nil
}

// maxAddresses bounds the MAC addresses that stand for one host: a report may name so
// many, and a host that is taken over may name others in each.
const maxAddresses = 64

// makeRoom says which addresses of a host go for new ones: the oldest that the report
// does not name. One in quarantine stays, for a host must not end it that way; where
// nothing can go, the last of the new ones is not taken.
func makeRoom(have, add []fleet.Machine, host string, reported []string) (list []fleet.Machine, gone []netboot.MAC) {
	is := map[netboot.MAC]bool{}
	for _, m := range have {
		is[m.MAC] = true
	}
	named := map[netboot.MAC]bool{}
	for _, text := range reported {
		if mac, err := netboot.ParseMAC(text); err == nil {
			named[mac] = true
		}
	}
	old := slices.DeleteFunc(slices.Clone(have), func(m fleet.Machine) bool { return named[m.MAC] || m.Quarantine != "" })
	slices.SortStableFunc(old, func(a, b fleet.Machine) int { return a.At.Compare(b.At) })
	count := len(have)
	for _, m := range add {
		if m.Host != host || is[m.MAC] { // another's, in quarantine; or in its own place
			list = append(list, m)
			continue
		}
		for count >= maxAddresses && len(old) > 0 {
			gone, old, count = append(gone, old[0].MAC), old[1:], count-1
		}
		if count < maxAddresses {
			list, is[m.MAC], count = append(list, m), true, count+1
		}
	}
	return list, gone
}

// compare holds what a machine says now against what it has said before.
func (d *Dispatcher) compare(ctx context.Context, old, now fleet.Machine) (fleet.Machine, error) {
	if now.Arch == netboot.Unknown {
		now.Arch = old.Arch
	}
	odd := ""
	switch {
	case old.Quarantine != "":
		return old, nil // as it is: an operator decides about what he has seen
	case old.Host != now.Host:
		h, err := d.o.Store.Host(ctx, old.Host)
		if err != nil && !errors.Is(err, fleet.ErrNotFound) {
			return now, err
		}
		if !reachable(h) || h.Reenrol {
			return now, nil
		}
		odd = fmt.Sprintf("%s booted as %s and attested as %s", now.MAC, old.Host, now.Host)
	case old.Serial != "" && now.Serial != "" && old.Serial != now.Serial:
		odd = fmt.Sprintf("%s had serial number %.40s and has %.40s", now.MAC, old.Serial, now.Serial)
	case old.UUID != "" && now.UUID != "" && old.UUID != now.UUID:
		odd = fmt.Sprintf("%s had UUID %.40s and has %.40s", now.MAC, old.UUID, now.UUID)
	}
	if odd != "" {
		old.Quarantine, old.Claimed = odd, now.Host
		return old, nil
	}
	if now.Serial == "" { // a later image may not tell
		now.Serial = old.Serial
	}
	if now.Asset == "" {
		now.Asset = old.Asset
	}
	if now.UUID == "" {
		now.UUID = old.UUID
	}
	return now, nil
}

// endorsement are the names of a host's endorsement key.
func endorsement(h *fleet.Host) []string {
	if !reachable(h) {
		return nil
	}
	out := []string{hex.EncodeToString(h.Record.EKName)}
	if sum := verifier.EKFingerprint(h.EK); sum != "" {
		out = append([]string{sum}, out...)
	}
	return out
}
