package verifier

import (
	"context"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/tpm"
	"github.com/ingot-os/ingot/internal/attestapi"
	"github.com/ingot-os/ingot/internal/audit"
	"github.com/ingot-os/ingot/internal/reference"
	"github.com/ingot-os/ingot/internal/tpmtest"
)

// counter is that of a TPM whose deleted counter stood at 57.
func (m *machine) counter() tpm.Counter {
	m.t.Helper()
	c, err := m.tpm.DefineCounter(tpm.FloorIndex)
	for err == nil && c.Value < 57 {
		c, err = m.tpm.Increment(tpm.FloorIndex)
	}
	m.must(err)
	return m.renewed()
}

// renewed deletes the counter and makes it anew.
func (m *machine) renewed() tpm.Counter {
	m.t.Helper()
	m.must(m.tpm.DeleteCounter(tpm.FloorIndex))
	c, err := m.tpm.DefineCounter(tpm.FloorIndex)
	m.must(err)
	return c
}

// counted is one round with what the TPM says about its counter; base is that
// of the data volume.
func (m *machine) counted(c *channel, base int64) attest.Code {
	m.t.Helper()
	_, code := m.answered(c, base)
	return code
}

// answered is counted with the whole answer.
func (m *machine) answered(c *channel, base int64) (a attestapi.Answer, code attest.Code) {
	m.t.Helper()
	ch, code := c.ask("a")
	if code != "" {
		return a, code
	}
	e := m.evidence(c, "a", ch)
	n, err := m.tpm.Counter(tpm.FloorIndex)
	m.must(err)
	extra := attest.Challenge{Nonce: ch.Nonce, ServerID: c.s.serverID, ChannelKey: c.id}.ExtraData()
	x, err := m.tpm.CertifyCounter(m.ak, n, extra)
	m.must(err)
	epoch := int64(n.Value) - base
	e.Floor = &attest.FloorProof{Attest: x.Attest, Signature: x.Signature, Epoch: &epoch}
	return c.answer(e)
}

// sold are releases of several epochs; only the first is the recorded boot.
func sold(t testing.TB, epochs ...int64) *Catalog {
	t.Helper()
	c := recorded(t, epochs[0])
	for _, n := range epochs[1:] {
		ref := recorded(t, n).references[0]
		ref.Version = "later"
		for _, p := range ref.Paths {
			for _, x := range p.Events {
				x.Digests[pcr.SHA256] = pcr.SHA256.Sum([]byte("later"))
			}
		}
		document, err := reference.Marshal(&ref)
		if err != nil {
			t.Fatal(err)
		}
		r := Release{Name: ref.Name, Version: ref.Version, Epoch: n, Sum: audit.Sum(document), document: document, parsed: ref}
		c.Releases, c.references, c.sums = append(c.Releases, r), append(c.references, ref), append(c.sums, r.Sum)
	}
	return c
}

func (s *served) sells(epochs ...int64) {
	s.t.Helper()
	if err := s.SetCatalog(context.Background(), sold(s.t, epochs...)); err != nil {
		s.t.Fatal(err)
	}
}

// TestFloor is the life of a host whose TPM counts (S10), through the real
// protocol: bound at the first verdict, raised, rolled back, lost.
func TestFloor(t *testing.T) {
	s, m, c := joined(t, nil)
	first := m.counter()
	if first.Value <= 57 {
		t.Fatalf("%+v", first)
	}
	base := int64(first.Value) - 1 // the data were sealed by a release of epoch 1
	want := func(what string, got, want attest.Code) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	s.sells(2)
	want("the first", m.counted(c, base), "")
	if r := s.detail("a").Record; r.Floor != 1 || r.Counter == nil || r.Counter.Base != base || r.Counter.Value != first.Value || string(r.Counter.Name) != string(first.Name) {
		t.Errorf("bound: floor %d, %+v", r.Floor, r.Counter)
	}
	_, code := m.attest(c, "a")
	want("without it", code, attest.FloorLost)
	if d := s.detail("a"); d.Standing != attest.StandingRefused || d.Last.Code != attest.FloorLost {
		t.Errorf("%+v", d)
	}
	want("with it again", m.counted(c, base), "")
	_, err := m.tpm.Increment(tpm.FloorIndex)
	m.must(err)
	want("raised by the release", m.counted(c, base), "")
	if r := s.detail("a").Record; r.Floor != 2 || r.Counter.Base != base {
		t.Errorf("raised: floor %d, %+v", r.Floor, r.Counter)
	}
	_, err = m.tpm.Increment(tpm.FloorIndex)
	m.must(err)
	s.sells(2, 3)
	want("of a later release", m.counted(c, base), attest.VersionFloor)
	s.sells(3)
	want("that release", m.counted(c, base), "")
	m.renewed()
	want("made anew", m.counted(c, base), attest.FloorLost)
	want("made anew, and a volume", m.counted(c, base+1), attest.FloorLost)
	s.sells(9)
	want("made anew, and a volume, under a later release", m.counted(c, base+1), attest.FloorLost)
	s.act("a", ActionReenrol)
	m.join(c, "a")
	want("enrolled again", m.counted(c, base+1), "")
	if r := s.detail("a").Record; r.Floor != 3 || r.Counter.Base != base+1 {
		t.Errorf("enrolled again: floor %d, %+v", r.Floor, r.Counter)
	}
	var floors int
	for _, k := range s.kinds("a") {
		if k == audit.KindFloor {
			floors++
		}
	}
	if floors != 4 {
		t.Errorf("%d records of a floor: %q", floors, s.kinds("a"))
	}
}

// TestFloorElsewhere: an index that can be written is no counter, and what
// another TPM or another key signs is nothing.
func TestFloorElsewhere(t *testing.T) {
	s, m, c := joined(t, nil)
	base := int64(m.counter().Value)
	if code := m.counted(c, base); code != "" {
		t.Fatal(code)
	}
	other := boot(t, tpmtest.Blank(t))
	other.counter()
	n, err := other.tpm.Counter(tpm.FloorIndex)
	m.must(err)
	ch, _ := c.ask("a")
	extra := attest.Challenge{Nonce: ch.Nonce, ServerID: s.serverID, ChannelKey: c.id}.ExtraData()
	x, err := other.tpm.CertifyCounter(other.ak, n, extra)
	m.must(err)
	e := m.evidence(c, "a", ch)
	e.Floor = &attest.FloorProof{Attest: x.Attest, Signature: x.Signature}
	if _, code := c.answer(e); code != attest.FloorUnproven {
		t.Errorf("of another TPM: %s", code)
	}
	if code := m.counted(c, base); code != "" {
		t.Errorf("its own: %s", code)
	}
	m.must(m.tpm.DeleteCounter(tpm.FloorIndex))
	name := m.writable(n.Value)
	ch, _ = c.ask("a")
	extra = attest.Challenge{Nonce: ch.Nonce, ServerID: s.serverID, ChannelKey: c.id}.ExtraData()
	x, err = m.tpm.CertifyCounter(m.ak, tpm.Counter{Index: tpm.FloorIndex, Name: name}, extra)
	m.must(err)
	e = m.evidence(c, "a", ch)
	e.Floor = &attest.FloorProof{Attest: x.Attest, Signature: x.Signature}
	_, code := c.answer(e)
	if d := s.detail("a").Last.Detail; code != attest.FloorLost || !strings.Contains(d, "is not the counter") {
		t.Errorf("an ordinary index with the right value: %s, %s", code, d)
	}
}

// writable puts an ordinary index in the counter's place, with this value.
func (m *machine) writable(value uint64) (name []byte) {
	m.t.Helper()
	m.must(m.tpm.Flush(m.ak))
	m.must(m.tpm.Flush(&m.ek.Key))
	m.tpm.Close()
	raw, err := linuxudstpm.Open(m.e.Socket)
	m.must(err)
	area := tpm2.TPMSNVPublic{NVIndex: tpm.FloorIndex, NameAlg: tpm2.TPMAlgSHA256, DataSize: 8, Attributes: tpm2.TPMANV{OwnerWrite: true, OwnerRead: true, AuthRead: true, NoDA: true}}
	_, err = tpm2.NVDefineSpace{AuthHandle: tpm2.TPMRHOwner, PublicInfo: tpm2.New2B(area)}.Execute(raw)
	m.must(err)
	read := func() tpm2.NamedHandle {
		r, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(tpm.FloorIndex)}.Execute(raw)
		m.must(err)
		return tpm2.NamedHandle{Handle: tpm.FloorIndex, Name: r.NVName}
	}
	_, err = tpm2.NVWrite{AuthHandle: tpm2.TPMRHOwner, NVIndex: read(), Data: tpm2.TPM2BMaxNVBuffer{Buffer: binary.BigEndian.AppendUint64(nil, value)}}.Execute(raw)
	m.must(err)
	name = read().Name.Buffer
	m.must(raw.Close())
	m.open()
	return name
}
