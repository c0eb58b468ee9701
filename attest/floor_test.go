package attest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/policy"
)

// certification is what is signed of a counter, with all that can be forged
// about it.
type certification struct {
	value  uint64
	says   *int64
	attest func(a *tpm2.TPMSAttest, info *tpm2.TPMSNVCertifyInfo)
	key    *ecdsa.PrivateKey
	proof  func(p *FloorProof)
}

func (x certification) make(t testing.TB, challenge Challenge) *FloorProof {
	t.Helper()
	info := tpm2.TPMSNVCertifyInfo{IndexName: tpm2.TPM2BName{Buffer: policy.FloorName()},
		NVContents: tpm2.TPM2BData{Buffer: binary.BigEndian.AppendUint64(nil, x.value)}}
	a := tpm2.TPMSAttest{Magic: tpm2.TPMGeneratedValue, Type: tpm2.TPMSTAttestNV, QualifiedSigner: tpm2.TPM2BName{Buffer: []byte{0, 11}},
		ExtraData: tpm2.TPM2BData{Buffer: challenge.ExtraData()}, ClockInfo: tpm2.TPMSClockInfo{Clock: 2_000_010, ResetCount: 6, Safe: true}}
	if x.attest != nil {
		x.attest(&a, &info)
	}
	a.Attested = tpm2.NewTPMUAttest(tpm2.TPMSTAttestNV, &info)
	p := &FloorProof{Attest: tpm2.Marshal(a), Epoch: x.says}
	key := x.key
	if key == nil {
		key = softKey
	}
	r, s, err := ecdsa.Sign(rand.Reader, key, pcr.SHA256.Sum(p.Attest))
	if err != nil {
		t.Fatal(err)
	}
	p.Signature = ecdsaSignature(pcr.SHA256, r.Bytes(), s.Bytes())
	if x.proof != nil {
		x.proof(p)
	}
	return p
}

func says(n int64) *int64 { return &n }

// counted is the genuine boot of epoch 1000 on a TPM with a counter, whose first
// value was 58: one that was deleted stood at 57. It stands for floor 998 now.
func counted(x certification) func(f *fixture) {
	return func(f *fixture) {
		f.c = func(c *Case) {
			c.Evidence.Floor = x.make(f.t, c.Challenge)
			c.Record.Floor, c.Record.Counter = 998, &Counter{Name: policy.FloorName(), Base: 58, Value: 58 + 998}
		}
	}
}

// unbound has never shown a counter.
func unbound(c *Case) { c.Record.Counter = nil }

// released adds a release of a higher epoch, which does not run.
func released(epoch int64) func(c *Case) {
	return func(c *Case) {
		other := c.References[0]
		other.Version, other.Epoch = "2.0.0", epoch
		other.Paths = slices.Clone(other.Paths)
		other.Paths[0].Events = slices.Clone(other.Paths[0].Events)
		other.Paths[0].Events[0].Digests = nil
		c.References = append(c.References, other)
	}
}

// at998 is the counter at floor 998.
const at998 = 58 + 998

var floorCases = []refusal{
	{"counter missing", also(counted(certification{}), with(func(c *Case) { c.Evidence.Floor = nil })), FloorLost, -1, ""},
	{"another index", counted(certification{value: at998, attest: func(_ *tpm2.TPMSAttest, i *tpm2.TPMSNVCertifyInfo) { i.IndexName.Buffer[5] ^= 1 }}), FloorLost, -1, ""},
	{"another index, unbound", also(counted(certification{value: at998, says: says(998), attest: func(_ *tpm2.TPMSAttest, i *tpm2.TPMSNVCertifyInfo) { i.IndexName.Buffer[5] ^= 1 }}), with(unbound)), FloorLost, -1, ""},
	{"another name was bound", also(counted(certification{value: at998}), with(func(c *Case) { c.Record.Counter.Name = []byte("x") })), FloorLost, -1, ""},
	{"a part of the index", counted(certification{value: at998, attest: func(_ *tpm2.TPMSAttest, i *tpm2.TPMSNVCertifyInfo) { i.NVContents.Buffer = i.NVContents.Buffer[:7] }}), FloorLost, -1, ""},
	{"from inside of the index", counted(certification{value: at998, attest: func(_ *tpm2.TPMSAttest, i *tpm2.TPMSNVCertifyInfo) { i.Offset = 1 }}), FloorLost, -1, ""},
	{"below the base", counted(certification{value: 57}), FloorLost, -1, ""},
	{"below the base, nothing higher seen", also(counted(certification{value: 57}), with(func(c *Case) { c.Record.Counter.Value = 0 })), FloorLost, -1, ""},
	{"rewound", counted(certification{value: at998 - 1}), FloorLost, -1, ""},
	{"value of 2^63", counted(certification{value: 1 << 63}), FloorLost, -1, ""},
	{"value of 2^63, unbound", also(counted(certification{value: 1 << 63, says: says(998)}), with(unbound)), FloorLost, -1, ""},
	{"made anew, and no release is so high", counted(certification{value: at998 + 3, says: says(1001)}), FloorLost, -1, ""},
	{"made anew, and a volume too", counted(certification{value: at998 + 1, says: says(0)}), FloorLost, -1, ""},
	{"unbound, and below its base", also(counted(certification{value: 58, says: says(-1)}), with(unbound)), FloorLost, -1, ""},
	{"above the release", also(counted(certification{value: at998 + 3, says: says(1001)}), with(released(1001))), VersionFloor, -1, ""},
	{"above the release, unbound", also(counted(certification{value: at998, says: says(1001)}), with(released(1001)), with(unbound)), VersionFloor, -1, ""},
	{"of another challenge", counted(certification{value: at998, attest: func(a *tpm2.TPMSAttest, _ *tpm2.TPMSNVCertifyInfo) {
		a.ExtraData.Buffer = (Challenge{Nonce: []byte("the one before")}).ExtraData()
	}}), FloorUnproven, -1, ""},
	{"of another boot", counted(certification{value: at998, attest: func(a *tpm2.TPMSAttest, _ *tpm2.TPMSNVCertifyInfo) { a.ClockInfo.ResetCount-- }}), FloorUnproven, -1, ""},
	{"of before a resume", counted(certification{value: at998, attest: func(a *tpm2.TPMSAttest, _ *tpm2.TPMSNVCertifyInfo) { a.ClockInfo.RestartCount++ }}), FloorUnproven, -1, ""},
	{"by another key", counted(certification{value: at998, key: func() *ecdsa.PrivateKey {
		k, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		return k
	}()}), FloorUnproven, -1, ""},
	{"flipped", counted(certification{value: at998, proof: func(p *FloorProof) { p.Attest[len(p.Attest)-1] ^= 1 }}), FloorUnproven, -1, ""},
	{"flipped, unbound", also(counted(certification{value: at998, says: says(998), proof: func(p *FloorProof) { p.Attest[len(p.Attest)-1] ^= 1 }}), with(unbound)), FloorUnproven, -1, ""},
	{"no signature", counted(certification{value: at998, proof: func(p *FloorProof) { p.Signature = nil }}), FloorUnproven, -1, ""},
	{"the quote instead", also(counted(certification{value: at998}), with(func(c *Case) {
		c.Evidence.Floor = &FloorProof{Attest: c.Evidence.Quote, Signature: c.Evidence.Signature}
	})), FloorUnproven, -1, ""},
	{"and another image", also(edited(replaced(4, app, 0, "evil")), counted(certification{value: at998 - 1})), ImageUnknown, 4, ""},
}

func TestFloorRefusals(t *testing.T) {
	for _, r := range floorCases {
		t.Run(r.id, func(t *testing.T) {
			f := genuine(t)
			r.edit(f)
			v := Verify(f.build())
			if v.Trusted || v.Reason() != r.want || v.Findings[0].PCR != r.pcr || v.Counter != nil {
				t.Errorf("got %v, %+v, want %s", v.Findings, v.Counter, r.want)
			}
			if host := (Host{}); host.Count(&v) != "" || host.Record.Counter != nil {
				t.Errorf("a refused counter is bound: %+v", host.Record.Counter)
			}
			if !v.Proven() {
				t.Error("the verdict says nothing about the host")
			}
		})
	}
}

// TestFloor: what of a counter is taken into the record.
func TestFloor(t *testing.T) {
	for _, c := range []struct {
		id    string
		edit  func(f *fixture)
		base  int64 // 0: nothing is new
		value uint64
		floor int64
	}{
		{"as it was", counted(certification{value: at998, says: says(998)}), 0, at998, 998},
		{"as it was, collected by hand", counted(certification{value: at998}), 0, at998, 998},
		{"raised", counted(certification{value: at998 + 2, says: says(1000)}), 58, at998 + 2, 1000},
		{"a volume of a later release", counted(certification{value: at998, says: says(999)}), 57, at998, 999},
		{"the first", also(counted(certification{value: at998 + 1, says: says(999)}), with(unbound)), 58, at998 + 1, 999},
		{"the first, below the floor of an operator", also(counted(certification{value: at998 + 1, says: says(9)}), with(unbound)), 58 + 990, at998 + 1, 998},
	} {
		t.Run(c.id, func(t *testing.T) {
			f := genuine(t)
			c.edit(f)
			k := f.build()
			v := Verify(k)
			if !v.Trusted {
				t.Fatal(v.Findings)
			}
			before, _ := json.Marshal(k.Record)
			host := Host{Record: *k.Record}
			said := host.Count(&v)
			if after, _ := json.Marshal(k.Record); !bytes.Equal(before, after) {
				t.Error("the case's record was changed")
			}
			got := host.Record.Counter
			if (said == "") != (c.base == 0) || got.Value != c.value || host.Record.Floor != c.floor || c.base != 0 && got.Base != c.base || !bytes.Equal(got.Name, policy.FloorName()) {
				t.Errorf("%q: %+v, floor %d", said, got, host.Record.Floor)
			}
			if host.Count(&v) != "" {
				t.Error("new for the second time")
			}
		})
	}
	f := genuine(t)
	also(counted(certification{value: at998 + 3, says: says(1001)}), with(func(c *Case) { c.Record.Floor = 1001 }))(f)
	if v := Verify(f.build()); len(v.Findings) != 1 || v.Reason() != VersionFloor {
		t.Errorf("a floor that is known, above the release: %v", v.Findings)
	}
	f = genuine(t)
	also(edited(replaced(4, app, 0, "evil")), counted(certification{value: at998 + 1, says: says(999)}))(f)
	if v, host := Verify(f.build()), (Host{}); v.Trusted || host.Count(&v) != "" {
		t.Errorf("a refused host raises its floor: %+v", v)
	}
	f = genuine(t)
	also(counted(certification{value: at998}), with(unbound))(f)
	if v := Verify(f.build()); !v.Trusted || v.Counter != nil || !slices.Contains(v.NotChecked, "version floor in the TPM: nothing says from where its counter counts") {
		t.Errorf("%+v", v)
	}
	if v := Verify(genuine(t).build()); !slices.Contains(v.NotChecked, "version floor in the TPM: the evidence names no counter") {
		t.Errorf("%q", v.NotChecked)
	}
}

// FuzzFloor: of a bound counter nothing is trusted but what the TPM has signed.
func FuzzFloor(f *testing.F) {
	x := genuine(f)
	counted(certification{value: at998, says: says(998)})(x)
	c := x.build()
	good := *c.Evidence.Floor
	f.Add(good.Attest, good.Signature, int64(998))
	f.Add(c.Evidence.Quote, c.Evidence.Signature, int64(-1))
	f.Add(good.Attest, good.Signature, int64(-1<<63))
	f.Fuzz(func(t *testing.T, signed, signature []byte, epoch int64) {
		e := *c.Evidence
		e.Floor = &FloorProof{Attest: signed, Signature: signature, Epoch: &epoch}
		k := c
		k.Evidence = &e
		v := Verify(k)
		if v.Trusted != (v.Counter != nil) || v.Trusted && (!bytes.Equal(signed, good.Attest) || epoch < 998 || epoch > 1000) {
			t.Errorf("%x, floor %d: %+v", signed, epoch, v)
		}
		if !v.Trusted && v.Reason() != FloorLost && v.Reason() != FloorUnproven && v.Reason() != VersionFloor {
			t.Errorf("refused by %s", v.Reason())
		}
	})
}
