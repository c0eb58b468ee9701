package dispatch

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/quote"
	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/assign"
	"github.com/ingot-os/ingot/internal/bootrule"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// memory is a Store that keeps boots in memory: a thousand machines on the disk
// take long.
type memory struct {
	mu    sync.Mutex
	boots map[string]fleet.Boot
	hosts map[string]*fleet.Host
}

func (m *memory) Host(_ context.Context, name string) (*fleet.Host, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if h := m.hosts[name]; h != nil {
		c := *h
		return &c, nil
	}
	return nil, fleet.ErrNotFound
}
func (m *memory) Assignment(context.Context, string) (*assign.Assignment, error) { return nil, nil }
func (m *memory) Update(context.Context, string, func(*fleet.Change) error) error {
	return fleet.ErrNotFound // lists are not looked at
}
func (m *memory) Machines(context.Context) ([]fleet.Machine, error)    { return nil, nil }
func (m *memory) PutMachines(context.Context, ...fleet.Machine) error  { return nil }
func (m *memory) RemoveMachines(context.Context, ...netboot.MAC) error { return nil }
func (m *memory) Timelines(context.Context) ([][]byte, error)          { return nil, nil }
func (m *memory) PutTimelines(context.Context, []fleet.Timeline) error { return nil }
func (m *memory) Boots(context.Context) (map[string]fleet.Boot, error) { return m.boots, nil }
func (m *memory) Boot(_ context.Context, name string) (fleet.Boot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.boots[name], nil
}
func (m *memory) ChangeBoot(_ context.Context, name string, fn func(*fleet.Boot) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.boots[name]
	if err := fn(&b); err != nil {
		return err
	}
	m.boots[name] = b
	return nil
}

// simulated is a host of the simulation.
type simulated struct {
	name   string
	mac    netboot.MAC
	resets uint32
	runs   string // stem; "" when it is off or has died
	bad    bool   // release 2 dies on it before it attests
	host   *fleet.Host
}

type simulation struct {
	t     *testing.T
	g     *rand.Rand
	d     *Dispatcher
	store *memory
	at    time.Time
	all   []*simulated
	tried map[string]int // real starts of release 2
}

func (s *simulation) fetch(m *simulated) string {
	c := netboot.Client{MAC: m.mac, Arch: netboot.EFIX64}
	x, err := s.d.Decide(ctx, c)
	if err == nil && x.Verb == netboot.Boot {
		err = s.d.Begin(ctx, c, x.names())
	}
	if err != nil {
		s.t.Fatalf("%s: %v", m.name, err)
	}
	return would(&x.Decision)
}

// start is a reset; now and then the power goes in the middle of the download.
func (s *simulation) start(m *simulated) {
	for range 1 + s.g.IntN(2) {
		m.resets++
		m.runs = s.fetch(m)
	}
	if m.runs == "hello-2.0" {
		s.tried[m.name]++
		if m.bad {
			m.runs = ""
		}
	}
}

func (s *simulation) report(m *simulated) updateapi.BootOrder {
	if m.runs == "" {
		return updateapi.BootOrder{}
	}
	before := *m.host
	v := &attest.Verdict{Trusted: true, Release: "hello", Version: m.runs[len("hello-"):], Boot: "pxe", Clock: quote.Clock{ResetCount: m.resets}}
	s.store.mu.Lock()
	m.host.Trusted, m.host.LastSeen = true, &attest.LastSeen{Clock: v.Clock}
	m.host.Last = &fleet.Last{Release: "hello", Version: v.Version, Boot: "pxe"}
	s.store.mu.Unlock()
	s.d.Attested(ctx, &before, v, "")
	o, err := s.d.Booted(ctx, m.host, updateapi.BootReport{Boot: fmt.Sprintf("%032d", m.resets), Path: "pxe", MACs: []string{m.mac.String()}, Uptime: 100, Healthy: 80})
	if err != nil {
		s.t.Fatalf("%s: %v", m.name, err)
	}
	return o
}

// TestFleetAtRandom: a fleet boots, gets another release, and loses power at random,
// while somebody fetches under every address again and again. On healthy hosts the
// release ends up good, with one start each; on those where it dies the last good
// one runs, and it was started twice at most. Hosts know nothing of each other, and
// time grows with their number: what goes wrong for one in a hundred shows here.
func TestFleetAtRandom(t *testing.T) {
	const count = 1000
	st := &site{list: []bootrule.Release{release(1), release(2)}}
	st.rule(t, "default: hello@1.0\n")
	s := &simulation{t: t, g: rand.New(rand.NewPCG(6, 13)), store: &memory{boots: map[string]fleet.Boot{}, hosts: map[string]*fleet.Host{}}, at: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC), tried: map[string]int{}}
	var err error
	if s.d, err = New(ctx, Options{Store: s.store, Site: st, Now: func() time.Time { return s.at }}); err != nil {
		t.Fatal(err)
	}
	for i := range count {
		m := &simulated{name: fmt.Sprintf("web-%d", i), mac: netboot.MAC{0x52, 0x54, 0, 0, byte(i >> 8), byte(i)}, bad: i%10 == 0}
		m.host = &fleet.Host{Host: attest.Host{Record: attest.Record{Name: m.name, State: attest.Active}}}
		s.store.hosts[m.name] = m.host
		s.all = append(s.all, m)
	}
	for _, m := range s.all {
		s.start(m)
		s.report(m)
	}
	st.rule(t, "default: hello@2.0\n")
	for round := range 5 {
		s.at = s.at.Add(time.Minute)
		for _, m := range s.all {
			if s.g.IntN(2) == 0 { // forged, at any moment
				s.fetch(m)
			}
			s.report(m)
		}
		s.at = s.at.Add(20 * time.Minute)
		for _, m := range s.all {
			if m.runs == "" || round < 2 || s.g.IntN(3) == 0 {
				s.start(m)
			}
		}
	}
	s.at = s.at.Add(20 * time.Minute)
	bad := 0
	for _, m := range s.all {
		s.start(m)
		s.report(m)
		r, err := slot.Parse(s.store.boots[m.name].Journal)
		if err != nil {
			t.Fatal(err)
		}
		good, n := r.Of(r.Good).Version, s.tried[m.name]
		switch {
		case m.bad && (good != "hello-1.0" || n > 2):
			bad++
		case !m.bad && good != "hello-2.0":
			bad++
		default:
			continue
		}
		if bad < 5 {
			t.Errorf("%s (dies: %v) has %s good after %d tries, in %s", m.name, m.bad, good, n, r.Phase)
		}
	}
	if bad > 0 {
		t.Errorf("%d of %d hosts ended otherwise", bad, count)
	}
}
