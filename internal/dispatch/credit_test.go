package dispatch

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/bootrule"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// boots are what is kept of a host.
func (m *machine) boots() fleet.Boot {
	m.r.t.Helper()
	b, err := m.r.store.Boot(ctx, m.name)
	if err != nil {
		m.r.t.Fatal(err)
	}
	return b
}

func (m *machine) good() string {
	m.r.t.Helper()
	b := m.boots()
	if len(b.Journal) == 0 {
		return ""
	}
	r, err := slot.Parse(b.Journal)
	if err != nil {
		m.r.t.Fatal(err)
	}
	image := r.Of(r.Good).Image
	return hex.EncodeToString(image[:])
}

// TestSameVersion: of releases with one name and version, for two processors or of two
// layouts, a host is credited with the one that it runs.
func TestSameVersion(t *testing.T) {
	twin := func(n int, arch string) bootrule.Release {
		r := release(n)
		r.Digest, r.Arch = fmt.Sprintf("%064x", 100+n), arch
		return r
	}
	for name, c := range map[string]struct {
		arch  string
		asks  netboot.Arch
		named bool // the verdict says which
		both  bool // it can be either
	}{
		"by the machine's processor":          {"arm64", netboot.EFIARM64, false, false},
		"by the verdict":                      {"arm64", netboot.EFIARM64, true, false},
		"two layouts, by the verdict":         {"amd64", netboot.EFIX64, true, false},
		"one reference, by what was given it": {"amd64", netboot.EFIX64, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "default: local\n")
			r.site.list = []bootrule.Release{release(1), release(2), twin(1, c.arch), twin(2, c.arch)}
			m := r.machine("web-1", 1)
			m.arch = c.asks
			for n := 1; n <= 2; n++ {
				x := twin(n, c.arch)
				r.site.rule(t, "default: \"sha256:"+x.Digest+"\"\n")
				if c.named {
					m.is = []string{x.Digest}
				}
				if c.both {
					m.is = append(m.is, release(n).Digest)
				}
				m.want(x.Stem(), m.start())
				r.wait(time.Minute)
				m.report(90 * time.Second)
				m.report(100 * time.Second)
				if m.good() != x.Digest && (n == 2 || !c.both) { // of its first boot nothing is kept
					t.Fatalf("%s is good, want %s", m.good(), x.Digest)
				}
			}
			if p := m.phase(); p != slot.Blessed {
				t.Errorf("the try is %s", p)
			}
		})
	}
}

// TestForgedWhileOff: fetches under the address of a host that is off cost it no try,
// however many, and whatever it fetches itself afterwards.
func TestForgedWhileOff(t *testing.T) {
	r, m := settled(t)
	r.site.rule(t, "default: hello@2.0\n")
	for i := range 6 {
		m.want("hello-2.0", m.fetch())
		r.wait(time.Hour)
		for range i % 3 { // and again, when the window is over
			m.want("hello-1.0", m.fetch())
			r.wait(time.Hour)
		}
		if i == 4 {
			r.order("web-1", "hello@3.0", false)
			m.want("hello-3.0", m.start())
		} else {
			m.want("hello-1.0", m.start())
		}
		r.crash()
		r.wait(time.Minute)
		m.report(90 * time.Second)
		if b := m.boots(); b.Lost != nil || b.Attempt != nil {
			t.Fatalf("round %d leaves %+v, %+v", i, b.Lost, b.Attempt)
		}
		if p := m.phase(); p != slot.Armed {
			t.Fatalf("after round %d the try is %s", i, p)
		}
	}
	m.want("hello-2.0", m.start())
	r.wait(time.Minute)
	m.report(90 * time.Second)
	if p := m.phase(); p != slot.Blessed {
		t.Errorf("the host's own try is %s", p)
	}
}

// TestOwnTryCounts: a try that the host has begun itself is not given back, also when
// somebody fetches under its address after it died.
func TestOwnTryCounts(t *testing.T) {
	r, m := settled(t)
	r.site.rule(t, "default: hello@2.0\n")
	for range 2 {
		m.want("hello-2.0", m.start())
		r.wait(time.Hour)
		m.want("hello-1.0", m.fetch()) // forged
		r.wait(time.Hour)
		m.want("hello-1.0", m.start())
		r.wait(time.Minute)
		m.report(90 * time.Second)
		r.wait(time.Hour)
	}
	if p := m.phase(); p != slot.Rejected {
		t.Errorf("after two tries of its own: %s", p)
	}
}

// TestAddressesAreBounded: whatever a host reports, so many addresses stand for it, the
// last reported ones; it cannot push its own quarantine out.
func TestAddressesAreBounded(t *testing.T) {
	r, m := settled(t)
	x := r.machine("web-2", 1) // the same address: quarantined
	x.runs, x.boot, x.resets = "1.0", 77, 5
	x.report(0)
	var list []string
	for round := range 4 {
		list = nil
		for i := range 63 {
			list = append(list, netboot.MAC{2, 0, 0, 1, byte(round), byte(i)}.String())
		}
		r.wait(time.Minute)
		m.report(0, func(b *updateapi.BootReport) { b.MACs = list })
	}
	for i := range 30 { // half of the old ones, and as many new ones
		list[33+i] = netboot.MAC{2, 0, 0, 2, 0, byte(i)}.String()
	}
	m.report(0, func(b *updateapi.BootReport) { b.MACs = list })
	check := func() {
		t.Helper()
		all := r.d.machinesOf("web-1")
		kept, err := r.store.Machines(ctx)
		if err != nil || len(all) != maxAddresses || len(kept) != maxAddresses {
			t.Fatalf("%d addresses, %d on the disk, %v", len(all), len(kept), err)
		}
		if !slices.ContainsFunc(all, func(k fleet.Machine) bool { return k.MAC == m.mac && k.Quarantine != "" }) {
			t.Error("the quarantine is gone")
		}
		for _, text := range list {
			if !slices.ContainsFunc(all, func(k fleet.Machine) bool { return k.MAC.String() == text }) {
				t.Errorf("%s of the newest report is not known", text)
			}
		}
	}
	check()
	r.crash()
	check()
}

// failing is a store that keeps nothing any more.
type failing struct {
	*fleet.SQLite
	err error
}

func (f failing) ChangeBoot(_ context.Context, name string, fn func(*fleet.Boot) error) error {
	return f.err
}
func (f failing) PutTimelines(_ context.Context, list []fleet.Timeline) error { return f.err }

// TestErrorsAreTold: what could not be kept is told where no caller waits for it.
func TestErrorsAreTold(t *testing.T) {
	full := errors.New("no space left on device")
	for step, do := range map[string]func(r *rig, m *machine){
		"give back a try that was not its own": func(r *rig, m *machine) { m.fetch(); r.breaks(full); m.attest(true) },
		"end its ticket": func(r *rig, m *machine) {
			r.order("web-1", "hello@3.0", false)
			m.start()
			r.breaks(full)
			m.attest(true)
		},
		"end a try that is not trusted": func(r *rig, m *machine) { m.start(); r.breaks(full); m.attest(false) },
		"keep what was seen of boots": func(r *rig, m *machine) {
			r.breaks(full)
			r.d.Saw(netboot.Event{Time: r.at, Stage: netboot.First, MAC: m.mac})
			over, cancel := context.WithCancel(ctx)
			cancel()
			r.d.Run(over)
		},
	} {
		t.Run(step, func(t *testing.T) {
			r, m := settled(t)
			var got []string
			r.site.rule(t, "default: hello@2.0\n")
			r.d.o.Failed = func(host, step string, err error) {
				got = append(got, host+"|"+step+"|"+err.Error())
			}
			do(r, m)
			host := "web-1"
			if strings.HasPrefix(step, "keep") {
				host = ""
			}
			if want := host + "|" + step + "|" + full.Error(); !slices.Contains(got, want) || len(got) != 1 {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

func (r *rig) breaks(err error) { r.d.o.Store = failing{r.store, err} }
