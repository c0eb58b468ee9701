package attest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/ingot-os/ingot/attest/eventlog"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/quote"
)

// recording is a boot of an image of ingot's in QEMU: its event log and the
// registers as the kernel read them.
type recording struct {
	Log     []byte                          `json:"log"`
	Cmdline string                          `json:"cmdline"`
	PCRs    map[pcr.Bank]map[int]pcr.Digest `json:"pcrs"`
}

func record(t testing.TB, name string) recording {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var r recording
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

var allBanks = []pcr.Bank{pcr.SHA1, pcr.SHA256, pcr.SHA384}

// event is an event that can be edited.
type event struct {
	PCR     uint32
	Type    eventlog.Type
	Data    []byte
	Digests map[pcr.Bank]pcr.Digest
}

// measured is an event whose digest is of its data.
func measured(register uint32, typ eventlog.Type, data string) event {
	return measuredOf(register, typ, data, data)
}

// measuredOf is an event whose digest is of something else.
func measuredOf(register uint32, typ eventlog.Type, data, of string) event {
	e := event{register, typ, []byte(data), map[pcr.Bank]pcr.Digest{}}
	for _, b := range allBanks {
		e.Digests[b] = b.Sum([]byte(of))
	}
	return e
}

func events(t testing.TB, log []byte) []event {
	t.Helper()
	l, err := eventlog.Parse(log)
	if err != nil {
		t.Fatal(err)
	}
	var out []event
	for i := range l.Events[1:] {
		e := &l.Events[1+i]
		x := event{e.PCR, e.Type, bytes.Clone(e.Data), map[pcr.Bank]pcr.Digest{}}
		for _, b := range allBanks {
			x.Digests[b] = bytes.Clone(e.Digest(b))
		}
		out = append(out, x)
	}
	return out
}

// fixture is a genuine boot with all that can be forged about it. The edits
// run in the order of the fields.
type fixture struct {
	t         testing.TB
	key       *ecdsa.PrivateKey
	log       []event // what is extended
	init      []event
	forge     func(log []event) []event // what is sent instead
	forgeInit func(log []event) []event
	bytes     func(log []byte) []byte
	quoted    []tpm2.TPMSPCRSelection
	values    func(map[pcr.Bank]map[int]pcr.Digest)
	sent      func(map[pcr.Bank]map[int]pcr.Digest)
	public    func(*tpm2.TPMTPublic)
	attest    func(*tpm2.TPMSAttest)
	raw       func([]byte) []byte // before signing
	hash      pcr.Bank
	signed    func(q, sig []byte) ([]byte, []byte)
	c         func(*Case)
}

var softKey = func() *ecdsa.PrivateKey {
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{7}, 32)) // the same in each fuzzing process
	if err != nil {
		panic(err)
	}
	return k
}()

var testNow = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func genuine(t testing.TB) *fixture {
	return &fixture{t: t, key: softKey, log: events(t, record(t, "boot-257").Log), hash: pcr.SHA256,
		quoted: []tpm2.TPMSPCRSelection{selection(pcr.SHA256, DefaultPCRs...)}}
}

func selection(bank pcr.Bank, registers ...int) tpm2.TPMSPCRSelection {
	mask := make([]byte, 3)
	for _, i := range registers {
		mask[i/8] |= 1 << (i % 8)
	}
	return tpm2.TPMSPCRSelection{Hash: tpm2.TPMAlgID(bank), PCRSelect: mask}
}

func write(t testing.TB, list []event) []byte {
	t.Helper()
	b := eventlog.AppendHeader(nil, allBanks...)
	for _, e := range list {
		var err error
		if b, err = eventlog.AppendEvent(b, e.PCR, e.Type, e.Data, allBanks, e.Digests); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// replayed are the registers after the events.
func replayed(t testing.TB, lists ...[]event) map[pcr.Bank]map[int]pcr.Digest {
	t.Helper()
	out := map[pcr.Bank]map[int]pcr.Digest{}
	for _, bank := range append(allBanks, pcr.SHA512) {
		s := pcr.Start(bank, 0)
		for _, list := range lists {
			for _, e := range list {
				if e.Type == eventlog.NoAction || e.Digests[bank] == nil || e.PCR >= pcr.Count {
					continue
				}
				if err := s.Extend(int(e.PCR), e.Digests[bank]); err != nil {
					t.Fatal(err)
				}
			}
		}
		out[bank] = map[int]pcr.Digest{}
		for i := range pcr.Count {
			out[bank][i] = s.Value(i)
		}
	}
	return out
}

func softPublic(key *ecdsa.PublicKey) tpm2.TPMTPublic {
	point, _ := key.Bytes()
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true,
			NoDA: true, Restricted: true, SignEncrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256,
			Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})}}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: point[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: point[33:]}}),
	}
}

// build makes the case.
func (f *fixture) build() Case {
	t := f.t
	t.Helper()
	public := softPublic(&f.key.PublicKey)
	enrolled, err := quote.ParsePublic(tpm2.Marshal(public))
	if err != nil {
		t.Fatal(err)
	}
	if f.public != nil {
		f.public(&public)
	}
	values := replayed(t, f.log, f.init)
	if f.values != nil {
		f.values(values)
	}
	challenge := Challenge{Nonce: []byte("nonce of this test"), ServerID: []byte("server"), ChannelKey: []byte("channel"), Expires: testNow.Add(time.Minute)}
	e := &Evidence{Format: Format, Nonce: challenge.Nonce, AK: tpm2.Marshal(public), PCRs: map[pcr.Bank]map[int]pcr.Digest{}}
	e.Quote, e.Signature = f.sign(values, challenge, e.PCRs)
	if f.sent != nil {
		f.sent(e.PCRs)
	}
	log, later := f.log, f.init
	if f.forge != nil {
		log = f.forge(append([]event(nil), log...))
	}
	if f.forgeInit != nil {
		later = f.forgeInit(append([]event(nil), later...))
	}
	e.EventLog = write(t, log)
	if len(later) > 0 {
		e.InitLog = write(t, later)
	}
	if f.bytes != nil {
		e.EventLog = f.bytes(e.EventLog)
	}
	c := Case{Evidence: e, References: []Reference{reference(t)}, Challenge: challenge, Now: testNow,
		Record:   &Record{Name: "host", State: Active, AKName: enrolled.Name()},
		LastSeen: &LastSeen{Clock: quote.Clock{Millis: 1_000_000, ResetCount: 5, Safe: true}, At: testNow.Add(-time.Minute)}}
	if f.c != nil {
		f.c(&c)
	}
	return c
}

// sign quotes values and says which were quoted.
func (f *fixture) sign(values map[pcr.Bank]map[int]pcr.Digest, c Challenge, sent map[pcr.Bank]map[int]pcr.Digest) (q, sig []byte) {
	h := f.hash.New()
	for _, s := range f.quoted {
		bank := pcr.Bank(s.Hash)
		sent[bank] = map[int]pcr.Digest{}
		for i := range pcr.Count {
			if s.PCRSelect[i/8]>>(i%8)&1 == 1 {
				sent[bank][i] = values[bank][i]
				h.Write(values[bank][i])
			}
		}
	}
	a := tpm2.TPMSAttest{
		Magic: tpm2.TPMGeneratedValue, Type: tpm2.TPMSTAttestQuote, QualifiedSigner: tpm2.TPM2BName{Buffer: append([]byte{0, 11}, make([]byte, 32)...)},
		ExtraData: tpm2.TPM2BData{Buffer: c.ExtraData()}, FirmwareVersion: 7,
		ClockInfo: tpm2.TPMSClockInfo{Clock: 2_000_000, ResetCount: 6, Safe: true},
		Attested: tpm2.NewTPMUAttest(tpm2.TPMSTAttestQuote, &tpm2.TPMSQuoteInfo{
			PCRSelect: tpm2.TPMLPCRSelection{PCRSelections: f.quoted}, PCRDigest: tpm2.TPM2BDigest{Buffer: h.Sum(nil)}}),
	}
	if f.attest != nil {
		f.attest(&a)
	}
	q = tpm2.Marshal(a)
	if f.raw != nil {
		q = f.raw(q)
	}
	r, s, err := ecdsa.Sign(rand.Reader, f.key, f.hash.Sum(q))
	if err != nil {
		f.t.Fatal(err)
	}
	sig = ecdsaSignature(f.hash, r.Bytes(), s.Bytes())
	if f.signed != nil {
		q, sig = f.signed(q, sig)
	}
	return q, sig
}

func ecdsaSignature(hash pcr.Bank, r, s []byte) []byte {
	return tpm2.Marshal(tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgECDSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA,
		&tpm2.TPMSSignatureECC{Hash: tpm2.TPMAlgID(hash), SignatureR: tpm2.TPM2BECCParameter{Buffer: r}, SignatureS: tpm2.TPM2BECCParameter{Buffer: s}})})
}

// reference is that of the recorded image: what its boot measured into the
// registers that come from the image and its disk.
func reference(t testing.TB) Reference {
	t.Helper()
	p := Path{Boot: "disk", Empty: []int{12}}
	apps, tags := []string{"UKI", ".linux"}, []string{nameLoadOptions, nameInitrd}
	names := map[string]bool{}
	for _, e := range events(t, record(t, "boot-257").Log) {
		name := strings.TrimRight(strings.ReplaceAll(string(e.Data), "\x00", ""), " ")
		switch e.PCR {
		case 4:
			if e.Type == eventlog.BootServicesApp {
				name, apps = apps[0], apps[1:]
			}
		case 5:
			if e.Type == eventlog.GPT {
				name = "GPT"
			}
		case 9:
			name, tags = tags[0], tags[1:]
		case 11:
			if !names[name] {
				names[name], name = true, name+nameSuffix
			}
		default:
			continue
		}
		p.Events = append(p.Events, Expected{int(e.PCR), e.Type, name, e.Digests})
	}
	return Reference{Name: "hello", Version: "1.0.0", Epoch: 1000, Paths: []Path{p}, Phases: []string{"services", "ready"}}
}

// find is the index of the nth event of a register and type.
func find(t testing.TB, list []event, register uint32, typ eventlog.Type, n int) int {
	t.Helper()
	for i, e := range list {
		if e.PCR == register && e.Type == typ {
			if n == 0 {
				return i
			}
			n--
		}
	}
	t.Fatalf("no such event: PCR %d %s", register, typ)
	return 0
}

func remove(list []event, i int) []event { return append(list[:i:i], list[i+1:]...) }

func insert(list []event, i int, add ...event) []event {
	return append(append(append([]event(nil), list[:i]...), add...), list[i:]...)
}
