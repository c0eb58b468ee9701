package baseline

import (
	"fmt"
	"slices"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
)

// Rules are what a trial is held to beside the state before it.
type Rules struct {
	// Built is the time of the image: no honest clock stands before it.
	Built time.Time
	// Last is how the trial was at the look before this one; nil at the first. A
	// service that was restarted in between is not healthy, however it is now.
	Last *State
	// Unattested says that the new version knows no attestation server, so it
	// cannot miss the one of the version before.
	Unattested bool
}

// slack is how far a clock may go back over a reset without being wrong: clocks
// are adjusted.
const slack = 5 * time.Minute

// Compare judges a machine on trial by the state of before, which may be nil when
// it is not known. NoCause means that nothing is wrong. A cause that explains others
// comes before them: services fail on a full disk.
func Compare(before *State, now State, r Rules) (slot.Cause, string) {
	if before == nil { // what a sound machine is by itself
		before = &State{Machine: "applied", Data: Data{State: "mounted", Size: now.Data.Size, Free: now.Data.Size}}
	}
	for _, look := range []func(before *State, now State, r Rules) (slot.Cause, string){root, clock, data, network, disks, machine, watchdog, services} {
		if cause, detail := look(before, now, r); cause != slot.NoCause {
			return cause, detail
		}
	}
	return slot.NoCause, ""
}

// root belongs to the slot, so it is judged alone: the root before was another.
func root(_ *State, now State, _ Rules) (slot.Cause, string) {
	switch now.Root {
	case "corrupt":
		return slot.CorruptRoot, now.RootWhy
	case "failed":
		return slot.Unhealthy, "the root cannot be used: " + now.RootWhy
	}
	return slot.NoCause, ""
}

func clock(before *State, now State, r Rules) (slot.Cause, string) {
	switch {
	case now.Time.Before(r.Built.Truncate(time.Second)):
		return slot.ClockWrong, fmt.Sprintf("the clock says %s, this version was made %s", stamp(now.Time), stamp(r.Built))
	case before.Told && now.Time.Before(before.Time.Add(-slack)):
		return slot.ClockWrong, fmt.Sprintf("the clock says %s, the version before it had %s already", stamp(now.Time), stamp(before.Time))
	}
	return slot.NoCause, ""
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") }

// full says that nothing useful can be written any more: less than 1/256 of the
// file system, or than 1 MiB.
func (d Data) full() bool {
	return d.State == "mounted" && d.Size > 0 && d.Free < max(d.Size/256, 1<<20)
}

func data(before *State, now State, _ Rules) (slot.Cause, string) {
	switch {
	case now.Data.full() && !before.Data.full():
		return slot.DataFull, fmt.Sprintf("the data partition has %d KiB of %d MiB free, it had %d MiB before", now.Data.Free>>10, now.Data.Size>>20, before.Data.Free>>20)
	case now.Data.State == "failed" && before.Data.State == "mounted":
		return slot.Unhealthy, "data: " + now.Data.Error
	}
	return slot.NoCause, ""
}

func network(before *State, now State, r Rules) (slot.Cause, string) {
	for _, l := range before.Links {
		if !slices.ContainsFunc(now.Links, func(n Link) bool { return n.Path == l.Path }) {
			return slot.NetworkDead, fmt.Sprintf("link %s (%s) has no carrier, or no driver", l.Name, l.Path)
		}
	}
	for _, c := range []struct {
		before, now bool
		what        string
	}{
		{before.IPv4, now.IPv4, "no IPv4 address"}, {before.Route4, now.Route4, "no IPv4 default route"},
		{before.IPv6, now.IPv6, "no IPv6 address"}, {before.Route6, now.Route6, "no IPv6 default route"},
	} {
		if c.before && !c.now {
			return slot.NetworkDead, c.what + ", and the version before had one"
		}
	}
	if before.Server != "" && now.Server == "" && !r.Unattested {
		return slot.NetworkDead, "the attestation server " + before.Server + " has not answered, and the version before reached it"
	}
	return slot.NoCause, ""
}

func disks(before *State, now State, _ Rules) (slot.Cause, string) {
	for _, d := range before.Disks {
		if !slices.ContainsFunc(now.Disks, func(n Disk) bool { return n.ID == d.ID }) {
			return slot.Unhealthy, fmt.Sprintf("disk %s (%s) is not there any more", d.Name, d.ID)
		}
	}
	return slot.NoCause, ""
}

func machine(before *State, now State, _ Rules) (slot.Cause, string) {
	if before.Machine == "applied" && now.Machine == "refused" {
		return slot.Unhealthy, "machine.yaml is refused, and the version before took it"
	}
	return slot.NoCause, ""
}

// watchdog is what covers a hang: a version that cannot arm it would be the last one
// that a fallback covers.
func watchdog(before *State, now State, _ Rules) (slot.Cause, string) {
	if before.Watchdog && !now.Watchdog {
		return slot.Unhealthy, "the hardware watchdog is not armed, and the version before had it armed"
	}
	return slot.NoCause, ""
}

// services must all be ready, but those that were not ready before either.
func services(before *State, now State, r Rules) (slot.Cause, string) {
	if now.Services == nil {
		return slot.Unhealthy, "services are not started"
	}
	for _, s := range now.Services {
		if old, ok := find(before, s.Name); ok && !old.Ready {
			continue
		}
		if !s.Ready {
			return slot.Unhealthy, "service " + s.Name + " is " + s.Detail
		}
		if last, ok := find(r.Last, s.Name); ok && s.Restarts > last.Restarts {
			return slot.Unhealthy, fmt.Sprintf("service %s was started again, %d times in this boot", s.Name, s.Restarts)
		}
	}
	return slot.NoCause, ""
}

func find(b *State, name string) (Service, bool) {
	if b == nil {
		return Service{}, false
	}
	i := slices.IndexFunc(b.Services, func(s Service) bool { return s.Name == name })
	if i < 0 {
		return Service{}, false
	}
	return b.Services[i], true
}
