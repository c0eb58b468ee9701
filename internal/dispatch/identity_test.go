package dispatch

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/quote"
	"github.com/ingot-os/ingot/internal/timeline"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/internal/verifier"
	"github.com/ingot-os/ingot/pxe/netboot"
)

const (
	someUUID  = "4c4c4544-0034-5310-8052-b4c04f4e4d32"
	otherUUID = "11111111-2222-3333-4444-555555555555"
	zeroUUID  = "00000000-0000-0000-0000-000000000000"
)

// TestAsAsked: a file is asked for by the machine's address alone, and is decided as
// the offer was: by the UUID of the question, and by where it came from.
func TestAsAsked(t *testing.T) {
	r := newRig(t, "rules:\n  - {uuid: [\""+someUUID+"\"], boot: hello@1.0}\n  - {subnet: [10.1.0.0/16], boot: hello@2.0}\n  - {subnet: [10.2.0.0/16], boot: hello@3.0}\ndefault: local\n")
	r.d.o.Link = func(name string) []netip.Prefix {
		return map[string][]netip.Prefix{"eth2": {netip.MustParsePrefix("10.2.0.1/24")}}[name]
	}
	for name, c := range map[string]struct {
		client netboot.Client
		boots  string
		n      int
	}{
		"by UUID":          {netboot.Client{UUID: someUUID, Link: "eth1"}, "hello-1.0", 1},
		"by relay":         {netboot.Client{Relay: netip.MustParseAddr("10.1.0.1"), Link: "eth2"}, "hello-2.0", 2},
		"by its address":   {netboot.Client{Addr: netip.MustParseAddr("10.1.7.7"), Link: "eth1"}, "hello-2.0", 2},
		"by its link":      {netboot.Client{Link: "eth2"}, "hello-3.0", 3},
		"elsewhere":        {netboot.Client{Link: "eth1"}, "local", 0},
		"zero UUID":        {netboot.Client{UUID: zeroUUID, Link: "eth1"}, "local", 0},
		"not its link's":   {netboot.Client{Link: "eth2", Relay: netip.MustParseAddr("192.0.2.1")}, "local", 0},
		"nothing was said": {netboot.Client{}, "local", 0},
	} {
		t.Run(name, func(t *testing.T) {
			m := netboot.MAC{2, 0, 0, 0, 1, byte(len(name))}
			c.client.MAC, c.client.Arch = m, netboot.EFIX64
			file := netboot.Client{MAC: m, Arch: netboot.EFIX64}
			r.d.Asked(c.client)
			for who, x := range map[string]netboot.Client{"DHCP": c.client, "a file": file} {
				d, err := r.d.Decide(ctx, x)
				if got := would(&d.Decision); err != nil || got != c.boots {
					t.Errorf("%s gets %s, %v: want %s\n%+v", who, got, err, c.boots, d.Steps)
				}
			}
			if c.n > 0 {
				if err := r.d.Begin(ctx, file, release(c.n).Digest); err != nil {
					t.Errorf("Begin: %v", err)
				}
			}
		})
	}
}

// TestIdentity: what rules find a machine by comes from its enrolment, and from what it
// reported while it was trusted. A packet, and the report of an image that is not
// trusted, change none of it.
func TestIdentity(t *testing.T) {
	const rules = "rules:\n  - {serial: [CZ77], boot: hello@2.0}\n  - {asset: [\"rack7-*\"], boot: hello@3.0}\n  - {uuid: [\"" + someUUID + "\"], boot: hello@2.0}\ndefault: hello@1.0\n"
	says := func(serial, asset, uuid string) func(*updateapi.BootReport) {
		return func(b *updateapi.BootReport) { b.Serial, b.Asset, b.UUID = serial, asset, uuid }
	}
	for name, c := range map[string]struct {
		report func(*updateapi.BootReport)
		boots  string
	}{
		"serial":     {says("CZ77", "", ""), "hello-2.0"},
		"asset":      {says("", "rack7-12", ""), "hello-3.0"},
		"UUID":       {says("", "", someUUID), "hello-2.0"},
		"zero UUID":  {says("", "", zeroUUID), "hello-1.0"},
		"none":       {says("", "", ""), "hello-1.0"},
		"other ones": {says("CZ78", "rack8-1", otherUUID), "hello-1.0"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, rules)
			m := r.machine("web-1", 1)
			m.want("hello-1.0", m.start())
			// The same from an image that the verdict does not trust.
			m.attest(false)
			h, err := r.store.Host(ctx, m.name)
			if err != nil {
				t.Fatal(err)
			}
			b := updateapi.BootReport{Boot: strings.Repeat("1", 32), Path: "pxe", MACs: []string{m.mac.String()}, Uptime: 1}
			c.report(&b)
			if _, err := r.d.Booted(ctx, h, b); err != nil {
				t.Fatal(err)
			}
			if k, ok := r.d.Machine(m.mac); ok {
				t.Fatalf("an image that is not trusted has it known as %+v", k)
			}
			m.boot++
			m.report(0, c.report)
			m.want(c.boots, m.would())
			r.crash()
			m.want(c.boots, m.would())
			forged := m.client() // by who knows its address
			forged.UUID = otherUUID
			forged.Link = "eth1"
			d, err := r.d.Decide(ctx, forged)
			if got := would(&d.Decision); err != nil || got != c.boots {
				t.Errorf("with another UUID in the packet it gets %s, %v", got, err)
			}
		})
	}
}

// TestZeroUUID: boards without a UUID of their own are no one machine, however they
// come in: by packet, report or question.
func TestZeroUUID(t *testing.T) {
	r := newRig(t, "rules:\n  - {host: [web-1], boot: hello@2.0}\ndefault: hello@1.0\n")
	m := r.machine("web-1", 1)
	m.start()
	for _, uuid := range []string{zeroUUID, "ffffffff-ffff-ffff-ffff-ffffffffffff", ""} {
		m.report(0, func(b *updateapi.BootReport) { b.UUID = uuid })
		c := netboot.Client{MAC: netboot.MAC{2, 0, 0, 0, 0, 99}, UUID: uuid, Arch: netboot.EFIX64, Link: "eth1"}
		r.d.Asked(c)
		d, err := r.d.Decide(ctx, c)
		if err != nil || d.Host != "" || would(&d.Decision) != "hello-1.0" {
			t.Errorf("UUID %q makes a stranger %q: %s, %v", uuid, d.Host, would(&d.Decision), err)
		}
	}
	// One of its own finds the host by another of its cards.
	m.report(0, func(b *updateapi.BootReport) { b.UUID = someUUID })
	d, err := r.d.Decide(ctx, netboot.Client{MAC: netboot.MAC{2, 0, 0, 0, 0, 99}, UUID: someUUID, Arch: netboot.EFIX64, Link: "eth1"})
	if err != nil || d.Host != "web-1" || would(&d.Decision) != "hello-2.0" {
		t.Errorf("its UUID makes it %q: %s, %v", d.Host, would(&d.Decision), err)
	}
}

// TestExplained: an operator sees where each value comes from.
func TestExplained(t *testing.T) {
	r := newRig(t, "default: hello@1.0\n")
	m := r.machine("web-1", 1)
	stranger := netboot.Client{MAC: netboot.MAC{2, 0, 0, 0, 0, 5}, UUID: otherUUID, Arch: netboot.EFIX64, Link: "eth1"}
	r.d.Asked(stranger)
	r.d.Saw(netboot.Event{Time: r.at, Stage: netboot.Offered, MAC: stranger.MAC})
	m.start()
	m.report(0, func(b *updateapi.BootReport) { b.UUID, b.Serial, b.Asset = someUUID, "CZ77", "rack7-1" })
	d, err := r.d.Boot(ctx, "web-1")
	if err != nil || len(d.Machines) != 1 {
		t.Fatalf("%+v, %v", d, err)
	}
	if x := d.Machines[0]; x.UUID != someUUID || x.Serial != "CZ77" || x.Asset != "rack7-1" || !x.Reported.Equal(r.at) || x.EK != "656b207765622d31" || x.Claimed != "" {
		t.Errorf("%+v", x)
	}
	if d, err = r.d.Boot(ctx, stranger.MAC.String()); err != nil || d.Machines[0].UUID != "" || d.Machines[0].Claimed != otherUUID || d.Machines[0].EK != "" {
		t.Errorf("%+v, %v", d, err)
	}
}

// collected is a Watcher.
type collected []string

func (c *collected) Saw(e netboot.Event) { *c = append(*c, string(e.Stage)+" "+e.Host+" "+e.Release) }

func (r *rig) timeline(m *machine) (stages string, b timeline.Boot, n int) {
	r.t.Helper()
	list := r.d.o.Timeline.Of(m.mac, r.at)
	if len(list) == 0 {
		return "", b, 0
	}
	b = list[len(list)-1]
	var out []string
	for _, s := range b.Steps {
		out = append(out, string(s.Stage))
	}
	return strings.Join(out, " "), b, len(list)
}

// TestStages: verdicts and reports are the last stages of the boot that the server
// saw, each once, for the log as for the timeline; another boot has its own.
func TestStages(t *testing.T) {
	r := newRig(t, "default: hello@1.0\n")
	var seen collected
	r.d.o.Watcher = &seen
	m := r.machine("web-1", 1)
	boot := func(release string) {
		for _, s := range []netboot.Stage{netboot.Offered, netboot.First, netboot.Last} {
			r.wait(time.Second)
			r.d.Saw(netboot.Event{Time: r.at, Stage: s, MAC: m.mac, Addr: netip.MustParseAddrPort("192.0.2.7:1"), Path: "boot/" + m.mac.Plain() + "/" + release + ".efi", Release: release, Method: netboot.HTTP})
		}
		m.want(release, m.start())
	}
	want := func(boots int, stages, outcome string) {
		t.Helper()
		r.wait(time.Second)
		got, b, n := r.timeline(m)
		if got != stages || b.Outcome != outcome || n != boots {
			t.Fatalf("%d boots, the last with %q: %s, want %d, %q: %s", n, got, b.Outcome, boots, stages, outcome)
		}
	}
	boot("hello-1.0")
	m.report(0)
	m.report(0)
	want(1, "offered first last attested", "attested")
	m.report(70 * time.Second)
	m.report(80 * time.Second)
	want(1, "offered first last attested healthy released", "healthy, its release is good")

	r.site.rule(t, "default: hello@2.0\n")
	boot("hello-2.0")
	m.attest(false)
	want(2, "offered first last untrusted", "not trusted: pcr.mismatch")
	r.wait(time.Hour)
	boot("hello-1.0")
	m.report(90 * time.Second)
	want(3, "offered first last attested healthy", "healthy")
	boot("hello-2.0")
	m.report(0)
	m.report(70 * time.Second)
	want(4, "offered first last attested healthy released", "healthy, its release is good")

	r.wait(time.Hour)
	boot("hello-2.0")
	r.wait(time.Hour)
	want(5, "offered first last", "loaded hello-2.0.efi, never attested")
	if _, b, _ := r.timeline(m); !b.Died || b.Stage != netboot.Last {
		t.Errorf("%+v", b)
	}
	x := "attested web-1 hello-1.0, healthy web-1 hello-1.0, released web-1 hello-1.0, untrusted web-1 hello-2.0, attested web-1 hello-1.0, healthy web-1 hello-1.0, " +
		"attested web-1 hello-2.0, healthy web-1 hello-2.0, released web-1 hello-2.0"
	if got := strings.Join(seen, ", "); got != x {
		t.Errorf("the log has\n%s\nwant\n%s", got, x)
	}
}

// TestDiskIsNoBoot: a host that attests from its disk is no boot over the network,
// unless one led there.
func TestDiskIsNoBoot(t *testing.T) {
	r, m := settled(t)
	if _, _, n := r.timeline(m); n != 1 {
		t.Fatalf("%d boots", n)
	}
	r.wait(time.Hour)
	before, err := r.store.Host(ctx, m.name)
	if err != nil {
		t.Fatal(err)
	}
	m.resets++
	r.d.Attested(ctx, before, diskVerdict(m), "192.0.2.7:9")
	if got, _, n := r.timeline(m); n != 1 || strings.Count(got, "attested") != 1 {
		t.Errorf("%d boots, the last with %q", n, got)
	}
	r.d.Saw(netboot.Event{Time: r.at, Stage: netboot.Refused, MAC: m.mac, Detail: "default: local boot"})
	m.resets++
	r.d.Attested(ctx, before, diskVerdict(m), "192.0.2.7:9")
	if got, b, n := r.timeline(m); n != 2 || got != "refused attested" || b.Outcome != "attested" {
		t.Errorf("%d boots, the last with %q: %s", n, got, b.Outcome)
	}
}

// TestTicketOutlivesPowerCuts: a ticket is there until the machine attests what it
// boots, or its time is over: a question, a download that broke, a download that
// ended, a start of the server and a refused verdict spend none.
func TestTicketOutlivesPowerCuts(t *testing.T) {
	r, m := settled(t)
	kept := func(when string, want bool) {
		t.Helper()
		b, err := r.store.Boot(ctx, m.name)
		if err != nil || (b.Ticket != nil) != want {
			t.Fatalf("%s: the ticket is %+v, %v", when, b.Ticket, err)
		}
		d, err := r.d.Boot(ctx, m.name)
		if err != nil || (d.Ticket != nil) != want {
			t.Fatalf("%s: operators see %+v, %v", when, d.Ticket, err)
		}
	}
	r.order("web-1", "hello@3.0", false)
	kept("ordered", true)
	for range 5 {
		m.want("hello-3.0", m.would())
	}
	kept("after questions", true)
	for range 3 { // power is cut in the middle, and after the end, of the download
		m.want("hello-3.0", m.start())
		kept("after a download", true)
		r.crash()
		r.wait(16 * time.Minute) // longer than a window
	}
	m.want("hello-3.0", m.start())
	m.attest(false)
	kept("after a verdict that is not trusted", true)
	m.want("hello-3.0", m.start())
	m.attest(true)
	kept("after attestation", false)
	m.want("hello-1.0", m.would())

	if err := r.d.Order(ctx, "web-1", verifier.BootOrder{Action: verifier.OrderOnce, Boot: "hello@3.0", TTL: 600}, "alice"); err != nil {
		t.Fatal(err)
	}
	m.want("hello-3.0", m.would())
	r.wait(10*time.Minute - time.Second)
	m.want("hello-3.0", m.would())
	r.wait(time.Second)
	m.want("hello-1.0", m.would())
	if d, err := r.d.Boot(ctx, m.name); err != nil || d.Ticket != nil {
		t.Errorf("after its time: %+v, %v", d.Ticket, err)
	}
}

func diskVerdict(m *machine) *attest.Verdict {
	return &attest.Verdict{Trusted: true, Host: m.name, At: m.r.at, Release: "hello", Version: "1.0", Boot: "disk", Clock: quote.Clock{ResetCount: m.resets}}
}
