package attest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/ingot-os/ingot/attest/eventlog"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/statement"
	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/partition/gpt"
)

// TestRecordedBoots: our fixture's registers are those that the kernel of the
// recorded machine read, so that what is judged below is a real boot.
func TestRecordedBoots(t *testing.T) {
	for _, name := range []string{"boot-252", "boot-257", "boot-257-pxe", "boot-257-ipxe", "boot-257-secureboot"} {
		r := record(t, name)
		got := replayed(t, events(t, r.Log))
		n := 0
		for bank, values := range r.PCRs {
			for i := range 16 {
				if i != imaPCR {
					n++
					if !bytes.Equal(values[i], got[bank][i]) {
						t.Errorf("%s: %s PCR %d: log %s, kernel %s", name, bank, i, got[bank][i], values[i])
					}
				}
			}
		}
		if n != 45 {
			t.Errorf("%s: %d registers compared", name, n)
		}
	}
}

func TestGenuine(t *testing.T) {
	v := Verify(genuine(t).build())
	if !v.Trusted || v.Compared != 5 || v.Version != "1.0.0" || v.Boot != "disk" || v.Epoch != 1000 || v.Host != "host" {
		t.Fatalf("%+v", v)
	}
	if v.Slot != "a" || v.SlotBy != "log" || v.FailedBootOptions != 0 || v.SecureBoot || v.Bank != "sha256" {
		t.Errorf("%+v", v)
	}
	for _, want := range []string{"PCR 0: no value was accepted at enrolment", "PCR 1: its events were compared with nothing",
		"Secure Boot keys: Secure Boot is off", "PCR 10: not quoted", "slot and machine configuration: ingot-init states nothing"} {
		if !slices.Contains(v.NotChecked, want) {
			t.Errorf("not said: %q; said: %q", want, v.NotChecked)
		}
	}
	if slices.Contains(v.NotChecked, "PCR 4: its events were compared with nothing") {
		t.Error("PCR 4 counts as unchecked")
	}
}

// refusal is a forgery and the reason for which it must be refused.
type refusal struct {
	id      string
	edit    func(f *fixture)
	want    Code
	pcr     int // -1: about none
	section string
}

// edited runs an edit on the log before it is extended: a boot that was so.
func edited(edit func(t testing.TB, l []event) []event) func(f *fixture) {
	return func(f *fixture) { f.log = edit(f.t, f.log) }
}

// forged runs an edit on the log that is sent: a boot that was not so.
func forged(edit func(t testing.TB, l []event) []event) func(f *fixture) {
	return func(f *fixture) { f.forge = func(l []event) []event { return edit(f.t, l) } }
}

func mangled(edit func(b []byte) []byte) func(f *fixture) {
	return func(f *fixture) { f.bytes = edit }
}

func attested(edit func(a *tpm2.TPMSAttest)) func(f *fixture) {
	return func(f *fixture) { f.attest = edit }
}

func with(edit func(c *Case)) func(f *fixture) { return func(f *fixture) { f.c = edit } }

func attributes(edit func(a *tpm2.TPMAObject)) func(f *fixture) {
	return func(f *fixture) {
		f.public = func(p *tpm2.TPMTPublic) { edit(&p.ObjectAttributes) }
	}
}

func ofType(typ eventlog.Type) func(e event) bool { return func(e event) bool { return e.Type == typ } }

var quoteCases = []refusal{
	{"Q01 other nonce", attested(func(a *tpm2.TPMSAttest) { a.ExtraData.Buffer = bytes.Repeat([]byte{1}, 32) }), QuoteNonce, -1, ""},
	{"Q02 truncated nonce", attested(func(a *tpm2.TPMSAttest) { a.ExtraData.Buffer = a.ExtraData.Buffer[:31] }), QuoteNonce, -1, ""},
	{"Q03 empty nonce", attested(func(a *tpm2.TPMSAttest) { a.ExtraData.Buffer = nil }), QuoteNonce, -1, ""},
	{"Q03 empty challenge", with(func(c *Case) { c.Challenge.Nonce = nil }), QuoteNonce, -1, ""},
	{"P09 other channel", with(func(c *Case) { c.Challenge.ChannelKey = []byte("relay") }), QuoteNonce, -1, ""},
	{"P09 other server", with(func(c *Case) { c.Challenge.ServerID = []byte("other") }), QuoteNonce, -1, ""},
	{"P08 late", with(func(c *Case) { c.Now = c.Challenge.Expires.Add(time.Second) }), NonceExpired, -1, ""},
	{"Q04 magic", func(f *fixture) { f.raw = func(q []byte) []byte { q[0] = 0; return q } }, QuoteMagic, -1, ""},
	{"Q05 type", func(f *fixture) { f.raw = func(q []byte) []byte { q[5] = 0x17; return q } }, QuoteType, -1, ""},
	{"Q06 bit flip", func(f *fixture) {
		f.signed = func(q, s []byte) ([]byte, []byte) { q[len(q)-1] ^= 1; return q, s }
	}, QuoteSignature, -1, ""},
	{"Q07 other key", func(f *fixture) {
		other, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		f.signed = func(q, _ []byte) ([]byte, []byte) {
			r, s, _ := ecdsa.Sign(rand.Reader, other, pcr.SHA256.Sum(q))
			return q, ecdsaSignature(pcr.SHA256, r.Bytes(), s.Bytes())
		}
	}, QuoteSignature, -1, ""},
	{"Q08 SHA-1 signature", func(f *fixture) { f.hash = pcr.SHA1 }, QuoteHash, -1, ""},
	{"Q09 another value", func(f *fixture) {
		f.sent = func(v map[pcr.Bank]map[int]pcr.Digest) { v[pcr.SHA256][4] = pcr.SHA256.Sum(nil) }
	}, QuoteComposite, -1, ""},
	{"Q09 a value of another size", func(f *fixture) {
		f.sent = func(v map[pcr.Bank]map[int]pcr.Digest) { v[pcr.SHA256][4] = v[pcr.SHA256][4][:31] }
	}, QuoteComposite, 4, ""},
	{"Q10 PCR 4 not selected", quotes(selection(pcr.SHA256, 0, 1, 2, 3, 5, 6, 7, 9, 11, 12, 15)), QuotePCR, 4, ""},
	{"Q10 PCR 11 not selected", quotes(selection(pcr.SHA256, 0, 1, 2, 3, 4, 5, 6, 7, 9, 12, 15)), QuotePCR, 11, ""},
	{"Q11 other bank's values", func(f *fixture) {
		f.quoted = []tpm2.TPMSPCRSelection{selection(pcr.SHA1, DefaultPCRs...)}
		f.sent = func(v map[pcr.Bank]map[int]pcr.Digest) { v[pcr.SHA256] = v[pcr.SHA1]; delete(v, pcr.SHA1) }
	}, BankMismatch, -1, ""},
	{"Q12 SHA-1 only", quotes(selection(pcr.SHA1, DefaultPCRs...)), BankWeak, -1, ""},
	{"Q13 nothing selected", quotes(), QuotePCR, -1, ""},
	{"Q13 no bits selected", quotes(selection(pcr.SHA256)), QuotePCR, -1, ""},
	{"Q14 trailing bytes", func(f *fixture) { f.raw = func(q []byte) []byte { return append(q, 0) } }, QuoteTrailing, -1, ""},
	{"Q14 cut quote", func(f *fixture) { f.raw = func(q []byte) []byte { return q[:len(q)-1] } }, QuoteMalformed, -1, ""},
	{"Q15 not restricted", attributes(func(a *tpm2.TPMAObject) { a.Restricted = false }), AKAttributes, -1, ""},
	{"Q16 not fixedTPM", attributes(func(a *tpm2.TPMAObject) { a.FixedTPM = false }), AKAttributes, -1, ""},
	{"Q16 not fixedParent", attributes(func(a *tpm2.TPMAObject) { a.FixedParent = false }), AKAttributes, -1, ""},
	{"Q16 imported", attributes(func(a *tpm2.TPMAObject) { a.SensitiveDataOrigin = false }), AKAttributes, -1, ""},
	{"Q17 also decrypts", attributes(func(a *tpm2.TPMAObject) { a.Decrypt = true }), AKAttributes, -1, ""},
	{"Q17 does not sign", attributes(func(a *tpm2.TPMAObject) { a.SignEncrypt = false }), AKAttributes, -1, ""},
	{"Q18 another key", with(func(c *Case) { c.Record.AKName = append([]byte{0, 11}, make([]byte, 32)...) }), AKKey, -1, ""},
	{"Q18 same key, other attributes", attributes(func(a *tpm2.TPMAObject) { a.NoDA = false }), AKKey, -1, ""},
	{"Q19 s = 0", func(f *fixture) {
		f.signed = func(q, _ []byte) ([]byte, []byte) { return q, ecdsaSignature(pcr.SHA256, []byte{1}, []byte{0}) }
	}, QuoteSignature, -1, ""},
	{"Q19 no signature", func(f *fixture) { f.signed = func(q, _ []byte) ([]byte, []byte) { return q, nil } }, QuoteMalformed, -1, ""},
	{"Q20 reset counter back", with(func(c *Case) { c.LastSeen.Clock.ResetCount = 7 }), ClockReset, -1, ""},
	{"Q21 clock back", with(func(c *Case) { c.LastSeen.Clock.ResetCount, c.LastSeen.Clock.Millis = 6, 2_000_001 }), ClockRewound, -1, ""},
	{"Q21 restart counter back", with(func(c *Case) { c.LastSeen.Clock.ResetCount, c.LastSeen.Clock.RestartCount = 6, 1 }), ClockRewound, -1, ""},
	{"Q21 clock far back over a reset", with(func(c *Case) { c.LastSeen.Clock.Millis = 2_000_001 + clockLoss }), ClockRewound, -1, ""},
	{"Q22 empty bank", func(f *fixture) {
		f.quoted = []tpm2.TPMSPCRSelection{selection(pcr.SHA256, DefaultPCRs...)}
		f.values = func(v map[pcr.Bank]map[int]pcr.Digest) {
			for i := range v[pcr.SHA256] {
				v[pcr.SHA256][i] = make([]byte, 32)
			}
		}
	}, BankEmpty, -1, ""},
	{"Q23 resumed", attested(func(a *tpm2.TPMSAttest) { a.ClockInfo.RestartCount, a.ClockInfo.Safe = 1, false }), ClockResumed, -1, ""},
	{"no evidence", with(func(c *Case) { c.Evidence = nil }), EvidenceMalformed, -1, ""},
	{"no key", with(func(c *Case) { c.Evidence.AK = nil }), AKMalformed, -1, ""},
	{"no record", with(func(c *Case) { c.Record = nil }), HostUnknown, -1, ""},
	{"pending", with(func(c *Case) { c.Record.State = Pending }), HostPending, -1, ""},
	{"revoked", with(func(c *Case) { c.Record.State = Revoked }), HostRevoked, -1, ""},
	{"no state", with(func(c *Case) { c.Record.State = "" }), HostRevoked, -1, ""},
	{"another EK", with(func(c *Case) { c.Evidence.EK, c.Record.EKName = c.Evidence.AK, []byte{1} }), EKKey, -1, ""},
	{"P14 other TPM firmware", with(func(c *Case) { c.Record.FirmwareVersion = 8 }), FirmwareChanged, -1, ""},
}

func quotes(s ...tpm2.TPMSPCRSelection) func(f *fixture) {
	return func(f *fixture) { f.quoted = s }
}

// without removes the events of a register.
func without(register uint32) func(testing.TB, []event) []event {
	return func(_ testing.TB, l []event) []event {
		return slices.DeleteFunc(l, func(e event) bool { return e.PCR == register })
	}
}

// dropped removes the nth event of a register and type.
func dropped(register uint32, typ eventlog.Type, n int) func(testing.TB, []event) []event {
	return func(t testing.TB, l []event) []event { return remove(l, find(t, l, register, typ, n)) }
}

// inserted puts events before (n = 0) or behind the nth event of a register and type.
func inserted(register uint32, typ eventlog.Type, n, behind int, add ...event) func(testing.TB, []event) []event {
	return func(t testing.TB, l []event) []event {
		return insert(l, find(t, l, register, typ, n)+behind, add...)
	}
}

func appended(add ...event) func(testing.TB, []event) []event {
	return func(_ testing.TB, l []event) []event { return append(l, add...) }
}

// replaced gives the nth event of a register and type the digest of something else.
func replaced(register uint32, typ eventlog.Type, n int, of string) func(testing.TB, []event) []event {
	return func(t testing.TB, l []event) []event {
		i := find(t, l, register, typ, n)
		l[i] = measuredOf(register, typ, string(l[i].Data), of)
		return l
	}
}

func data(register uint32, typ eventlog.Type, n int, edit func(d []byte) []byte) func(testing.TB, []event) []event {
	return func(t testing.TB, l []event) []event {
		i := find(t, l, register, typ, n)
		l[i].Data = edit(bytes.Clone(l[i].Data))
		return l
	}
}

// variable is one that firmware measures into PCR 7.
// Where drivers come from: a partition of the disk, a device's ROM.
var (
	partitionNode = efivar.HDPartition{Number: 1}.Node()
	romNode       = efivar.Node{Type: 4, SubType: 8, Data: make([]byte, 20)}
)

// driver is the event of a driver that was loaded from a place.
func driver(register uint32, from ...efivar.Node) event {
	path, err := efivar.DevicePath(from).AppendBinary(nil)
	if err != nil {
		panic(err)
	}
	head := binary.LittleEndian.AppendUint64(make([]byte, 24), uint64(len(path)))
	return measuredOf(register, eventlog.BootServicesDrv, string(append(head, path...)), "a driver")
}

func variable(name string, value ...byte) event {
	guid := variableGUID(name)
	d := append([]byte(nil), guid[:]...)
	d = binary.LittleEndian.AppendUint64(d, uint64(len(name)))
	d = binary.LittleEndian.AppendUint64(d, uint64(len(value)))
	for _, c := range []byte(name) {
		d = append(d, c, 0)
	}
	return measured(7, eventlog.VariableDriver, string(append(d, value...)))
}

func block(on byte) []event {
	return []event{variable("SecureBoot", on), variable("PK", 1), variable("KEK", 2), variable("db", 3), variable("dbx", 4)}
}

func authority(key byte) event {
	e := variable("db", bytes.Repeat([]byte{key}, 20)...)
	e.Type = eventlog.VariableAuthority
	return e
}

// secured is the same boot with Secure Boot on, its reference among those known.
func secured(f *fixture) {
	l := slices.DeleteFunc(f.log, func(e event) bool { return e.PCR == 7 && e.Type == eventlog.VariableDriver })
	at := find(f.t, l, 7, eventlog.Separator, 0)
	f.log = insert(insert(l, at+1, authority(9)), at, block(1)...)
	f.c = func(c *Case) { c.References = append(c.References, securedReference(f.t)) }
}

func securedReference(t testing.TB) Reference {
	r := reference(t)
	p := &r.Paths[0]
	p.SecureBoot = true
	for i, e := range block(1) {
		p.Events = append(p.Events, Expected{7, e.Type, variables[i], e.Digests})
	}
	p.Events = append(p.Events, Expected{7, eventlog.VariableAuthority, "db", authority(9).Digests})
	return r
}

// also runs several edits.
func also(edits ...func(f *fixture)) func(f *fixture) {
	return func(f *fixture) {
		for _, edit := range edits {
			c := f.c
			edit(f)
			if own := f.c; c != nil && own != nil {
				f.c = func(x *Case) { c(x); own(x) }
			}
		}
	}
}

const app = eventlog.BootServicesApp

var (
	separator4 = measured(4, eventlog.Separator, "\x00\x00\x00\x00")
	separator7 = measured(7, eventlog.Separator, "\x00\x00\x00\x00")
	foreign    = measured(4, app, "a foreign image, in an event of more than 32 bytes")
	blobs      = []event{measured(4, eventlog.FirmwareBlob, "a foreign image")}
)

func pair() []event {
	return []event{measured(4, eventlog.EFIAction, returning), measured(4, eventlog.EFIAction, calling)}
}

// quietly drops what some firmware does not log.
func quietly(t testing.TB, l []event) []event {
	return slices.DeleteFunc(l, func(e event) bool { return e.Type == eventlog.EFIAction && (e.PCR == 4 || e.PCR == 5) })
}

// early is a policy that names one program of the firmware.
func early(of string) func(f *fixture) {
	return with(func(c *Case) { c.Policy.EarlyApplications = []pcr.Digest{pcr.SHA256.Sum([]byte(of))} })
}

func omitted() event { return measured(4, eventlog.OmitBootDevices, attemptsOmitted) }

// silent is the log of firmware that does not log attempts to boot.
func silent(t testing.TB, l []event) []event {
	l[find(t, l, 4, eventlog.EFIAction, 0)] = omitted()
	return l
}

var logCases = []refusal{
	{"E01 digest changed", forged(replaced(4, app, 0, "evil")), LogReplay, 4, ""},
	{"E02 event dropped", forged(dropped(4, app, 0)), LogReplay, 4, ""},
	{"E03 order swapped", forged(func(t testing.TB, l []event) []event {
		a, b := find(t, l, 4, app, 0), find(t, l, 4, app, 1)
		l[a], l[b] = l[b], l[a]
		return l
	}), LogReplay, 4, ""},
	{"E04 PCR 4 not logged", forged(without(4)), LogUnlogged, 4, ""},
	{"E05 PCR 11 not logged", forged(without(11)), LogUnlogged, 11, ""},
	{"E06 relabelled as firmware blob", edited(inserted(4, app, 0, 0, blobs...)), LogType, 4, ""},
	{"E07 relabelled as EV_NO_ACTION", forged(func(t testing.TB, l []event) []event {
		l[find(t, l, 4, app, 0)].Type = eventlog.NoAction
		return l
	}), LogReplay, 4, ""},
	{"E08 an image more", edited(appended(foreign)), ImageUnknown, 4, ""},
	{"E08 an image instead", edited(replaced(4, app, 0, "evil")), ImageUnknown, 4, ""},
	{"S7 an image before", edited(inserted(4, app, 0, 0, foreign)), BootPolluted, 4, ""},
	{"S7 a second stub", edited(appended(measuredOf(11, eventlog.IPL, ".linux", ".linux\x00"))), BootPolluted, 11, ".linux"},
	{"S7 the image returned, and again", edited(func(t testing.TB, l []event) []event {
		i := find(t, l, 4, app, 1)
		return insert(l, i, append(pair(), l[find(t, l, 4, app, 0)])...)
	}), BootPolluted, 4, ""},
	{"S7 a pair before the separator", edited(inserted(4, eventlog.Separator, 0, 0, pair()...)), LogType, 4, ""},
	{"E09 no separator in PCR 4", edited(dropped(4, eventlog.Separator, 0)), LogSeparator, 4, ""},
	{"E10 no separator in PCR 7", edited(dropped(7, eventlog.Separator, 0)), LogSeparator, 7, ""},
	{"E11 two separators in PCR 4", edited(inserted(4, app, 0, 0, separator4)), LogSeparator, 4, ""},
	{"E11 two separators in PCR 7", edited(appended(separator7)), LogSeparator, 7, ""},
	{"E12 error separator", edited(func(t testing.TB, l []event) []event {
		l[find(t, l, 4, eventlog.Separator, 0)] = measured(4, eventlog.Separator, "\x01\x00\x00\x00")
		return l
	}), FirmwareError, 4, ""},
	{"E12 strange separator", edited(func(t testing.TB, l []event) []event {
		l[find(t, l, 2, eventlog.Separator, 0)] = measured(2, eventlog.Separator, "\x02\x00\x00\x00")
		return l
	}), LogSeparator, 2, ""},
	{"E12 long separator", edited(func(t testing.TB, l []event) []event {
		l[find(t, l, 2, eventlog.Separator, 0)] = measured(2, eventlog.Separator, "\x00\x00\x00\x00\x00")
		return l
	}), LogSeparator, 2, ""},
	{"E13 action's text changed", forged(data(4, eventlog.EFIAction, 0, func(d []byte) []byte { d[0] = 'c'; return d })), LogData, 4, ""},
	{"E13 partition table changed", forged(data(5, eventlog.GPT, 0, func(d []byte) []byte { d[200] ^= 1; return d })), LogData, 5, ""},
	{"E14 second Secure Boot block", edited(inserted(7, eventlog.Separator, 0, 0, block(1)...)), SecureBootGrammar, 7, ""},
	{"E15 Secure Boot block behind the separator", edited(inserted(7, eventlog.Separator, 0, 1, block(1)...)), SecureBootGrammar, 7, ""},
	{"E15 another variable behind the separator", edited(inserted(7, eventlog.Separator, 0, 1, variable("AuditMode", 1))), SecureBootGrammar, 7, ""},
	{"E15 variable missing", edited(dropped(7, eventlog.VariableDriver, 4)), SecureBootGrammar, 7, ""},
	{"E15 variable out of order", edited(func(t testing.TB, l []event) []event {
		a, b := find(t, l, 7, eventlog.VariableDriver, 0), find(t, l, 7, eventlog.VariableDriver, 1)
		l[a], l[b] = l[b], l[a]
		return l
	}), SecureBootGrammar, 7, ""},
	{"E15 SecureBoot of a strange value", edited(func(t testing.TB, l []event) []event {
		l[find(t, l, 7, eventlog.VariableDriver, 0)] = variable("SecureBoot", 2)
		return l
	}), SecureBootGrammar, 7, ""},
	{"E15 other type in PCR 7", edited(inserted(7, eventlog.Separator, 0, 0, measured(7, eventlog.IPL, "x"))), LogType, 7, ""},
	{"E15 unreadable variable", edited(inserted(7, eventlog.Separator, 0, 0, measured(7, eventlog.VariableDriver, "x"))), LogMalformed, 7, ""},
	{"firmware in debug mode", edited(inserted(7, eventlog.Separator, 0, 0, measured(7, eventlog.EFIAction, debugMode))), FirmwareDebug, 7, ""},
	{"another action in PCR 7", edited(inserted(7, eventlog.Separator, 0, 0, measured(7, eventlog.EFIAction, "x"))), LogType, 7, ""},
	{"DMA protection is off where it is wanted", also(edited(inserted(7, eventlog.Separator, 0, 0, measured(7, eventlog.EFIAction, unprotectedDMA))),
		with(func(c *Case) { c.Policy.DMAProtection = true })), FirmwareDMA, 7, ""},
	{"DMA protection: another text's digest", edited(inserted(7, eventlog.Separator, 0, 0, measuredOf(7, eventlog.EFIAction, unprotectedDMA, debugMode))), LogData, 7, ""},
	{"attempts omitted beside Calling", edited(inserted(4, eventlog.EFIAction, 0, 0, omitted())), LogType, 4, ""},
	{"attempts omitted, under another type", edited(func(t testing.TB, l []event) []event {
		l[find(t, l, 4, eventlog.EFIAction, 0)] = measured(4, eventlog.EFIAction, attemptsOmitted)
		return l
	}), LogType, 4, ""},
	{"attempts omitted, the text changed", also(edited(silent), forged(data(4, eventlog.OmitBootDevices, 0, func(d []byte) []byte { d[0] = 'b'; return d }))), LogData, 4, ""},
	{"attempts omitted twice", edited(inserted(4, eventlog.Separator, 0, 0, omitted())), LogType, 4, ""},
	{"attempts omitted behind the separator", edited(func(t testing.TB, l []event) []event {
		return dropped(4, eventlog.EFIAction, 0)(t, inserted(4, eventlog.Separator, 0, 1, omitted())(t, l))
	}), LogType, 4, ""},
	{"attempts omitted, and a failed one", edited(func(t testing.TB, l []event) []event {
		return inserted(4, app, 0, 0, pair()...)(t, silent(t, l))
	}), LogType, 4, ""},
	{"attempts omitted, an image instead", edited(func(t testing.TB, l []event) []event {
		return replaced(4, app, 0, "evil")(t, silent(t, l))
	}), ImageUnknown, 4, ""},
	{"attempts omitted, an image before", edited(func(t testing.TB, l []event) []event {
		return inserted(4, app, 0, 0, foreign)(t, silent(t, l))
	}), BootPolluted, 4, ""},
	{"attempts omitted, in other words", edited(func(t testing.TB, l []event) []event {
		l[find(t, l, 4, eventlog.EFIAction, 0)] = measured(4, eventlog.OmitBootDevices, "x")
		return l
	}), LogType, 4, ""},
	{"attempts and end not logged", edited(quietly), LogType, 4, ""},
	{"quiet firmware, and one action", also(edited(func(t testing.TB, l []event) []event {
		return dropped(4, eventlog.EFIAction, 0)(t, dropped(5, eventlog.EFIAction, 1)(t, l))
	}), with(func(c *Case) { c.Policy.QuietFirmware = true })), MeasureMissing, 5, ""},
	{"quiet firmware, and an image instead", also(edited(quietly), edited(replaced(4, app, 0, "evil")), with(func(c *Case) { c.Policy.QuietFirmware = true })), ImageUnknown, 4, ""},
	{"quiet firmware, and an image before", also(edited(quietly), edited(inserted(4, app, 0, 0, foreign)), with(func(c *Case) { c.Policy.QuietFirmware = true })), BootPolluted, 4, ""},
	{"quiet firmware, and an image before the separator", also(edited(quietly), edited(inserted(4, eventlog.Separator, 0, 0, foreign)), with(func(c *Case) { c.Policy.QuietFirmware = true })), BootEarly, 4, ""},
	{"quiet firmware, attempts logged and not explained", also(forged(quietly), with(func(c *Case) { c.Policy.QuietFirmware = true })), LogReplay, 4, ""},
	{"an early application that the policy does not name", also(edited(inserted(4, eventlog.EFIAction, 0, 0, foreign)), early("another")), BootEarly, 4, ""},
	{"an early application, late", also(edited(inserted(4, app, 0, 0, foreign)), early(string(foreign.Data))), BootPolluted, 4, ""},
	{"an early application twice", also(edited(inserted(4, eventlog.EFIAction, 0, 0, foreign, foreign)), early(string(foreign.Data))), BootEarly, 4, ""},
	{"an early application as the last", also(edited(appended(foreign)), early(string(foreign.Data))), ImageUnknown, 4, ""},
	{"an early application instead of the image", also(edited(replaced(4, app, 0, string(foreign.Data))), early(string(foreign.Data))), ImageUnknown, 4, ""},
	{"E16 Secure Boot off", with(func(c *Case) { c.Policy.SecureBoot = true }), SecureBootOff, 7, ""},
	{"E17 SecureBoot's data changed", forged(data(7, eventlog.VariableDriver, 0, func(d []byte) []byte { d[len(d)-1] ^= 1; return d })), LogData, 7, ""},
	{"E18 unknown word in PCR 11", edited(appended(measured(11, eventlog.IPL, "enter-initrd"))), MeasureUnexpected, 11, ""},
	{"E18 unknown word before the image", edited(inserted(11, eventlog.IPL, 0, 0, measured(11, eventlog.IPL, "enter-initrd"))), MeasureUnexpected, 11, ""},
	{"E19 command line added", edited(appended(measured(12, eventlog.IPL, "x"))), CmdlineAdded, 12, ""},
	{"iPXE replaces the command line", edited(func(t testing.TB, l []event) []event {
		return append(replaced(9, eventlog.EventTag, 0, "uki.efi")(t, l), measured(12, eventlog.IPL, "u\x00k\x00i\x00\x00\x00"))
	}), CmdlineReplaced, 12, ""},
	{"command line replaced unseen", edited(replaced(9, eventlog.EventTag, 0, "init=/bin/sh")), CmdlineReplaced, 9, ".cmdline"},
	{"E20 other initrd", edited(func(t testing.TB, l []event) []event {
		l = replaced(11, eventlog.IPL, 7, "evil")(t, l)
		return replaced(9, eventlog.EventTag, 1, "evil")(t, l)
	}), ImageUnknown, 11, ".initrd"},
	{"E20 other initrd at the kernel", edited(replaced(9, eventlog.EventTag, 1, "evil")), ImageUnknown, 9, ".initrd"},
	{"E20 other kernel", edited(replaced(11, eventlog.IPL, 1, "evil")), ImageUnknown, 11, ".linux"},
	{"E20 other command line", edited(replaced(11, eventlog.IPL, 5, "evil")), ImageUnknown, 11, ".cmdline"},
	{"E20 other kernel, and what init says", also(edited(replaced(11, eventlog.IPL, 1, "evil")), states(measured(11, eventlog.IPL, "services"))), ImageUnknown, 11, ".linux"},
	{"E20 a section more", edited(inserted(11, eventlog.IPL, 0, 0, measuredOf(11, eventlog.IPL, ".splash", ".splash\x00"), measured(11, eventlog.IPL, "x"))), ImageUnknown, 11, ".splash"},
	{"E20 a section less", edited(func(t testing.TB, l []event) []event {
		return dropped(11, eventlog.IPL, 2)(t, dropped(11, eventlog.IPL, 2)(t, l))
	}), ImageUnknown, 11, ".osrel"},
	{"E20 sections in another order", edited(func(t testing.TB, l []event) []event {
		a, b := find(t, l, 11, eventlog.IPL, 0), find(t, l, 11, eventlog.IPL, 2)
		l[a], l[b], l[a+1], l[b+1] = l[b], l[a], l[b+1], l[a+1]
		return l
	}), MeasureUnexpected, 11, ""},
	{"E20 a section twice", edited(func(t testing.TB, l []event) []event {
		a := find(t, l, 11, eventlog.IPL, 0)
		return insert(l, a, l[a], measured(11, eventlog.IPL, "evil"))
	}), BootPolluted, 11, ".linux"},
	{"E21 application before Calling", edited(inserted(4, eventlog.EFIAction, 0, 0, foreign)), BootEarly, 4, ""},
	{"E22 PCR 24", forged(appended(event{24, eventlog.IPL, nil, measured(0, 0, "").Digests})), LogMalformed, -1, ""},
	{"E23 late StartupLocality", forged(appended(event{0, eventlog.NoAction, []byte("StartupLocality\x00\x03"), measured(0, 0, "").Digests})), LogMalformed, -1, ""},
	{"E24 a digest is missing", mangled(func(b []byte) []byte {
		i := bytes.Index(b, []byte("Calling")) - 4 - 2 - 48 // the SHA-384 digest's algorithm
		copy(b[i:], []byte{4, 0})
		return b
	}), LogMalformed, -1, ""},
	{"E25 no firmware version", edited(dropped(0, eventlog.SCRTMVersion, 0)), FirmwareUnmeasured, 0, ""},
	{"E25 no firmware code", edited(func(_ testing.TB, l []event) []event { return slices.DeleteFunc(l, ofType(eventlog.FirmwareBlob)) }), FirmwareUnmeasured, 0, ""},
	{"S19 other firmware", with(func(c *Case) {
		c.Record.Firmware = map[pcr.Bank]map[int]pcr.Digest{pcr.SHA256: {0: pcr.SHA256.Sum(nil)}}
	}), FirmwareChanged, 0, ""},
	{"S19 other option ROM", with(func(c *Case) {
		c.Record.Firmware = map[pcr.Bank]map[int]pcr.Digest{pcr.SHA256: {0: c.Evidence.PCRs[pcr.SHA256][0], 2: pcr.SHA256.Sum(nil)}}
	}), FirmwareChanged, 2, ""},

	{"S19 the accepted firmware is of a bank that is not quoted", also(quotes(selection(pcr.SHA384, DefaultPCRs...)), with(func(c *Case) {
		c.Record.Firmware = map[pcr.Bank]map[int]pcr.Digest{pcr.SHA256: {0: pcr.SHA256.Sum(nil), 2: pcr.SHA256.Sum(nil)}}
	})), FirmwareChanged, 0, ""},
	{"a driver from a partition", edited(inserted(2, eventlog.Separator, 0, 0, driver(2, partitionNode))), BootEarly, 2, ""},
	{"a driver from a partition, accepted", also(edited(inserted(2, eventlog.Separator, 0, 0, driver(2, partitionNode))),
		with(func(c *Case) { c.Record.Firmware = c.Evidence.PCRs })), BootEarly, 2, ""},

	{"F01 cut log", mangled(func(b []byte) []byte { return b[:len(b)-1] }), LogMalformed, -1, ""},
	{"F02 huge EventSize", mangled(func(b []byte) []byte {
		binary.LittleEndian.PutUint32(b[bytes.Index(b, []byte("Calling"))-4:], 1<<31)
		return b
	}), LogMalformed, -1, ""},
	{"F03 wrong digest size", mangled(func(b []byte) []byte { b[32+28+2] = 21; return b }), LogMalformed, -1, ""},
	{"F04 2^28 algorithms", mangled(func(b []byte) []byte { binary.LittleEndian.PutUint32(b[32+24:], 1<<28); return b }), LogMalformed, -1, ""},
	{"F05 empty log", mangled(func([]byte) []byte { return nil }), LogMalformed, -1, ""},
	{"F06 huge digest count", mangled(func(b []byte) []byte {
		binary.LittleEndian.PutUint32(b[bytes.Index(b, []byte("Calling"))-4-(2+48)-(2+32)-(2+20)-4:], 1<<28)
		return b
	}), LogMalformed, -1, ""},
	{"F07 SHA-1 log", func(f *fixture) { f.bytes = func([]byte) []byte { return sha1Log(f.log) } }, LogBank, -1, ""},

	{"no reference", with(func(c *Case) { c.References = nil }), ReferenceNone, -1, ""},
	{"no path", with(func(c *Case) { c.Policy.Paths = []string{"pxe"} }), PathUnknown, -1, ""},
	{"a reference of another bank", with(func(c *Case) {
		for i := range c.References[0].Paths[0].Events {
			x := &c.References[0].Paths[0].Events[i]
			x.Digests = map[pcr.Bank]pcr.Digest{pcr.SHA384: x.Digests[pcr.SHA384]}
		}
	}), PathUnknown, -1, ""},
	{"a reference that says nothing", with(func(c *Case) { c.References[0].Paths[0].Events, c.References[0].Paths[0].Empty = nil, nil }), PCRNone, -1, ""},
	{"a policy that wants nothing", also(quotes(selection(pcr.SHA256, 8)), with(func(c *Case) { c.Policy.PCRs = []int{} })), PCRNone, -1, ""},
	{"Secure Boot that is not quoted", also(secured, quotes(selection(pcr.SHA256, 0, 4)),
		with(func(c *Case) { c.Policy.PCRs, c.Policy.SecureBoot = []int{4}, true })), SecureBootOff, 7, ""},
	{"P12 below the floor", with(func(c *Case) { c.Record.Floor = 1001 }), VersionFloor, -1, ""},
	{"kernel not measured", edited(dropped(4, app, 1)), MeasureMissing, 4, ""},
	{"ExitBootServices not measured", edited(dropped(5, eventlog.EFIAction, 1)), MeasureMissing, 5, ""},
	{"loader.conf", edited(appended(measured(5, eventlog.EventTag, "x"))), MeasureUnexpected, 5, ""},
	{"other type in PCR 5", edited(inserted(5, eventlog.EFIAction, 0, 0, measured(5, eventlog.EventTag, "x"))), LogType, 5, ""},
	{"other action in PCR 5", edited(replaced(5, eventlog.EFIAction, 0, "x")), LogData, 5, ""},
	{"other partition table", edited(func(t testing.TB, l []event) []event {
		i := find(t, l, 5, eventlog.GPT, 0)
		d := bytes.Clone(l[i].Data)
		d[100+16] ^= 1 // the GUID of partition 1
		l[i] = measured(5, eventlog.GPT, string(d))
		return l
	}), DiskLayout, 5, ""},

	{"Secure Boot on, no reference for it", also(secured, with(func(c *Case) { c.References = c.References[:1] })), PathUnknown, -1, ""},
	{"other PK", also(secured, edited(variableReplaced("PK"))), SecureBootKeys, 7, ""},
	{"other KEK", also(secured, edited(variableReplaced("KEK"))), SecureBootKeys, 7, ""},
	{"other db", also(secured, edited(variableReplaced("db"))), SecureBootKeys, 7, ""},
	{"P17 third-party key", also(secured, edited(inserted(7, eventlog.VariableAuthority, 0, 1, authority(8)))), SecureBootOther, 7, ""},
	{"P17 no own key", also(secured, edited(dropped(7, eventlog.VariableAuthority, 0))), MeasureMissing, 7, ""},

	{"statement unreadable", states(measured(15, eventlog.IPL, "x")), StatementUnknown, 15, ""},
	{"statement in another form", states(measured(15, eventlog.IPL, statement.Mark+`{"slot": "a","boot":"disk"}`)), StatementUnknown, 15, ""},
	{"statement not what was measured", func(f *fixture) {
		states(measured(15, eventlog.IPL, string(Statement{Slot: "a", Boot: "disk"}.Data())))(f)
		f.forgeInit = func(l []event) []event {
			l[0].Data = Statement{Slot: "b", Boot: "disk"}.Data()
			return l
		}
	}, LogData, 15, ""},
	{"S15 debug ticket", states(measured(15, eventlog.IPL, string(Statement{Boot: "pxe"}.Data())), measured(15, eventlog.IPL, debugMark+"operator")), MachineDebug, 15, ""},
	{"a slot started by kexec", states(measured(15, eventlog.IPL, string(statement.Launch{Slot: "b", Image: pcr.SHA256.Sum(nil)}.Data())), measured(15, eventlog.IPL, string(Statement{Slot: "b", Boot: "disk"}.Data()))), StatementUnknown, 15, ""},
	{"other word in PCR 15", states(measured(15, eventlog.IPL, string(Statement{Boot: "pxe"}.Data())), measured(15, eventlog.IPL, "x")), MeasureUnexpected, 15, ""},
	{"PCR 15 not logged", func(f *fixture) {
		states(measured(15, eventlog.IPL, "x"))(f)
		f.forgeInit = func([]event) []event { return nil }
	}, LogUnlogged, 15, ""},
	{"init's log extends PCR 4", states(measured(4, eventlog.IPL, "x")), LogMalformed, 4, ""},
	{"init's log has other banks", also(states(measured(15, eventlog.IPL, "x")), func(f *fixture) {
		f.c = func(c *Case) { c.Evidence.InitLog = sha1Log(f.init) }
	}), LogBank, 15, ""},
	{"init's log malformed", also(states(measured(15, eventlog.IPL, "x")), with(func(c *Case) { c.Evidence.InitLog = c.Evidence.InitLog[:70] })), LogMalformed, -1, ""},
	{"other machine.yaml", also(states(measured(15, eventlog.IPL, string(Statement{Machine: pcr.SHA256.Sum(nil)}.Data()))),
		with(func(c *Case) { c.Policy.MachineConfig, c.Record.Machine = true, pcr.SHA256.Sum([]byte("x")) })), MachineConfig, 15, ""},
	{"no statement, and one is wanted", with(func(c *Case) { c.Policy.MachineConfig, c.Record.Machine = true, pcr.SHA256.Sum([]byte("x")) }), MachineConfig, 15, ""},
}

func states(e ...event) func(f *fixture) { return func(f *fixture) { f.init = append(f.init, e...) } }

func variableReplaced(name string) func(testing.TB, []event) []event {
	return func(t testing.TB, l []event) []event {
		l[find(t, l, 7, eventlog.VariableDriver, slices.Index(variables, name))] = variable(name, 77)
		return l
	}
}

func sha1Log(list []event) []byte {
	var b []byte
	for _, e := range list {
		b = binary.LittleEndian.AppendUint32(b, e.PCR)
		b = binary.LittleEndian.AppendUint32(b, uint32(e.Type))
		b = append(b, e.Digests[pcr.SHA1]...)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(e.Data)))
		b = append(b, e.Data...)
	}
	return b
}

func TestRefusals(t *testing.T) {
	for _, r := range append(quoteCases, logCases...) {
		t.Run(r.id, func(t *testing.T) {
			f := genuine(t)
			r.edit(f)
			v := Verify(f.build())
			if v.Trusted || len(v.Findings) == 0 {
				t.Fatal("trusted")
			}
			if got := v.Findings[0]; got.Code != r.want || got.PCR != r.pcr || got.Section != r.section {
				t.Errorf("got %v, want %s, PCR %d, section %q; all: %v", got, r.want, r.pcr, r.section, v.Findings)
			}
			if Codes[v.Reason()] == "" {
				t.Errorf("the code %s says nothing", v.Reason())
			}
		})
	}
}

// TestAccepted are genuine boots that are not the plain one.
func TestAccepted(t *testing.T) {
	for _, c := range []struct {
		id   string
		edit func(f *fixture)
		want func(v *Verdict) bool
	}{
		{"three failed boot options", edited(inserted(4, app, 0, 0, slices.Concat(pair(), pair(), pair())...)),
			func(v *Verdict) bool { return v.FailedBootOptions == 3 }},
		{"attempts omitted", edited(silent), func(v *Verdict) bool {
			return v.FailedBootOptions == 0 && slices.Contains(v.NotChecked, "failed boot options: the firmware says that it logs none")
		}},
		{"quiet firmware, and allowed", also(edited(quietly), with(func(c *Case) { c.Policy.QuietFirmware = true })), func(v *Verdict) bool {
			return slices.Contains(v.NotChecked, "attempts to boot: the firmware does not log it, which the policy allows")
		}},
		{"firmware that is not quiet, and might be", with(func(c *Case) { c.Policy.QuietFirmware = true }), nil},
		{"an early application that the policy names", also(edited(inserted(4, eventlog.EFIAction, 0, 0, foreign)), early(string(foreign.Data))), nil},
		{"DMA protection is off", edited(inserted(7, eventlog.Separator, 0, 0, measured(7, eventlog.EFIAction, unprotectedDMA))),
			func(v *Verdict) bool { return len(v.Notes) == 1 && v.Notes[0].Code == FirmwareDMA }},
		{"DMA protection is off, behind the separator, with Secure Boot", also(secured, edited(inserted(7, eventlog.Separator, 0, 1, measured(7, eventlog.EFIAction, unprotectedDMA)))),
			func(v *Verdict) bool { return v.SecureBoot && len(v.Notes) == 1 }},
		{"padded log", mangled(func(b []byte) []byte { return append(b, bytes.Repeat([]byte{0xff}, 972)...) }), nil},
		{"clock falls within a power cut", func(f *fixture) {
			f.attest = func(a *tpm2.TPMSAttest) { a.ClockInfo.Safe = false }
			f.c = func(c *Case) { c.LastSeen.Clock.Millis = 2_000_000 + clockLoss }
		}, func(v *Verdict) bool { return len(v.Notes) == 1 && v.Notes[0].Code == ClockUnsafe }},
		{"never seen", with(func(c *Case) { c.LastSeen = nil }),
			func(v *Verdict) bool { return slices.Contains(v.NotChecked, "clock: nothing was seen before") }},
		{"resumed, and allowed", also(attested(func(a *tpm2.TPMSAttest) { a.ClockInfo.RestartCount = 1 }), with(func(c *Case) { c.Policy.AllowResumed = true })), nil},
		{"two banks", quotes(selection(pcr.SHA1, 0), selection(pcr.SHA256, DefaultPCRs...)),
			func(v *Verdict) bool { return slices.Contains(v.NotChecked, "bank sha1: another one was judged") }},
		{"SHA-384", quotes(selection(pcr.SHA384, DefaultPCRs...)), func(v *Verdict) bool { return v.Bank == "sha384" }},
		{"PCR 10 is left out", quotes(selection(pcr.SHA256, append([]int{10, 23}, DefaultPCRs...)...)), func(v *Verdict) bool { return len(v.Registers) == len(DefaultPCRs) }},
		{"Secure Boot on", also(secured, with(func(c *Case) { c.Policy.SecureBoot = true })),
			func(v *Verdict) bool { return v.SecureBoot && v.Compared == 6 }},
		{"newer dbx", also(secured, edited(variableReplaced("dbx"))), func(v *Verdict) bool { return v.SecureBoot }},
		{"accepted firmware", with(func(c *Case) { c.Record.Firmware = c.Evidence.PCRs }),
			func(v *Verdict) bool {
				return v.Registers[0].Against == "enrolment" && v.Registers[2].Against == "enrolment"
			}},
		{"a driver of an option ROM", edited(inserted(2, eventlog.Separator, 0, 0, driver(2, romNode))),
			func(v *Verdict) bool {
				return len(v.Notes) == 1 && v.Notes[0].Code == FirmwareDriver && v.AcceptsFirmware()
			}},
		{"a driver from elsewhere", edited(inserted(2, eventlog.Separator, 0, 0, driver(2, romNode), driver(2, efivar.Node{Type: 3, SubType: 24}))),
			func(v *Verdict) bool {
				return len(v.Notes) == 2 && v.Notes[0].Code == FirmwareForeign && v.Notes[0].PCR == 2 && !v.AcceptsFirmware()
			}},
		{"a driver that is accepted", also(edited(inserted(2, eventlog.Separator, 0, 0, driver(2, romNode))), with(func(c *Case) { c.Record.Firmware = c.Evidence.PCRs })),
			func(v *Verdict) bool { return len(v.Notes) == 0 && v.AcceptsFirmware() }},
		{"phases", states(measured(11, eventlog.IPL, "services"), measured(11, eventlog.IPL, "ready")), nil},
		{"statement", also(states(measured(15, eventlog.IPL, string(Statement{Slot: "b", Boot: "disk", Machine: pcr.SHA256.Sum(nil)}.Data()))),
			with(func(c *Case) { c.Policy.MachineConfig, c.Record.Machine = true, pcr.SHA256.Sum(nil) })),
			func(v *Verdict) bool {
				return v.Slot == "b" && v.SlotBy == "init" && v.MachineRegistered && v.against(15) == "enrolment" &&
					slices.Contains(v.NotChecked, "slot, disk and way to boot: the word of ingot-init, compared with nothing")
			}},
		{"statement, and no machine.yaml registered", states(measured(15, eventlog.IPL, string(Statement{Slot: "b", Boot: "disk", Machine: pcr.SHA256.Sum(nil)}.Data()))),
			func(v *Verdict) bool {
				return v.against(15) == "" && slices.Contains(v.NotChecked, "machine configuration: none was registered") &&
					slices.Contains(v.NotChecked, "PCR 15: its events were compared with nothing")
			}},
		{"statement with another machine.yaml, and the policy wants none", also(states(measured(15, eventlog.IPL, string(Statement{Slot: "b", Boot: "disk", Machine: pcr.SHA256.Sum(nil)}.Data()))),
			with(func(c *Case) { c.Record.Machine = pcr.SHA256.Sum([]byte("x")) })),
			func(v *Verdict) bool {
				return v.against(15) == "" && slices.Contains(v.NotChecked, "machine configuration: it is not the registered one")
			}},
		{"debug, and allowed", also(states(measured(15, eventlog.IPL, string(Statement{Boot: "pxe"}.Data())), measured(15, eventlog.IPL, debugMark)),
			with(func(c *Case) { c.Policy.AllowDebug = true })), func(v *Verdict) bool { return v.Debug }},
		{"one of two releases", with(func(c *Case) {
			other := reference(t)
			other.Version, other.Paths[0].Events = "2.0.0", slices.Clone(other.Paths[0].Events)
			other.Paths[0].Events[1].Digests = nil
			c.References = []Reference{other, c.References[0]}
		}), func(v *Verdict) bool { return v.Version == "1.0.0" }},
		{"a replaced command line, and the policy knows", func(f *fixture) {
			f.log = append(f.log, measured(12, eventlog.IPL, "u\x00"))
			f.c = func(c *Case) {
				p := &c.References[0].Paths[0]
				p.Boot, p.Replaced, p.Empty = "ipxe", true, nil
				p.Events = append(p.Events, Expected{12, eventlog.IPL, "load options", measured(12, eventlog.IPL, "u\x00").Digests})
				c.Policy.Paths = []string{"ipxe"}
			}
		}, func(v *Verdict) bool { return v.Boot == "ipxe" && v.Compared == 5 }},
		{"the disk is larger", largerDisk, nil},
		{"the disk has its own identifiers", func(f *fixture) {
			largerDisk(f)
			inner := f.c
			i := find(f.t, f.log, 5, eventlog.GPT, 0)
			d := bytes.Clone(f.log[i].Data)
			copy(d[56:], bytes.Repeat([]byte{5}, 16))
			d[100+16] ^= 1
			f.log[i] = measured(5, eventlog.GPT, string(d))
			f.c = func(c *Case) { inner(c); c.Record.Disk = gpt.GUID(bytes.Repeat([]byte{5}, 16)) }
		}, nil},
	} {
		t.Run(c.id, func(t *testing.T) {
			f := genuine(t)
			c.edit(f)
			v := Verify(f.build())
			if !v.Trusted {
				t.Fatal(v.Findings)
			}
			if c.want != nil && !c.want(&v) {
				t.Errorf("%+v", v)
			}
		})
	}
}

// against is what a register was compared with.
func (v *Verdict) against(register int) string {
	for _, r := range v.Registers {
		if r.PCR == register {
			return r.Against
		}
	}
	return "not quoted"
}

// largerDisk is the recorded table with the last partition grown.
func largerDisk(f *fixture) {
	i := find(f.t, f.log, 5, eventlog.GPT, 0)
	b := write(f.t, []event{f.log[i]})
	l, err := eventlog.Parse(b)
	if err != nil {
		f.t.Fatal(err)
	}
	table, err := l.Events[1].Table()
	if err != nil {
		f.t.Fatal(err)
	}
	layout := &Layout{Disk: table.Disk}
	for _, p := range table.Partitions {
		layout.Partitions = append(layout.Partitions, LayoutPartition{Type: p.Type, GUID: p.GUID, Start: p.First * 512, Size: (p.Last - p.First + 1) * 512})
	}
	d := bytes.Clone(f.log[i].Data)
	last := 100 + 128*(len(table.Partitions)-1)
	binary.LittleEndian.PutUint64(d[last+40:], table.Partitions[len(table.Partitions)-1].Last+1<<20)
	d[16] ^= 0xff // the header's checksum is another one too
	f.log[i] = measured(5, eventlog.GPT, string(d))
	f.c = func(c *Case) { c.References[0].Paths[0].Layout = layout }
}

// TestEveryFinding: a changed section does not hide a word that was measured too.
func TestEveryFinding(t *testing.T) {
	f := genuine(t)
	f.log = replaced(11, eventlog.IPL, 7, "evil")(t, f.log)
	f.log = inserted(11, eventlog.IPL, 0, 0, measured(11, eventlog.IPL, "word"))(t, f.log)
	v := Verify(f.build())
	for _, want := range []string{`measure.unexpected: PCR 11: EV_IPL "word"`, "image.unknown: PCR 11: section .initrd: not that of hello 1.0.0"} {
		if !slices.ContainsFunc(v.Findings, func(f Finding) bool { return f.String() == want }) {
			t.Errorf("not found: %s; found: %v", want, v.Findings)
		}
	}
}

// TestLongLogs: a log as long as evidence may be is judged in a moment, and not
// every event becomes a finding.
func TestLongLogs(t *testing.T) {
	for _, e := range []event{foreign, blobs[0], separator4, measured(11, eventlog.IPL, "x"), measuredOf(11, eventlog.IPL, ".linux", ".linux\x00"), measured(12, eventlog.IPL, "x"),
		measured(9, eventlog.EventTag, "x"), measured(5, eventlog.EFIAction, "x"), measuredOf(5, eventlog.EFIAction, "x", "y"), authority(3), variable("db", 1), pair()[0],
		measured(7, eventlog.EFIAction, unprotectedDMA), omitted()} {
		f := genuine(t)
		if e.Type == eventlog.VariableAuthority {
			secured(f)
		}
		i := find(t, f.log, 4, app, 0)
		f.log = insert(f.log, i, slices.Repeat([]event{e}, MaxEvidence*3/4/160)...)
		c := f.build()
		start := time.Now()
		v := Verify(c)
		// Firmware may repeat itself about DMA: that is a note.
		if took := time.Since(start); v.Trusted != (e.PCR == 7 && e.Type == eventlog.EFIAction) || took > 2*time.Second || len(v.Findings) > maxVerdict+maxFindings || len(v.Notes) > maxVerdict {
			t.Errorf("%s in PCR %d: %s, %d findings", e.Type, e.PCR, took, len(v.Findings))
		}
	}
}

// TestLayout: what of a partition table may differ, and what may not.
func TestLayout(t *testing.T) {
	guid := func(b byte) gpt.GUID { return gpt.GUID(bytes.Repeat([]byte{b}, 16)) }
	l := Layout{Disk: guid(1), Partitions: []LayoutPartition{
		{Type: guid(2), GUID: guid(3), Start: 1 << 20, Size: 1 << 20}, {Type: guid(4), GUID: guid(5), Start: 2 << 20, Size: 1 << 20}}}
	table := func(sector uint64) eventlog.Table {
		return eventlog.Table{Disk: guid(1), Partitions: []eventlog.TableEntry{
			{Type: guid(2), GUID: guid(3), First: 1 << 20 / sector, Last: 2<<20/sector - 1},
			{Type: guid(4), GUID: guid(5), First: 2 << 20 / sector, Last: 3<<20/sector - 1}}}
	}
	for _, c := range []struct {
		id   string
		edit func(t *eventlog.Table)
		disk gpt.GUID // the host's own
		want bool
	}{
		{"as it is", func(*eventlog.Table) {}, gpt.GUID{}, true},
		{"4096 bytes", func(x *eventlog.Table) { *x = table(4096) }, gpt.GUID{}, true},
		{"mixed sectors", func(x *eventlog.Table) { x.Partitions[0] = table(4096).Partitions[0] }, gpt.GUID{}, false},
		{"last one ends elsewhere", func(x *eventlog.Table) { x.Partitions[1].Last = 1 << 40 }, gpt.GUID{}, true},
		{"first one ends elsewhere", func(x *eventlog.Table) { x.Partitions[0].Last-- }, gpt.GUID{}, false},
		{"last one starts elsewhere", func(x *eventlog.Table) { x.Partitions[1].First++ }, gpt.GUID{}, false},
		{"other type", func(x *eventlog.Table) { x.Partitions[0].Type = guid(9) }, gpt.GUID{}, false},
		{"other identifier", func(x *eventlog.Table) { x.Partitions[0].GUID = guid(9) }, gpt.GUID{}, false},
		{"other disk", func(x *eventlog.Table) { x.Disk = guid(9) }, gpt.GUID{}, false},
		{"one more", func(x *eventlog.Table) { x.Partitions = append(x.Partitions, x.Partitions[1]) }, gpt.GUID{}, false},
		{"one less", func(x *eventlog.Table) { x.Partitions = x.Partitions[:1] }, gpt.GUID{}, false},
		{"own identifiers", func(x *eventlog.Table) { x.Disk, x.Partitions[0].GUID = guid(9), guid(8) }, guid(9), true},
		{"another's identifiers", func(x *eventlog.Table) { x.Disk = guid(7) }, guid(9), false},
		{"own identifiers, other type", func(x *eventlog.Table) { x.Disk, x.Partitions[0].Type = guid(9), guid(8) }, guid(9), false},
	} {
		x := table(512)
		c.edit(&x)
		if got := l.matches(x, c.disk); got != c.want {
			t.Errorf("%s: %t, want %t", c.id, got, c.want)
		}
	}
}
