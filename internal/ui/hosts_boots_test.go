package ui

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/bootrule"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/timeline"
	"github.com/ingot-os/ingot/internal/verifier"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// lines are what was printed, without blanks at their ends.
func lines(b *bytes.Buffer) string { return strings.TrimSpace(b.String()) }

func TestBoots(t *testing.T) {
	var out, errs bytes.Buffer
	u := New(&out, &errs)
	line := func(last, outcome string, stage netboot.Stage, died bool) verifier.BootLine {
		l := verifier.BootLine{MAC: "52:54:00:00:00:01", Host: "web-1", Would: "hello-1.0.0", Why: "default", Last: last, Outcome: outcome, Stage: stage, Died: died}
		if outcome != "" {
			l.Seen = hostsNow.Add(-3 * time.Minute)
		}
		return l
	}
	l := &verifier.BootList{Now: hostsNow, Machines: []verifier.BootLine{
		line("hello-1.0.0", "healthy", netboot.Healthy, false),
		line("hello-1.0.0", "download of hello-1.0.0.efi broken at 3 %", netboot.Broken, true),
		line("hello-1.0.0", "attested, never healthy", netboot.Attested, true),
		line("", "told no: deny list: sold", netboot.Refused, false),
		line("", "told no for x.efi: 403", netboot.Refused, true),
		line("", "", "", false),
		line("hello-1.0.0", "", "", false),
	}}
	if err := u.Hosts(&verifier.List{Now: hostsNow}, l); err != nil {
		t.Fatal(err)
	}
	want := `no hosts yet

MACHINE            HOST   WOULD BOOT   BECAUSE  LAST BOOT                                            SEEN
52:54:00:00:00:01  web-1  hello-1.0.0  default  hello-1.0.0: healthy                                 3 min ago
52:54:00:00:00:01  web-1  hello-1.0.0  default  DIED: download of hello-1.0.0.efi broken at 3 %      3 min ago
52:54:00:00:00:01  web-1  hello-1.0.0  default  hello-1.0.0: DIED: attested, never healthy           3 min ago
52:54:00:00:00:01  web-1  hello-1.0.0  default  told no                                              3 min ago
52:54:00:00:00:01  web-1  hello-1.0.0  default  DIED: told no for x.efi: 403                         3 min ago
52:54:00:00:00:01  web-1  hello-1.0.0  default  -                                                    never
52:54:00:00:00:01  web-1  hello-1.0.0  default  hello-1.0.0                                          never`
	if squeeze(lines(&out)) != squeeze(want) {
		t.Errorf("%s\nwant\n%s", out.String(), want)
	}
}

// squeeze makes one blank of several: columns are the table's business.
func squeeze(s string) string {
	for strings.Contains(s, "  ") {
		s = strings.ReplaceAll(s, "  ", " ")
	}
	return s
}

func sampleMachine() verifier.BootMachine {
	return verifier.BootMachine{
		BootLine: verifier.BootLine{MAC: "52:54:00:00:00:01", Host: "web-1", Would: "hello-1.1.0", Why: "rule 2, slots: try 1 of hello-1.1.0", Last: "hello-1.0.0", Outcome: "healthy", Seen: hostsNow.Add(-2 * time.Hour)},
		Arch:     "UEFI x86-64 (7)", UUID: "4c4c4544-0034-5310-8052-b4c04f4e4d32", Serial: "CZ\x1b[2J77", Reported: hostsNow.Add(-time.Hour), EK: "0123456789abcdef",
		Path: "boot/525400000001/hello-1.1.0.efi", Trial: true,
		Steps: []bootrule.Step{{What: "deny 1", Why: "mac 52:54:00:00:00:01 is not 52:54:66:*"}, {What: "rule 2", Matched: true, Why: "serial CZ77"}},
	}
}

func TestExplain(t *testing.T) {
	var out, errs bytes.Buffer
	u := New(&out, &errs)
	stranger := verifier.BootMachine{BootLine: verifier.BootLine{MAC: "52:54:00:00:00:02", Would: "local", Why: "default: local boot"}, Arch: "BIOS (0)", Claimed: "11111111-2222-3333-4444-555555555555", Note: "a note", Quarantine: "odd", ClaimedHost: "web-7"}
	d := &verifier.BootDetail{Now: hostsNow, Name: "web-1", Ticket: &bootrule.Ticket{Kind: bootrule.Install, By: "alice", Expires: hostsNow}, Machines: []verifier.BootMachine{sampleMachine(), stranger},
		Attempt: &fleet.Attempt{Stem: "hello-1.1.0", Opened: hostsNow, Until: hostsNow.Add(15 * time.Minute)}}
	if err := u.Explain(d); err != nil {
		t.Fatal(err)
	}
	got := squeeze(out.String())
	for _, want := range []string{
		"UUID 4c4c4544-0034-5310-8052-b4c04f4e4d32, reported 1 h ago by an image that was trusted\n",
		"EK 0123456789abcdef, of its enrolment\n", "boots hello-1.1.0, as a try\n", "ticket install by alice, until ", "last boot hello-1.0.0: healthy, 2 h ago\n",
		" no deny 1 mac 52:54:00:00:00:01 is not 52:54:66:*\n yes rule 2 serial CZ77\n",
		"\nmachine 52:54:00:00:00:02\nhost -\nattested as web-7\n", "UUID 11111111-2222-3333-4444-555555555555, as it says itself: not proven\n", "boots nothing from here: its next boot option, at once\n", "note a note\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("nothing says %q:\n%s", want, got)
		}
	}
	if !strings.Contains(errs.String(), "it attested as, web-7? Then: ingot hosts 52:54:00:00:00:02 --unquarantine") || strings.Contains(errs.String(), "00:01 --un") {
		t.Errorf("hints: %s", errs.String())
	}
	if strings.Contains(got, "\x1b") {
		t.Error("a serial number paints on the terminal")
	}
	out.Reset()
	if err := u.Explain(&verifier.BootDetail{Name: "web-9"}); err != nil || lines(&out) != "web-9: no MAC address of it is known: it has not been started over the network" {
		t.Errorf("%q, %v", out.String(), err)
	}
}

// TestTimeline: a story with times; the abort after the size is not told, the stage
// of a death is.
func TestTimeline(t *testing.T) {
	var out, errs bytes.Buffer
	u := New(&out, &errs)
	at := func(s float64) time.Time { return hostsNow.Add(time.Duration(s * float64(time.Second))) }
	good := timeline.Boot{Begun: at(0), Host: "web-1", Release: "hello-1.0.0", Method: netboot.TFTP, Addr: "10.0.0.7", Outcome: "healthy, its release is good", Stage: timeline.Released, Steps: []timeline.Step{
		{Time: at(0), Stage: netboot.Asked, Detail: "DISCOVER on eth1", Times: 2},
		{Time: at(1.2), Stage: netboot.Probed, Path: "hello-1.0.0.efi", Size: 24 << 20, Detail: `the client broke off: error 8 "User aborted"`},
		{Time: at(1.5), Stage: netboot.First, Path: "hello-1.0.0.efi", Size: 24 << 20, Bytes: 1468},
		{Time: at(2.7), Stage: netboot.Last, Path: "hello-1.0.0.efi", Size: 24 << 20, Bytes: 24 << 20},
		{Time: at(9), Stage: netboot.Started},
		{Time: at(10), Stage: netboot.Attested, Detail: "pxe"},
		{Time: at(80), Stage: timeline.Released},
		{Time: at(90), Stage: "later"},
	}}
	bad := timeline.Boot{Begun: at(100), Outcome: "download of hello-1.0.0.efi broken at 50 %", Stage: netboot.Broken, Died: true, Steps: []timeline.Step{
		{Time: at(100.1), Stage: netboot.Broken, Path: "hello-1.0.0.efi", Size: 24 << 20, Bytes: 12 << 20, Detail: "no answer"}}}
	d := &verifier.BootDetail{Now: hostsNow, Machines: []verifier.BootMachine{{BootLine: verifier.BootLine{MAC: "52:54:00:00:00:01"}, Boots: []timeline.Boot{good, bad}}}}
	if err := u.Timeline(d); err != nil {
		t.Fatal(err)
	}
	want := at(0).Local().Format("2006-01-02 15:04:05") + ` 52:54:00:00:00:01 web-1 hello-1.0.0 tftp 10.0.0.7: healthy, its release is good
 +0.0 s asked DISCOVER on eth1, 2 times
 +1.2 s asked for the size hello-1.0.0.efi, 24 MiB
 +1.5 s first byte hello-1.0.0.efi, 24 MiB
 +2.7 s last byte hello-1.0.0.efi, 24 MiB, in 1.2 s
 +9.0 s ingot-init runs
 +10.0 s attested pxe
 +80.0 s release is good
 +90.0 s later

` + at(100).Local().Format("2006-01-02 15:04:05") + ` 52:54:00:00:00:01: DIED: download of hello-1.0.0.efi broken at 50 %
 +0.1 s broken off hello-1.0.0.efi, 12 MiB of 24 MiB, no answer`
	if got := squeeze(lines(&out)); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if !strings.Contains(errs.String(), `says what to do when the last that is seen is "broken"`) {
		t.Errorf("no hint: %s", errs.String())
	}
	out.Reset()
	if err := u.Timeline(&verifier.BootDetail{Name: "web-9"}); err != nil || lines(&out) != "web-9: no boot over the network was seen" {
		t.Errorf("%q, %v", out.String(), err)
	}
}
