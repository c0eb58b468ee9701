package baseline

import (
	"encoding/json"
	"net"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/agent/listener"
)

var built = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// sound is a machine that lacks nothing.
func sound() State {
	return State{
		Version: "1", Time: built.Add(time.Hour), Told: true, IPv4: true, Route4: true, IPv6: true, Route6: true, Server: "https://s",
		Links: []Link{{"0000:00:02.0", "eth0"}, {"0000:00:03.0", "eth1"}}, Disks: []Disk{{"wwn-1", "nvme0n1"}, {"wwn-2", "nvme1n1"}},
		Root: "mounted", Data: Data{State: "mounted", Size: 1 << 30, Free: 1 << 29}, Machine: "applied", Watchdog: true,
		Services: []Service{{Name: "web", Ready: true, Detail: "running, healthy: "}, {Name: "db", Ready: true}},
	}
}

// copy gives a State of its own, by the way in which it is kept.
func (s State) copy(t *testing.T) State {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var out State
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestCompare: each row makes one thing worse. With a baseline that had the same
// trouble it must not count, unless it is the new version's own.
func TestCompare(t *testing.T) {
	for name, c := range map[string]struct {
		worse  func(s *State)
		cause  slot.Cause
		detail string
		own    bool // counts although it was so before
	}{
		"nothing":         {func(*State) {}, slot.NoCause, "", false},
		"corrupt root":    {func(s *State) { s.Root, s.RootWhy = "corrupt", "a block" }, slot.CorruptRoot, "a block", true},
		"no root":         {func(s *State) { s.Root, s.RootWhy = "failed", "no such" }, slot.Unhealthy, "no such", true},
		"1970":            {func(s *State) { s.Time, s.Told = time.Unix(5, 0), true }, slot.ClockWrong, "1970-01-01", true},
		"back in time":    {func(s *State) { s.Time = built.Add(time.Minute) }, slot.ClockWrong, "had 2026-11-01 01:00:00 already", false},
		"a little back":   {func(s *State) { s.Time = s.Time.Add(-time.Minute) }, slot.NoCause, "", false},
		"data full":       {func(s *State) { s.Data.Free = 4096 }, slot.DataFull, "4 KiB of 1024 MiB", false},
		"data nearly":     {func(s *State) { s.Data.Free = 20 << 20 }, slot.NoCause, "", false},
		"data failed":     {func(s *State) { s.Data = Data{State: "failed", Error: "bad magic"} }, slot.Unhealthy, "bad magic", false},
		"one link gone":   {func(s *State) { s.Links = s.Links[:1] }, slot.NetworkDead, "eth1 (0000:00:03.0)", false},
		"link renamed":    {func(s *State) { s.Links[0].Name = "enp2s0" }, slot.NoCause, "", false},
		"no address":      {func(s *State) { s.IPv4 = false }, slot.NetworkDead, "IPv4 address", false},
		"no route":        {func(s *State) { s.Route4 = false }, slot.NetworkDead, "IPv4 default route", false},
		"no IPv6":         {func(s *State) { s.IPv6, s.Route6 = false, false }, slot.NetworkDead, "IPv6 address", false},
		"no server":       {func(s *State) { s.Server = "" }, slot.NetworkDead, "https://s has not answered", false},
		"disk gone":       {func(s *State) { s.Disks = s.Disks[:1] }, slot.Unhealthy, "nvme1n1 (wwn-2)", false},
		"disk renamed":    {func(s *State) { s.Disks[1].Name = "nvme7n1" }, slot.NoCause, "", false},
		"machine.yaml":    {func(s *State) { s.Machine = "refused" }, slot.Unhealthy, "machine.yaml", false},
		"no watchdog":     {func(s *State) { s.Watchdog = false }, slot.Unhealthy, "watchdog is not armed", false},
		"service ill":     {func(s *State) { s.Services[0] = Service{Name: "web", Detail: "running, unhealthy: 500"} }, slot.Unhealthy, "web is running, unhealthy: 500", false},
		"nothing started": {func(s *State) { s.Services = nil }, slot.Unhealthy, "not started", true},
		"full and ill":    {func(s *State) { s.Data.Free = 0; s.Services[0].Ready = false }, slot.DataFull, "", false},
	} {
		before, now := sound(), sound()
		c.worse(&now)
		before, now = before.copy(t), now.copy(t)
		cause, detail := Compare(&before, now, Rules{Built: built})
		if cause != c.cause || !strings.Contains(detail, c.detail) {
			t.Errorf("%s: got %s %q, want %s %q", name, cause, detail, c.cause, c.detail)
		}
		want := slot.NoCause
		if c.own {
			want = c.cause
		}
		if cause, detail := Compare(&now, now, Rules{Built: built}); cause != want {
			t.Errorf("%s, as before: got %s %q, want %s", name, cause, detail, want)
		}
	}
}

// TestUnattested: a version without attest: asks no server, and lacks none.
func TestUnattested(t *testing.T) {
	before, now := sound(), sound()
	now.Server = ""
	if cause, detail := Compare(&before, now, Rules{Built: built, Unattested: true}); cause != slot.NoCause {
		t.Errorf("got %s %q", cause, detail)
	}
	now.Route4 = false
	if cause, _ := Compare(&before, now, Rules{Built: built, Unattested: true}); cause != slot.NetworkDead {
		t.Errorf("without a route: %s", cause)
	}
}

// TestWithoutBaseline: a trial of which nothing is known before is held to what a
// machine needs by itself.
func TestWithoutBaseline(t *testing.T) {
	alone := State{Version: "2", Time: built, Services: []Service{{Name: "web", Ready: true}}}
	if cause, detail := Compare(nil, alone, Rules{Built: built}); cause != slot.NoCause {
		t.Errorf("a machine without network and disks: %s %q", cause, detail)
	}
	ill := sound()
	ill.Services[1].Ready = false
	if cause, _ := Compare(nil, ill, Rules{Built: built}); cause != slot.Unhealthy {
		t.Errorf("an unhealthy service: %s", cause)
	}
	full := sound()
	full.Data.Free = 0
	if cause, _ := Compare(nil, full, Rules{Built: built}); cause != slot.DataFull {
		t.Errorf("full data: %s", cause)
	}
}

// TestCrashLoop: a service that is up whenever one looks, but another one each
// time.
func TestCrashLoop(t *testing.T) {
	before, last, now := sound(), sound(), sound()
	now.Services[0].Restarts = 3
	if cause, detail := Compare(&before, now, Rules{Built: built, Last: &last}); cause != slot.Unhealthy || !strings.Contains(detail, "web was started again") {
		t.Errorf("got %s %q", cause, detail)
	}
	if cause, detail := Compare(&before, now, Rules{Built: built, Last: &now}); cause != slot.NoCause {
		t.Errorf("no restart since the last look: %s %q", cause, detail)
	}
	before.Services[0].Ready = false
	if cause, detail := Compare(&before, now, Rules{Built: built, Last: &last}); cause != slot.NoCause {
		t.Errorf("it was ill before: %s %q", cause, detail)
	}
}

func TestLook(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s + "\n")} }
	dir := &fstest.MapFile{Mode: 0o755 | 1<<31}
	devices := map[string]string{
		"sys/class/net/eth0": "sys/devices/pci0000:00/0000:00:02.0/virtio0/net/eth0",
		"sys/class/net/eth1": "sys/devices/pci0000:00/0000:00:03.0/net/eth1",
		"sys/class/net/lo":   "sys/devices/virtual/net/lo",
		"sys/block/nvme0n1":  "sys/devices/pci0000:00/0000:00:04.0/nvme/nvme0/nvme0n1",
		"sys/block/vda":      "sys/devices/pci0000:00/0000:00:05.0/virtio3/block/vda",
		"sys/block/sda":      "sys/devices/pci0000:00/0000:00:06.0/usb1/1-1/host0/block/sda",
		"sys/block/sr0":      "sys/devices/pci0000:00/0000:00:07.0/ata1/host1/block/sr0",
		"sys/block/dm-0":     "sys/devices/virtual/block/dm-0",
	}
	root := fstest.MapFS{
		"sys/class/net/eth0/carrier": file("1"), "sys/class/net/eth1/carrier": file("0"), "sys/class/net/lo/carrier": file("1"),
		"sys/block/nvme0n1/wwid": file("eui.1"), "sys/block/vda": dir, "sys/block/sda/removable": file("0"),
		"sys/block/sr0/removable": file("1"), "sys/block/dm-0": dir,
		"proc/net/route": file("Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n" +
			"eth0\t00000000\t0202000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\neth0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0"),
		"proc/net/ipv6_route": file("00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo"),
	}
	sys := System{Root: root, Device: func(d string) string { return devices[d] },
		Addrs: func() ([]net.Addr, error) {
			return []net.Addr{&net.IPNet{IP: net.IPv4(127, 0, 0, 1)}, &net.IPNet{IP: net.IPv4(10, 0, 2, 15)}, &net.IPNet{IP: net.ParseIP("fe80::1")}}, nil
		}}
	got := Look(sys, listener.Status{Version: "3", Clock: listener.Clock{Source: "rtc"}, Root: &listener.Root{State: "mounted"},
		Attestation: listener.Attestation{State: "refused", Server: "https://s"},
		Services: []listener.Service{{Name: "a", State: "running", Health: "pending"}, {Name: "b", State: "running", Health: "unchecked", Restarts: 2},
			{Name: "c", State: "completed"}, {Name: "d", State: "backoff", Health: "unchecked"}}}, built)
	want := State{Version: "3", Time: built, Told: true, Links: []Link{{"0000:00:02.0", "eth0"}}, IPv4: true, Route4: true, Server: "https://s",
		Disks: []Disk{{"eui.1", "nvme0n1"}, {"0000:00:05.0", "vda"}}, Root: "mounted",
		Services: []Service{{"a", false, 0, "running, pending"}, {"b", true, 2, "running, unchecked"}, {"c", true, 0, "completed, "}, {"d", false, 0, "backoff, unchecked"}}}
	a, _ := json.Marshal(got)
	b, _ := json.Marshal(want)
	if string(a) != string(b) {
		t.Errorf("got  %s\nwant %s", a, b)
	}
	// This machine, whatever it is: nothing panics, and what is kept is small.
	if b, err := json.Marshal(Look(System{}, listener.Status{}, built)); err != nil || len(b) > 24<<10 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}
