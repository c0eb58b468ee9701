package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/netlab"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/timeline"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// far is a site with a machine in another network than the server, behind a relay
// agent that is also its router. Its firmware starts nothing but what the fleet has
// signed.
type far struct {
	*site
	node  *node
	wire  *wire // of the machine
	trunk *wire // between relay agent and server
}

const (
	farMAC  = "52:54:00:78:00:01"
	farDHCP = "dhcp: {mode: full, subnets: [{subnet: 10.77.0.0/24, pools: [10.77.0.100-10.77.0.120]}, {subnet: 10.78.0.0/24, pools: [10.78.0.100-10.78.0.120], router: 10.78.0.1}]}\n"
)

func newFar(t *testing.T, config string, sets ...*release.Set) *far {
	t.Helper()
	x := &far{site: newSite(t, farDHCP+config, sets...)}
	x.name(farMAC, "far-1")
	relay := netlab.New(t, "relay")
	netlab.Cable(x.space, "up0", relay, "up0")
	x.space.Plug("up0", "br0")
	relay.Address("up0", "10.77.0.2/24")
	relay.Bridge("rack0", "10.78.0.1/24")
	relay.Router()
	x.space.Route("10.78.0.0/24", "10.77.0.2")
	cable := relay.Tap("vm0", "rack0")
	x.wire = watch(t, relay, "vm0")
	x.trunk = watch(t, relay, "up0")
	x.serve()
	// -a: what the client said of its circuit is replaced by what the agent knows.
	relay.Start(oracle.Need(t, "isc-dhcp-relay", "dhcrelay"), "-4", "-d", "-a", "-pf", filepath.Join(x.dir, "dhcrelay.pid"), "-id", "rack0", "-iu", "up0", "10.77.0.1")
	m := without(enforcing(t, x.diskless(cable, farMAC), sets[0]), noPXE6)
	authority, err := os.ReadFile(filepath.Join(x.f.file("trust"), "boot-ca.esl"))
	if err != nil {
		t.Fatal(err)
	}
	m.Options["etc/edk2/https/cacerts"] = authority
	x.node = x.on(m)
	return x
}

// TestNetbootStory follows one machine through four boots by real firmware that
// enforces Secure Boot. It boots by PXE through a relay agent, finds its server by
// DHCP, is trusted, and gets its secret. It is given a new release, whose download
// the server does not survive, boots it by HTTP Boot in the same try, and the release
// becomes good. A release that is never healthy fails, and the machine is back on the
// last good one, by HTTPS Boot, without anybody's help. No wire carries the secret or
// a fragment.
func TestNetbootStory(t *testing.T) {
	needs(t, qemu.AMD64)
	f := newNetFoundry(t)
	first, next, bad := f.release(t, "1.0.0", ""), f.release(t, "1.1.0", ""), f.release(t, "2.0.0", "-mode\", fine=-mode\", unhealthy")
	x := newFar(t, byDHCP+"default: tally@1.0.0\n", first, next, bad)
	if !t.Run("relay", x.boots1) || !t.Run("new release", x.boots2) || !t.Run("bad release", x.boots3) {
		return
	}
	x.in(t)
	x.wire.clean()
	x.trunk.clean()
}

// boots1 is the first boot.
func (x *far) boots1(t *testing.T) {
	x.in(t)
	x.approve("far-1")
	x.node.runs("1.0.0")
	x.trusted("far-1", "1.0.0")
	x.wire.windowed("boot/525400780001/tally-1.0.0.efi")
	x.trunk.answered("10.78.0.1")
	x.says([]string{"hosts", "far-1"}, `(?m)^standing +trusted`, `(?m)^ *boot +pxe, Secure Boot on`)
	x.until("far-1", "its slots are known", func() bool { return x.slots("far-1").Version == "1.0.0" })
	x.went("far-1", netboot.TFTP, "tally-1.0.0", netboot.Offered, netboot.Probed, netboot.First, netboot.Last, timeline.Started, netboot.Attested, netboot.Healthy)
}

// boots2 is the try of a release in the middle of whose download the server is killed.
func (x *far) boots2(t *testing.T) {
	x.in(t)
	x.hosts("far-1", "--assign", "1.1.0", "--approve-update")
	x.server.Await("loads tally-1.1.0 by TFTP", 2*time.Minute)
	cut := x.server
	x.kill()
	if strings.Contains(cut.Said(), "has loaded tally-1.1.0") {
		t.Fatal("the server was killed too late")
	}
	x.node.runs("1.1.0")
	x.trusted("far-1", "1.1.0")
	x.until("far-1", "1.1.0 is good", func() bool { b := x.slots("far-1"); return b.Version == "1.1.0" && b.Phase == "BLESSED" })
	x.went("far-1", netboot.HTTP, "tally-1.1.0", netboot.First, netboot.Last, timeline.Started, netboot.Attested, netboot.Healthy)
	x.says([]string{"hosts", "far-1"}, `(?m)^ *boot +pxe, Secure Boot on`) // HTTP Boot measures what PXE does
}

// boots3 is the try of a release that is never healthy, and the boot after it.
// Meanwhile the server has come to offer HTTPS alone.
func (x *far) boots3(t *testing.T) {
	x.in(t)
	x.hosts("far-1", "--assign", "2.0.0", "--approve-update")
	x.server.Await("has loaded tally-2.0.0 by TFTP", 4*time.Minute)
	x.reconfigure("tftp: {off: true}\nhttps: {on: true, prefer: true}\n")
	x.trusted("far-1", "2.0.0")
	x.node.sees(`restarting: the server wants another release here: trial of version tally-2\.0\.0 failed: a health check failed`)
	x.node.runs("1.1.0")
	x.trusted("far-1", "1.1.0")
	x.until("far-1", "2.0.0 is rejected", func() bool {
		b := x.slots("far-1")
		return b.Phase == "REJECTED" && b.Cause == "unhealthy" && b.Version == "1.1.0"
	})
	x.went("far-1", netboot.HTTPS, "tally-1.1.0", netboot.Refused, netboot.Offered, netboot.First, netboot.Last, timeline.Started, netboot.Attested)
	x.says([]string{"hosts", "far-1", "--explain"}, `(?m)^boots +tally-1.1.0`, `(?m)^because .*2\.0\.0 is rejected \(a health check failed\), tally-1\.1\.0 is the last good one`)
	x.says([]string{"hosts", "far-1"}, `(?m)^slots +REJECTED, good is b`, `2\.0\.0.*unhealthy`)
}

// in lets a part of a story fail by itself.
func (x *far) in(t *testing.T) { x.site.t, x.node.t, x.wire.t, x.trunk.t = t, t, t, t }

// until waits for what a host comes to.
func (s *site) until(name, what string, ok func() bool) {
	s.t.Helper()
	for end := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(time.Second) {
		if time.Now().After(end) {
			s.t.Fatalf("%s: %s: not within two minutes; %+v, %+v", name, what, s.slots(name), s.boots(name))
		}
	}
}

// went wants the newest boot of a host to have gone through these stages in this
// order, among others, and says when each was.
func (s *site) went(name string, by netboot.Method, what string, stages ...netboot.Stage) {
	s.t.Helper()
	var last timeline.Boot
	s.until(name, "its timeline is whole", func() bool {
		if list := s.boots(name); len(list) > 0 {
			last = list[len(list)-1]
		}
		return follow(last.Steps, stages)
	})
	s.t.Logf("its first question was %.1f s after power-on", last.Begun.Sub(s.power).Seconds())
	if last.Release != what || last.Method != by || last.Died {
		s.t.Errorf("the last boot was of %s by %s, want %s by %s: %+v", last.Release, last.Method, what, by, last)
	}
	if !slices.IsSortedFunc(last.Steps, func(a, b timeline.Step) int { return a.Time.Compare(b.Time) }) {
		s.t.Errorf("the times are out of order: %+v", last.Steps)
	}
	s.says([]string{"hosts", name, "--timeline"}, `first byte +tally`, `attested`)
}

// follow reports whether steps have stages, in that order.
func follow(steps []timeline.Step, stages []netboot.Stage) bool {
	for _, s := range steps {
		if len(stages) > 0 && s.Stage == stages[0] {
			stages = stages[1:]
		}
	}
	return len(stages) == 0
}
