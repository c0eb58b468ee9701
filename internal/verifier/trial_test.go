package verifier

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/eventlog"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/statement"
	"github.com/ingot-os/ingot/attest/tpm"
	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/internal/simhost"
	"github.com/ingot-os/ingot/internal/tpmtest"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// variable is the event of a boot variable in PCR 1 (PFP section 10.2.6).
func variable(name string, value ...byte) eventlog.Event {
	d := append([]byte(nil), efivar.Global[:]...)
	d = binary.LittleEndian.AppendUint64(d, uint64(len(name)))
	d = binary.LittleEndian.AppendUint64(d, uint64(len(value)))
	for _, c := range []byte(name) {
		d = append(d, c, 0)
	}
	return eventlog.Event{PCR: 1, Type: eventlog.VariableBoot, Data: append(d, value...)}
}

// restarts turns the machine off and on: the same firmware starts what a path of
// a reference expects, from a slot, with the boot variables of PCR 1 as given.
// A name in edited gets another digest than the release has.
func (m *machine) restarts(p attest.Path, slot, edited string, variables ...eventlog.Event) {
	m.t.Helper()
	m.tpm.Close()
	m.e.Kill()
	m.e = tpmtest.Start(m.t, m.e.Dir)
	m.open()
	b, err := simhost.ReadBoot(recording)
	m.must(err)
	l, err := eventlog.Parse(b.Log)
	m.must(err)
	m.log, m.init = eventlog.AppendHeader(nil, l.Banks...), eventlog.AppendHeader(nil, l.Banks...)
	expected := map[uint32][]attest.Expected{}
	for _, x := range p.Events {
		expected[uint32(x.PCR)] = append(expected[uint32(x.PCR)], x)
	}
	for i := range l.Events[1:] {
		e := &l.Events[1+i]
		digests := map[pcr.Bank]pcr.Digest{}
		for _, bank := range l.Banks {
			digests[bank] = e.Digest(bank)
		}
		if x := expected[e.PCR]; len(x) > 0 && e.Type == x[0].Type {
			if d, ok := x[0].Digests[pcr.SHA256]; ok {
				digests[pcr.SHA256] = d
			}
			if x[0].Name == edited {
				digests[pcr.SHA256] = pcr.SHA256.Sum([]byte("edited"))
			}
			expected[e.PCR] = x[1:]
		}
		if e.PCR == 1 && e.Type == eventlog.VariableBoot {
			continue // the variables are others now
		}
		if e.PCR == 1 && e.Type == eventlog.Separator {
			for _, v := range variables {
				m.extends(&m.log, l.Banks, v, nil)
			}
		}
		m.extends(&m.log, l.Banks, *e, digests)
	}
	s := statement.Statement{Slot: slot, Boot: "disk"}
	m.extends(&m.init, l.Banks, eventlog.Event{PCR: statement.PCR, Type: eventlog.IPL, Data: s.Data()}, nil)
	m.extends(&m.init, l.Banks, eventlog.Event{PCR: 11, Type: eventlog.IPL, Data: []byte("services")}, nil)
}

// extends writes an event into a log and the TPM; without digests they are of
// its data.
func (m *machine) extends(log *[]byte, banks []pcr.Bank, e eventlog.Event, digests map[pcr.Bank]pcr.Digest) {
	m.t.Helper()
	if digests == nil {
		digests = map[pcr.Bank]pcr.Digest{}
		for _, bank := range banks {
			digests[bank] = bank.Sum(e.Data)
		}
	}
	var err error
	*log, err = eventlog.AppendEvent(*log, e.PCR, e.Type, e.Data, banks, digests)
	m.must(err)
	if e.Type != eventlog.NoAction {
		m.must(m.tpm.Extend(int(e.PCR), digests))
	}
}

func disk(t *testing.T, ref attest.Reference) attest.Path {
	t.Helper()
	for _, p := range ref.Paths {
		if p.Boot == "disk" && p.SecureBoot {
			return p
		}
	}
	t.Fatal("no path from a disk")
	return attest.Path{}
}

// TestTrial is an update as the server sees it: the version before and the one
// on trial are both trusted until the bless and after it, from either slot and
// with any boot variables; what is neither is refused, and gets no certificate.
func TestTrial(t *testing.T) {
	t.Parallel()
	x := open(t, nil)
	old, new := disk(t, later(t, first)), disk(t, later(t, next))
	base := int64(x.m.counter().Value)
	boots := func(what string, p attest.Path, slot, edited, version string, code attest.Code, variables ...eventlog.Event) {
		t.Helper()
		x.m.restarts(p, slot, edited, variables...)
		x.channel = x.served.channel() // a key for each boot
		answer, got := x.m.answered(x.channel, base)
		if (answer.Certificate != nil) != (code == "") || answer.Trusted != (code == "") {
			t.Errorf("%s: trusted %v, %d certificates", what, answer.Trusted, len(answer.Certificate))
		}
		x.cert = tls.Certificate{Certificate: answer.Certificate, PrivateKey: x.channel.cert.PrivateKey}
		d := x.detail("a")
		if got != code || code == "" && (d.Last.Version != version || d.Last.Slot != slot || d.Verdict.SlotBy != "init" || d.Last.Arch != "amd64") {
			t.Errorf("%s: %q, %s in slot %s, want %q, %s in slot %s", what, got, d.Last.Version, d.Last.Slot, code, version, slot)
		}
	}
	order := func(list ...byte) eventlog.Event { return variable("BootOrder", list...) }
	boots("before the update", old, "a", "", "1.0.0", "", order(1, 0, 2, 0))
	x.assigns("1.1.0", func(a *Action) { a.Approved = true })
	boots("on trial, by BootNext", new, "b", "", "1.1.0", "", variable("BootNext", 2, 0), order(1, 0, 2, 0))
	boots("back after a failure", old, "a", "", "1.0.0", "", order(1, 0, 2, 0))
	boots("the new one is not what was signed", new, "b", ".initrd", "", attest.ImageUnknown, variable("BootNext", 2, 0), order(1, 0, 2, 0))
	boots("on trial again, other variables", new, "b", "", "1.1.0", "", variable("BootNext", 2, 0), variable("BootOrder"), variable("Boot0007", 1, 2, 3))
	boots("blessed", new, "b", "", "1.1.0", "", order(2, 0, 1, 0))
	boots("the old one still", old, "a", "", "1.0.0", "", order(2, 0, 1, 0))
	boots("the new one in the other slot", new, "a", "", "1.1.0", "", order(1, 0, 2, 0))

	// The bless raises the counter to the epoch of the release; now the old one
	// is refused wherever it comes from.
	for range 2 {
		_, err := x.m.tpm.Increment(tpm.FloorIndex)
		x.m.must(err)
	}
	boots("raised", new, "b", "", "1.1.0", "", order(2, 0, 1, 0))
	if d := x.detail("a"); d.Floor != 2 {
		t.Errorf("floor %d", d.Floor)
	}
	if code := x.tells(slots(nil)); code != "" { // it says floor 1
		t.Fatal(code)
	}
	var e *APIError
	if _, err := x.orders(Action{Action: ActionAssign, Release: "1.0.0", Override: true}); !errors.As(err, &e) || e.Code != updateapi.BelowFloor {
		t.Errorf("back below the floor: %v", err)
	}
	boots("rolled back below the floor", old, "a", "", "", attest.VersionFloor, order(1, 0, 2, 0))
}

// TestTwins: of two releases of one name and version the host runs the one whose
// reference its boot matches.
func TestTwins(t *testing.T) {
	t.Parallel()
	x := open(t, nil)
	twin := first
	twin.arch, twin.layout, twin.twin = "arm64", "l2", true
	digest := twin.write(t, x.dir+"/a-twin", x.signer)
	x.load(x.signer)
	for _, c := range []struct {
		made   made
		digest string
	}{{first, x.digests["1.0.0"]}, {twin, digest}, {first, x.digests["1.0.0"]}} {
		x.m.restarts(disk(t, later(t, c.made)), "a", "")
		x.channel = x.served.channel()
		x.trusted()
		l := x.detail("a").Last
		if l.Version != "1.0.0" || len(l.Manifests) != 1 || l.Manifests[0] != c.digest || l.Arch != c.made.arch || l.Layout != c.made.layout {
			t.Errorf("%+v, want %s for %s", l, c.digest, c.made.arch)
		}
	}
}
