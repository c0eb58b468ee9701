package timeline

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/pxe/netboot"
)

var (
	begin = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	mac   = netboot.MAC{0x52, 0x54, 0, 0, 0, 1}
	addr  = netip.MustParseAddrPort("10.0.0.7:2070")
)

const path = "boot/525400000001/hello-1.0.0.efi"

// tape plays events into a timeline: each entry is a second after the one before.
type tape struct {
	t   *testing.T
	l   *Timeline
	now time.Time
}

func play(t *testing.T) *tape { return &tape{t, New(Options{}), begin} }

func (p *tape) after(d time.Duration) *tape { p.now = p.now.Add(d); return p }

func (p *tape) saw(list ...netboot.Event) *tape {
	for _, e := range list {
		p.now = p.now.Add(time.Second)
		if e.Stage == Chained {
			p.l.Continues(mac, Chained, p.now)
			continue
		}
		e.Time = p.now
		p.l.Saw(e)
	}
	return p
}

// want compares the stages of the newest boot, and how it is judged now.
func (p *tape) want(boots int, stages, outcome string, stage netboot.Stage, died bool) *tape {
	p.t.Helper()
	list := p.l.Of(mac, p.now)
	if len(list) != boots {
		p.t.Fatalf("%d boots, want %d: %+v", len(list), boots, list)
	}
	b := list[len(list)-1]
	var got []string
	for _, s := range b.Steps {
		got = append(got, string(s.Stage))
	}
	if strings.Join(got, " ") != stages || b.Outcome != outcome || b.Stage != stage || b.Died != died {
		p.t.Fatalf("stages %q, outcome %q in %q, died %v\nwant   %q, outcome %q in %q, died %v", strings.Join(got, " "), b.Outcome, b.Stage, b.Died, stages, outcome, stage, died)
	}
	return p
}

// The events of a boot, as DHCP, TFTP, HTTP and the verifier tell them.
var (
	asked   = netboot.Event{Stage: netboot.Asked, MAC: mac, Detail: "DISCOVER on eth1, UEFI x86-64 (7)"}
	offered = netboot.Event{Stage: netboot.Offered, MAC: mac, Release: "hello-1.0.0", Method: netboot.TFTP, Path: path, Detail: "default"}
	toldNo  = netboot.Event{Stage: netboot.Refused, MAC: mac, Detail: "deny list: sold"}
	probed  = netboot.Event{Stage: netboot.Probed, Addr: addr, Method: netboot.TFTP, Path: path, Size: 1000, Detail: `the client broke off: error 8 "User aborted"`}
	first   = netboot.Event{Stage: netboot.First, Addr: addr, Method: netboot.TFTP, Path: path, Size: 1000}
	last    = netboot.Event{Stage: netboot.Last, Addr: addr, Method: netboot.TFTP, Path: path, Size: 1000, Bytes: 1000}
	broken  = netboot.Event{Stage: netboot.Broken, Addr: addr, Method: netboot.TFTP, Path: path, Size: 1000, Bytes: 420, Detail: "no answer"}
	started = netboot.Event{Stage: netboot.Started, MAC: mac, Addr: netip.AddrPortFrom(addr.Addr(), 68)}
	proven  = netboot.Event{Stage: netboot.Attested, MAC: mac, Host: "web-1", Release: "hello-1.0.0", Detail: "pxe"}
	healthy = netboot.Event{Stage: netboot.Healthy, MAC: mac, Host: "web-1", Release: "hello-1.0.0"}
	blessed = netboot.Event{Stage: Released, MAC: mac, Host: "web-1", Release: "hello-1.0.0"}
	chained = netboot.Event{Stage: Chained}
)

// TestBoot: a boot that comes through, with times; the abort after the size is no
// error, the address finds the machine, and what is told again makes no step.
func TestBoot(t *testing.T) {
	p := play(t).saw(asked, offered, asked, offered).
		want(1, "asked offered asked offered", "offered", netboot.Offered, false).
		saw(probed).want(1, "asked offered asked offered probed", "asked for the size", netboot.Probed, false).
		saw(first).want(1, "asked offered asked offered probed first", "loads hello-1.0.0.efi", netboot.First, false).
		saw(last).want(1, "asked offered asked offered probed first last", "loaded hello-1.0.0.efi", netboot.Last, false).
		saw(started).want(1, "asked offered asked offered probed first last init", "ingot-init runs", netboot.Started, false).
		saw(proven).want(1, "asked offered asked offered probed first last init attested", "attested", netboot.Attested, false).
		saw(healthy, started, proven2(healthy), blessed, blessed).
		after(48*time.Hour).want(1, "asked offered asked offered probed first last init attested healthy released", "healthy, its release is good", Released, false)
	b := p.l.Of(mac, p.now)[0]
	if b.Host != "web-1" || b.Release != "hello-1.0.0" || b.Method != netboot.TFTP || b.Addr != "10.0.0.7" || !b.Begun.Equal(begin.Add(time.Second)) {
		t.Errorf("%+v", b)
	}
	if at := b.Steps[5].Time.Sub(b.Begun); at != 5*time.Second { // the first byte
		t.Errorf("the first byte is at %v", at)
	}
	if p.l.At(addr.Addr()) != mac {
		t.Error("the address is not the machine's")
	}
}

// proven2 is the same with other words.
func proven2(e netboot.Event) netboot.Event { e.Detail = "again"; return e }

// TestDeaths: each boot that goes no further names the stage in which it died.
func TestDeaths(t *testing.T) {
	const hour = time.Hour
	denied := netboot.Event{Stage: netboot.Refused, Addr: addr, Method: netboot.HTTP, Path: path, Detail: "403"}
	root := func(stage netboot.Stage, n int64) netboot.Event {
		return netboot.Event{Stage: stage, Addr: addr, Method: netboot.HTTP, Path: "root/ab", Size: 1000, Bytes: n}
	}
	shake := netboot.Event{Stage: netboot.Refused, Addr: addr, MAC: mac, Method: netboot.HTTPS, Detail: "TLS handshake: bad certificate"}
	wrong := netboot.Event{Stage: Untrusted, MAC: mac, Detail: "pcr.mismatch"}
	for name, c := range map[string]struct {
		events  []netboot.Event
		outcome string
		stage   netboot.Stage
		died    bool
	}{
		"no answer":          {[]netboot.Event{asked}, "asked, never answered", netboot.Asked, true},
		"offer not taken":    {[]netboot.Event{asked, offered}, "offered, never fetched", netboot.Offered, true},
		"size only":          {[]netboot.Event{asked, offered, probed}, "asked for the size, never fetched", netboot.Probed, true},
		"silent download":    {[]netboot.Event{asked, offered, probed, first}, "download of hello-1.0.0.efi never ended", netboot.First, true},
		"download broken":    {[]netboot.Event{asked, offered, probed, first, broken}, "download of hello-1.0.0.efi broken at 42 %", netboot.Broken, true},
		"kernel died":        {[]netboot.Event{asked, offered, first, last}, "loaded hello-1.0.0.efi, never attested", netboot.Last, true},
		"last ACK lost":      {[]netboot.Event{asked, offered, first, broken, started}, "ingot-init started, never attested", netboot.Started, true},
		"last ACK not seen":  {[]netboot.Event{asked, offered, first, started}, "ingot-init started, never attested", netboot.Started, true},
		"init died":          {[]netboot.Event{asked, offered, first, last, started}, "ingot-init started, never attested", netboot.Started, true},
		"root broken":        {[]netboot.Event{asked, offered, first, last, started, root(netboot.First, 0), root(netboot.Broken, 10)}, "download of root/ab broken at 1 %", netboot.Broken, true},
		"never healthy":      {[]netboot.Event{asked, offered, first, last, started, root(netboot.First, 0), root(netboot.Last, 1000), proven}, "attested, never healthy", netboot.Attested, true},
		"not trusted":        {[]netboot.Event{asked, offered, first, last, started, wrong}, "not trusted: pcr.mismatch", Untrusted, true},
		"trusted later":      {[]netboot.Event{asked, offered, first, last, wrong, healthy}, "healthy", netboot.Healthy, false},
		"told no":            {[]netboot.Event{asked, toldNo}, "told no: deny list: sold", netboot.Refused, false},
		"decided otherwise":  {[]netboot.Event{asked, offered, denied}, "told no for hello-1.0.0.efi: 403", netboot.Refused, true},
		"no TLS":             {[]netboot.Event{asked, offered, shake}, "told no for https: TLS handshake: bad certificate", netboot.Refused, true},
		"TLS when it runs":   {[]netboot.Event{asked, offered, first, last, proven, healthy, shake}, "healthy", netboot.Healthy, false},
		"offered after a no": {[]netboot.Event{asked, toldNo, asked, offered}, "offered, never fetched", netboot.Offered, true},
		"broken, then again": {[]netboot.Event{asked, offered, first, broken, first, last}, "loaded hello-1.0.0.efi, never attested", netboot.Last, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := play(t).saw(c.events...)
			stages := []string{}
			for _, e := range c.events {
				stages = append(stages, string(e.Stage))
			}
			p.after(hour).want(1, strings.Join(stages, " "), c.outcome, c.stage, c.died)
		})
	}
}

// TestSecondBoot: a reset begins another boot, and the one before is over even when
// it was only a moment ago.
func TestSecondBoot(t *testing.T) {
	p := play(t).saw(asked, offered, probed, first, last).saw(asked, offered, probed, first, broken)
	p.want(2, "asked offered probed first broken", "download of hello-1.0.0.efi broken at 42 %", netboot.Broken, true)
	if b := p.l.Of(mac, p.now)[0]; !b.Died || b.Stage != netboot.Last {
		t.Errorf("the boot before: %+v", b)
	}
	// A reset while ingot-init has only just asked.
	play(t).saw(asked, offered, first, last, started).saw(asked, offered).want(2, "asked offered", "offered", netboot.Offered, false)
	// Firmware that keeps its address over a reset, and one whose first question another
	// server answered.
	play(t).saw(asked, offered, first, last).saw(first).want(2, "first", "loads hello-1.0.0.efi", netboot.First, false)
	play(t).saw(asked, offered, first, last, proven).saw(proven).want(2, "attested", "attested", netboot.Attested, false)
	play(t).saw(asked, toldNo).after(2*time.Minute).saw(asked, toldNo).want(2, "asked refused", "told no: deny list: sold", netboot.Refused, false)
}

// TestChain: iPXE asks again in the same boot, when it was loaded by it; iPXE that is
// the firmware begins one.
func TestChain(t *testing.T) {
	loader := func(stage netboot.Stage) netboot.Event {
		e := first
		e.Stage, e.Path, e.Release = stage, "boot/525400000001/snponly.efi", "snponly"
		return e
	}
	p := play(t).saw(asked, offered, loader(netboot.First), loader(netboot.Last), chained, asked, offered, first, last)
	p.want(1, "asked offered first last ipxe asked offered first last", "loaded hello-1.0.0.efi", netboot.Last, false)
	if b := p.l.Of(mac, p.now)[0]; b.Release != "hello-1.0.0" {
		t.Errorf("the release is %q", b.Release)
	}
	play(t).saw(asked, offered, loader(netboot.First), loader(netboot.Last), chained).after(time.Hour).
		want(1, "asked offered first last ipxe", "iPXE runs, fetched nothing", Chained, true)
	play(t).saw(chained, asked, offered, first, last).after(30*time.Second).saw(chained, asked, offered).
		want(2, "asked offered", "offered", netboot.Offered, false)
}

// TestStrayWords: what is of no boot makes none, and a machine that runs renews its
// address without a trace.
func TestStrayWords(t *testing.T) {
	p := play(t).saw(started, chained, netboot.Event{Stage: netboot.First, Addr: addr, Path: "root/ab"})
	if list := p.l.Of(mac, p.now); len(list) != 0 || len(p.l.Machines(p.now)) != 0 {
		t.Errorf("%+v", list)
	}
	play(t).saw(asked, offered, first, last, proven).after(time.Hour).saw(started).
		want(1, "asked offered first last attested", "attested, never healthy", netboot.Attested, true)
}

// TestBounds: forged addresses, and a machine that asks without end, take bounded
// memory; what was seen last is kept.
func TestBounds(t *testing.T) {
	l := New(Options{Hosts: 100, Boots: 3, Steps: 10})
	at := begin
	for i := range 5000 {
		at = at.Add(time.Second)
		m := netboot.MAC{2, 0, 0, 0, byte(i >> 8), byte(i)}
		a := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 9)
		l.Saw(netboot.Event{Time: at, Stage: netboot.Offered, MAC: m})
		l.Saw(netboot.Event{Time: at, Stage: netboot.First, MAC: m, Addr: a})
		l.Saw(netboot.Event{Time: at, Stage: netboot.Offered, MAC: mac, Detail: strings.Repeat("x", 9999)})
		l.Saw(netboot.Event{Time: at, Stage: netboot.First, MAC: mac, Addr: a, Path: "boot/525400000001/" + fmt.Sprint(i%3), Detail: fmt.Sprint(i)})
	}
	list := l.Machines(at)
	if len(list) != 100 || list[0].MAC != mac || len(l.addrs) > 100*maxAddrs {
		t.Errorf("%d machines, %d addresses, %s first", len(list), len(l.addrs), list[0].MAC)
	}
	boots := l.Of(mac, at)
	if len(boots) > 4 {
		t.Errorf("%d boots", len(boots))
	}
	for _, b := range boots {
		if len(b.Steps) > 10 {
			t.Errorf("%d steps", len(b.Steps))
		}
		for _, s := range b.Steps {
			if len(s.Detail) > 200 {
				t.Errorf("a detail of %d bytes", len(s.Detail))
			}
		}
	}
}

// TestKept: what was kept is there again, with its addresses; what was forgotten is
// told so, and garbage is an error.
func TestKept(t *testing.T) {
	p := play(t).saw(asked, offered, probed, first, last, proven, healthy)
	list, err := p.l.Changed(10)
	if err != nil || len(list) != 1 || list[0].MAC != mac {
		t.Fatalf("%+v, %v", list, err)
	}
	if more, _ := p.l.Changed(10); len(more) != 0 {
		t.Errorf("nothing has changed, and %d are to be kept", len(more))
	}
	again := &tape{t, New(Options{}), p.now}
	if err := again.l.Load([][]byte{list[0].Body}); err != nil {
		t.Fatal(err)
	}
	again.want(1, "asked offered probed first last attested healthy", "healthy", netboot.Healthy, false)
	if again.l.At(addr.Addr()) != mac {
		t.Error("its address is forgotten")
	}
	again.saw(blessed).want(1, "asked offered probed first last attested healthy released", "healthy, its release is good", Released, false)
	for _, bad := range []string{"", "{", `{"mac":"52:54:00:00:00:01","boots":[{}]}`} {
		if err := New(Options{}).Load([][]byte{[]byte(bad)}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	small := New(Options{Hosts: 1})
	for _, m := range []netboot.MAC{mac, {2}} {
		small.Saw(netboot.Event{Time: begin, Stage: netboot.First, MAC: m})
		if list, err = small.Changed(10); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range list {
		if (k.MAC == mac) != (k.Body == nil) {
			t.Errorf("%s: %s", k.MAC, k.Body)
		}
	}
	if len(list) != 2 {
		t.Errorf("%+v", list)
	}
}

// TestNotKept: what could not be kept is given again, also that a machine is forgotten; of
// one that never was kept there is nothing to remove.
func TestNotKept(t *testing.T) {
	l := New(Options{Hosts: 1})
	saw := func(stage netboot.Stage, n byte) {
		l.Saw(netboot.Event{Time: begin, Stage: stage, MAC: netboot.MAC{2, n}})
	}
	given := func() (list []Record, text string) {
		list, err := l.Changed(10)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, k := range list {
			out = append(out, fmt.Sprint(k.MAC[1], k.Body != nil))
		}
		slices.Sort(out)
		return list, strings.Join(out, ", ")
	}
	for i, step := range []struct {
		stage netboot.Stage
		n     byte
		kept  bool
		then  byte // seen while that is written; 0: nobody
		want  string
	}{
		{netboot.First, 1, false, 0, "1 true"},
		{netboot.First, 2, false, 0, "2 true"}, // 1 is forgotten, and was never kept
		{netboot.Last, 2, true, 0, "2 true"},
		{netboot.First, 3, false, 0, "2 false, 3 true"},
		{netboot.Last, 3, false, 0, "2 false, 3 true"},
		{netboot.Asked, 2, true, 0, ""}, // it is there again, and makes room again
		{netboot.First, 3, true, 0, "2 false, 3 true"},
		{netboot.First, 4, false, 5, "3 false, 4 true"},
		{netboot.First, 5, true, 0, "3 false, 5 true"},
	} {
		saw(step.stage, step.n)
		list, got := given()
		if got != step.want {
			t.Errorf("step %d gives %q, want %q", i+1, got, step.want)
		}
		if step.then != 0 {
			saw(netboot.First, step.then)
		}
		if !step.kept {
			l.NotKept(list)
		}
	}
}

// TestPassersBy: who looks at the server from a machine's address, and not as a boot does,
// is none of the machine's boots: neither of one that is long over nor of one under way.
func TestPassersBy(t *testing.T) {
	at := func(stage netboot.Stage, m netboot.Method, path string) netboot.Event {
		return netboot.Event{Stage: stage, Addr: addr, Method: m, Path: path, Detail: "404: no such file"}
	}
	shake := netboot.Event{Stage: netboot.Refused, Addr: addr, Method: netboot.HTTPS, Detail: "TLS handshake: bad certificate"}
	looks := []netboot.Event{at(netboot.Refused, netboot.HTTP, `"/"`), at(netboot.Refused, netboot.HTTPS, `"/"`), at(netboot.Refused, netboot.HTTP, "index.html"),
		at(netboot.Refused, netboot.HTTP, "boot/hello-1.0.0.efi"), at(netboot.Refused, netboot.TFTP, ""), at(netboot.Refused, netboot.TFTP, "pxelinux.0"), shake}
	p := play(t).saw(asked, offered, probed, first, last, proven, healthy).after(time.Hour).saw(looks...)
	p.want(1, "asked offered probed first last attested healthy", "healthy", netboot.Healthy, false)
	play(t).saw(asked, offered, probed).saw(looks[:len(looks)-1]...).want(1, "asked offered probed", "asked for the size", netboot.Probed, false)
	play(t).saw(asked, offered, first, last, asked, toldNo).after(time.Minute).saw(looks...).want(2, "asked refused", "told no: deny list: sold", netboot.Refused, false)
	// What a boot does, and its address alone tells whose it is.
	o := offered
	o.Addr = addr
	play(t).saw(asked, o, shake).want(1, "asked offered refused", "told no for https: TLS handshake: bad certificate", netboot.Refused, true)
	play(t).saw(asked, offered, first, last, started, at(netboot.Refused, netboot.HTTP, "root/ab")).after(time.Hour).
		want(1, "asked offered first last init refused", "ingot-init started, never attested", netboot.Started, true)
}
