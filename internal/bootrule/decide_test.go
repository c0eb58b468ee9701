package bootrule

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/pxe/netboot"
)

var now = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

func mac(s string) netboot.MAC {
	m, err := netboot.ParseMAC(s)
	if err != nil {
		panic(err)
	}
	return m
}

func release(name, version, arch string, epoch int64) Release {
	return Release{Digest: fmt.Sprintf("%x", name+version+arch), Name: name, Version: version, Arch: arch, Epoch: epoch}
}

var releases = []Release{
	release("hello", "1.9.0", "amd64", 1), release("hello", "1.10.0", "amd64", 1), release("hello", "1.10.0", "arm64", 1),
	release("hello", "0.1.0", "amd64", 0), release("db", "2.0", "amd64", 0), release("rescue", "1", "amd64", 0),
}

const rulesText = `format: 1
groups:
  web: {mac: ["52:54:00:00:00:01", "52:54:01:*"], serial: ["CZ*"]}
  db: {host: [db-1]}
deny:
  - {mac: ["52:54:66:*"], reason: sold}
rules:
  - {name: lab, subnet: [10.1.0.0/16], arch: [x64], boot: hello@1.9.0}
  - {group: [web], boot: hello}
  - {group: [db], boot: db, chain: ipxe}
  - {asset: [old-*], boot: local}
  - {ek: [0123456789abcdef], boot: "program:memtest"}
  - {uuid: [4c4c4544-0034-5310-8052-b4c04f4e4d32], boot: hello@3.0}
  - {arch: [arm64], boot: db}
default: local
rescue: rescue
programs:
  memtest: {file: m.efi, sha256: "0000000000000000000000000000000000000000000000000000000000000000"}
`

func TestDecide(t *testing.T) {
	r := parse(t, rulesText)
	web := Facts{MAC: mac("52:54:00:00:00:01"), Arch: netboot.EFIX64}
	with := func(f func(*Facts)) Facts { x := web; f(&x); return x }
	other := with(func(f *Facts) { f.MAC = mac("52:54:99:00:00:01") })
	ticket := func(kind, target string) *Ticket {
		k := &Ticket{Kind: kind, By: "alice", At: now, Expires: now.Add(time.Hour)}
		if target != "" {
			k.Target, _ = ParseTarget(target)
		}
		return k
	}
	serves := func(version string, trial bool) func(Release, bool) Peeked {
		return func(Release, bool) Peeked {
			for _, x := range releases {
				if x.Name == "hello" && x.Version == version && x.Arch == "amd64" {
					return Peeked{x.Digest, trial, "as the slots say"}
				}
			}
			return Peeked{Why: "nothing is good"}
		}
	}
	for name, c := range map[string]struct {
		c            Case
		verb         netboot.Verb
		boots        string // NAME-VERSION, or program:NAME
		rule, reason string
	}{
		"group by mac":         {Case{Facts: web}, netboot.Boot, "hello-1.10.0", "rule 2", ""},
		"group by prefix":      {Case{Facts: with(func(f *Facts) { f.MAC = mac("52:54:01:ff:00:01") })}, netboot.Boot, "hello-1.10.0", "rule 2", ""},
		"group by serial":      {Case{Facts: Facts{MAC: mac("52:54:99:00:00:01"), Arch: netboot.EFIX64, Host: "x", Serial: "CZ17"}}, netboot.Boot, "hello-1.10.0", "rule 2", ""},
		"first rule counts":    {Case{Facts: with(func(f *Facts) { f.Addrs = []netip.Addr{netip.MustParseAddr("10.1.2.3")} })}, netboot.Boot, "hello-1.9.0", `rule 1 "lab"`, ""},
		"by its relay":         {Case{Facts: with(func(f *Facts) { f.Addrs = []netip.Addr{netip.MustParseAddr("::ffff:10.1.0.1")} })}, netboot.Boot, "hello-1.9.0", `rule 1 "lab"`, ""},
		"all keys must match":  {Case{Facts: with(func(f *Facts) { f.Addrs, f.Arch = []netip.Addr{netip.MustParseAddr("10.1.2.3")}, netboot.BIOS })}, netboot.Boot, "hello-1.10.0", "rule 2", ""},
		"chain":                {Case{Facts: with(func(f *Facts) { f.MAC, f.Host = other.MAC, "db-1" })}, netboot.Boot, "db-2.0", "rule 3", ""},
		"local":                {Case{Facts: with(func(f *Facts) { f.MAC, f.Asset = other.MAC, "old-7" })}, netboot.Refuse, "", "rule 4", "local boot"},
		"program by EK":        {Case{Facts: with(func(f *Facts) { f.MAC, f.EK = other.MAC, []string{"0123456789abcdef00"} })}, netboot.Boot, "program:memtest", "rule 5", ""},
		"program on BIOS":      {Case{Facts: with(func(f *Facts) { f.MAC, f.EK, f.Arch = other.MAC, []string{"0123456789abcdef00"}, netboot.BIOS })}, netboot.Refuse, "", "rule 5", "is for UEFI"},
		"no such release":      {Case{Facts: with(func(f *Facts) { f.MAC, f.UUID = other.MAC, "4c4c4544-0034-5310-8052-b4c04f4e4d32" })}, netboot.Refuse, "", "rule 6", "no release hello@3.0"},
		"zero UUID":            {Case{Facts: with(func(f *Facts) { f.MAC, f.UUID = other.MAC, "00000000-0000-0000-0000-000000000000" })}, netboot.Refuse, "", "default", "local boot"},
		"not for its arch":     {Case{Facts: with(func(f *Facts) { f.MAC, f.Arch = other.MAC, netboot.EFIARM64 })}, netboot.Refuse, "", "rule 7", "for amd64, not for arm64"},
		"arm64":                {Case{Facts: with(func(f *Facts) { f.Arch = netboot.HTTPARM64 })}, netboot.Boot, "hello-1.10.0", "rule 2", ""},
		"unknown architecture": {Case{Facts: with(func(f *Facts) { f.Arch = 1234 })}, netboot.Refuse, "", "rule 2", "unknown (1234)"},
		"default":              {Case{Facts: other}, netboot.Refuse, "", "default", "local boot"},
		"denied":               {Case{Facts: with(func(f *Facts) { f.MAC = mac("52:54:66:00:00:01") }), Ticket: ticket(Once, "hello")}, netboot.Refuse, "", "deny 1", "sold"},
		"quarantine":           {Case{Facts: with(func(f *Facts) { f.Quarantine = "booted as a, attested as b" }), Ticket: ticket(Once, "hello")}, netboot.Refuse, "", "quarantine", "attested as b"},
		"rescue":               {Case{Facts: web, Ticket: ticket(Rescue, "")}, netboot.Boot, "rescue-1", "ticket rescue", ""},
		"memtest":              {Case{Facts: web, Ticket: ticket(Memtest, "")}, netboot.Boot, "program:memtest", "ticket memtest", ""},
		"once":                 {Case{Facts: other, Ticket: ticket(Once, "hello@1.9.0")}, netboot.Boot, "hello-1.9.0", "ticket release", ""},
		"install by rules":     {Case{Facts: web, Ticket: ticket(Install, "")}, netboot.Boot, "hello-1.10.0", "ticket install", ""},
		"install of one":       {Case{Facts: other, Ticket: ticket(Install, "db")}, netboot.Boot, "db-2.0", "ticket install", ""},
		"install of nothing":   {Case{Facts: other, Ticket: ticket(Install, "")}, netboot.Refuse, "", "ticket install", "no release"},
		"ticket has ended":     {Case{Facts: web, Ticket: &Ticket{Kind: Rescue, Expires: now}}, netboot.Boot, "hello-1.10.0", "rule 2", ""},
		"ticket beats slots":   {Case{Facts: web, Ticket: ticket(Once, "db"), Peek: serves("0.1.0", false)}, netboot.Boot, "db-2.0", "ticket release", ""},
		"assigned":             {Case{Facts: web, Assigned: &Assigned{Digest: releases[0].Digest, By: "alice", Approved: true}}, netboot.Boot, "hello-1.9.0", "rule 2", "assigned by alice"},
		"assigned, gone":       {Case{Facts: web, Assigned: &Assigned{Digest: "00", By: "alice"}}, netboot.Boot, "hello-1.10.0", "rule 2", ""},
		"assigned, other arch": {Case{Facts: web, Assigned: &Assigned{Digest: releases[2].Digest, By: "alice"}}, netboot.Boot, "hello-1.10.0", "rule 2", ""},
		"assigned but local":   {Case{Facts: other, Assigned: &Assigned{Digest: releases[0].Digest, By: "alice"}}, netboot.Refuse, "", "default", "local boot"},
		"slots":                {Case{Facts: web, Peek: serves("1.9.0", false)}, netboot.Boot, "hello-1.9.0", "rule 2", "slots: as the slots say"},
		"slots are empty":      {Case{Facts: web, Peek: serves("7", false)}, netboot.Refuse, "", "rule 2", "nothing is good"},
	} {
		t.Run(name, func(t *testing.T) {
			c.c.Rules, c.c.Releases, c.c.Now = r, releases, now
			d := Decide(c.c)
			boots := d.Program
			if boots != "" {
				boots = "program:" + boots
			}
			if d.Release != nil {
				boots = d.Release.Stem()
			}
			if d.Verb != c.verb || boots != c.boots || d.Rule != c.rule || !strings.Contains(d.Reason, c.reason) {
				t.Errorf("%v %s by %s: %s\n%+v", d.Verb, boots, d.Rule, d.Reason, d.Steps)
			}
			if d.Release != nil && d.Chain != (d.Rule == "rule 3" || c.c.Facts.Arch == netboot.BIOS) {
				t.Errorf("chain %v", d.Chain)
			}
		})
	}
}

// TestZeroUUIDIsNobody: even rules that were not read from a file, which refuses such
// a UUID, name nobody by it.
func TestZeroUUIDIsNobody(t *testing.T) {
	target, err := ParseTarget("hello")
	if err != nil {
		t.Fatal(err)
	}
	for uuid, want := range map[string]netboot.Verb{"00000000-0000-0000-0000-000000000000": netboot.Refuse, "ffffffff-ffff-ffff-ffff-ffffffffffff": netboot.Refuse, "": netboot.Refuse, "4c4c4544-0034-5310-8052-b4c04f4e4d32": netboot.Boot} {
		r := &Rules{Format: Format, Rules: []Rule{{Match: Match{UUID: []UUID{UUID(uuid)}}, Boot: target}}}
		d := Decide(Case{Facts: Facts{MAC: mac("52:54:00:00:00:01"), UUID: uuid, Arch: netboot.EFIX64}, Rules: r, Releases: releases, Now: now})
		if d.Verb != want {
			t.Errorf("%q: %+v", uuid, d)
		}
	}
}

// anyCase makes a case out of a number.
func anyCase(r *Rules, seed uint64) Case {
	g := rand.New(rand.NewPCG(seed, 6))
	pick := func(list ...string) string { return list[g.IntN(len(list))] }
	arches := []netboot.Arch{netboot.BIOS, netboot.EFIX64, netboot.EFIBC, netboot.EFIARM64, netboot.HTTPX64, netboot.EFI32, netboot.Unknown, 77}
	c := Case{Rules: r, Releases: releases, Now: now, Facts: Facts{MAC: mac(pick("000000000000", "525400000001", "525401020304", "525466000000", "ffffffffffff")),
		Arch: arches[g.IntN(len(arches))], UUID: pick("", "00000000-0000-0000-0000-000000000000", "4c4c4544-0034-5310-8052-b4c04f4e4d32"),
		Host: pick("", "db-1", "web-1"), Serial: pick("", "CZ1", "x"), Asset: pick("", "old-1"), Quarantine: pick("", "", "", "odd")}}
	if g.IntN(2) == 0 {
		c.Facts.Addrs = []netip.Addr{netip.MustParseAddr(pick("10.1.0.7", "10.2.0.7", "fe80::1"))}
	}
	if g.IntN(2) == 0 {
		c.Ticket = &Ticket{Kind: pick(Install, Rescue, Memtest, Once, "odd"), Expires: now.Add(time.Duration(g.IntN(3)-1) * time.Hour)}
		c.Ticket.Target, _ = ParseTarget(pick("hello", "db@2.0", "local", "program:memtest", "sha256:00000000"))
	}
	if g.IntN(2) == 0 {
		c.Assigned = &Assigned{Digest: pick(releases[0].Digest, releases[2].Digest, "00"), By: "a", Approved: g.IntN(2) == 0}
	}
	if g.IntN(2) == 0 {
		p := Peeked{Digest: pick(releases[0].Digest, releases[1].Digest, releases[2].Digest, ""), Trial: g.IntN(2) == 0, Why: "x"}
		c.Peek = func(Release, bool) Peeked { return p }
	}
	return c
}

// TestTotal: every case has a decision with a reason, twice the same; what is
// booted is there and for the machine's processor, and a denied machine gets
// nothing.
func TestTotal(t *testing.T) {
	r := parse(t, rulesText)
	for i := range uint64(20_000) {
		c := anyCase(r, i)
		d, again := Decide(c), Decide(c)
		if !reflect.DeepEqual(d, again) {
			t.Fatalf("case %d is decided twice otherwise:\n%+v\n%+v", i, d, again)
		}
		if d.Reason == "" || d.Rule == "" || len(d.Steps) == 0 || d.Verb != netboot.Boot && d.Verb != netboot.Refuse {
			t.Fatalf("case %d has no decision: %+v", i, d)
		}
		if d.Verb == netboot.Boot && (d.Release == nil) == (d.Program == "") || d.Verb != netboot.Boot && (d.Release != nil || d.Program != "") {
			t.Fatalf("case %d boots two things or none: %+v", i, d)
		}
		if d.Release != nil && d.Release.Arch != c.Facts.Arch.GOARCH() {
			t.Fatalf("case %d: %s on %s", i, d.Release.Arch, c.Facts.Arch)
		}
		if (c.Facts.Quarantine != "" || c.Facts.MAC[2] == 0x66) && d.Verb != netboot.Refuse {
			t.Fatalf("case %d: a denied machine boots: %+v", i, d)
		}
	}
}
