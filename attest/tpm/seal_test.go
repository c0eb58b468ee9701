package tpm

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"sync"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/policy"
	"github.com/ingot-os/ingot/attest/quote"
)

var policyRSA = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func policyKey(t *testing.T) policy.Key {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(policyRSA().Public())
	if err != nil {
		t.Fatal(err)
	}
	k, err := policy.ParseKey(spki)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// approve signs what the register holds for a floor.
func approve(t *testing.T, d policy.Digest, floor int) policy.Signed {
	t.Helper()
	sum := policy.Approval(d, policy.Ref(floor))
	sig, err := rsa.SignPKCS1v15(nil, policyRSA(), crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return policy.Signed{Digest: hex.EncodeToString(d[:]), Floor: floor, Ref: policy.Ref(floor), Signature: sig}
}

func (e *emulator) measure(t *testing.T, register int, text string) {
	t.Helper()
	e.measureDigest(t, register, pcr.SHA256.Sum([]byte(text)))
}

func (e *emulator) measureDigest(t *testing.T, register int, d pcr.Digest) {
	t.Helper()
	if err := e.Extend(register, map[pcr.Bank]pcr.Digest{pcr.SHA256: d}); err != nil {
		t.Fatal(err)
	}
}

// restart is a power cycle with another boot's measurements of the firmware's
// keys and of the program.
func (e *emulator) restart(t *testing.T, keys, program string) *emulator {
	t.Helper()
	e.kill()
	again := start(t, e.dir)
	again.measure(t, 7, keys)
	again.measure(t, 11, program)
	return again
}

// pcr11 is the policy for the register's present value.
func (e *emulator) pcr11(t *testing.T) policy.Digest {
	t.Helper()
	v, err := e.Values(11)
	if err != nil {
		t.Fatal(err)
	}
	return policy.Digest{}.PCR(v)
}

// sealed is a machine with a key that is sealed at floor 1.
type sealed struct {
	*emulator
	key    policy.Key
	blob   Blob
	limit  uint64
	secret []byte
	made   policy.Values
}

func sealNow(t *testing.T) *sealed {
	t.Helper()
	s := &sealed{emulator: blank(t), key: policyKey(t), secret: random(t, 32)}
	s.emulator = s.restart(t, "own keys", "release 1")
	c, err := s.DefineCounter(FloorIndex)
	if err != nil {
		t.Fatal(err)
	}
	s.limit = c.Value
	s.blob = s.seal(t, 1, c.Value)
	return s
}

func (s *sealed) seal(t *testing.T, floor int, limit uint64) Blob {
	t.Helper()
	c, err := s.Counter(FloorIndex)
	if err != nil {
		t.Fatal(err)
	}
	if s.made, err = s.Values(7, 11); err != nil {
		t.Fatal(err)
	}
	literal := policy.Values{7: s.made[7]}
	parent := s.parent(t)
	defer s.Flush(parent)
	b, err := s.Seal(parent, s.secret, policy.Sealed(s.key, policy.Ref(floor), literal, c.Policy(limit)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (s *sealed) parent(t *testing.T) *Key {
	t.Helper()
	k, err := s.StorageKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// open unseals by a signature, and sees that nothing stays loaded in the TPM.
func (s *sealed) open(t *testing.T, b Blob, sig policy.Signed, limit uint64) error {
	t.Helper()
	c, err := s.Counter(FloorIndex)
	if err != nil {
		return err
	}
	parent := s.parent(t)
	got, err := s.Unseal(parent, b, Proof{Key: s.key, Signed: sig, Literal: []int{7}, Counter: c, Limit: limit, Made: s.made})
	s.Flush(parent)
	if err == nil && !bytes.Equal(got, s.secret) {
		t.Fatal("another secret came out")
	}
	for _, first := range []uint32{0x02000000, 0x03000000, 0x80000000} { // sessions of both kinds, objects
		r, capErr := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: first, PropertyCount: 8}.Execute(s.t)
		if capErr != nil {
			t.Fatal(capErr)
		}
		if h, capErr := r.CapabilityData.Data.Handles(); capErr != nil || len(h.Handle) != 0 {
			t.Fatalf("%d handles from %#x are still loaded (%v)", len(h.Handle), first, capErr)
		}
	}
	return err
}

func TestUnseal(t *testing.T) {
	s := sealNow(t)
	first := s.pcr11(t)
	if err := s.open(t, s.blob, approve(t, first, 1), s.limit); err != nil {
		t.Fatal(err)
	}
	// A new release with the same keys, whose value was signed.
	s.emulator = s.restart(t, "own keys", "release 2")
	second := s.pcr11(t)
	if err := s.open(t, s.blob, approve(t, second, 1), s.limit); err != nil {
		t.Errorf("a new release: %v", err)
	}
	for name, c := range map[string]struct {
		sig   policy.Signed
		limit uint64
		want  error
	}{
		"a changed program with the old signature":   {approve(t, first, 1), s.limit, ErrApproval},
		"a signature for another floor":              {approve(t, second, 0), s.limit, ErrPolicy},
		"a signature that is moved to another floor": {moved(approve(t, second, 0), 1), s.limit, policy.ErrSignature},
		"another limit": {approve(t, second, 1), s.limit + 1, ErrPolicy},
	} {
		if err := s.open(t, s.blob, c.sig, c.limit); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	s.measure(t, 11, "services")
	for name, sig := range map[string]policy.Signed{"as before": approve(t, second, 1)} {
		if err := s.open(t, s.blob, sig, s.limit); !errors.Is(err, ErrApproval) {
			t.Errorf("after the services have started, %s: %v", name, err)
		}
	}
}

func moved(s policy.Signed, floor int) policy.Signed {
	s.Floor, s.Ref = floor, policy.Ref(floor)
	return s
}

// TestForeignSystemReplays is S3: another system, started by other keys or with
// Secure Boot off, extends PCR 11 as the release does.
func TestForeignSystemReplays(t *testing.T) {
	s := sealNow(t)
	want := s.pcr11(t)
	s.emulator = s.restart(t, "keys of somebody else", "release 1")
	if s.pcr11(t) != want {
		t.Fatal("the replay gives another value: nothing is tested")
	}
	if err := s.open(t, s.blob, approve(t, want, 1), s.limit); !errors.Is(err, ErrPolicy) {
		t.Errorf("with another PCR 7: %v", err)
	}
	other := sealNow(t)
	if err := other.open(t, s.blob, approve(t, want, 1), s.limit); !errors.Is(err, ErrParent) {
		t.Errorf("in another machine: %v", err)
	}
}

// TestMadeElsewhere: a blob for the right policy that another system has made,
// and one that says it was made by ours, are not taken.
func TestMadeElsewhere(t *testing.T) {
	s := sealNow(t)
	d, own := s.pcr11(t), s.made
	s.emulator = s.restart(t, "another system", "its program")
	c, err := s.Counter(FloorIndex)
	if err != nil {
		t.Fatal(err)
	}
	parent := s.parent(t)
	forged, err := s.Seal(parent, s.secret, policy.Sealed(s.key, policy.Ref(1), policy.Values{7: own[7]}, c.Policy(s.limit)))
	s.Flush(parent)
	if err != nil {
		t.Fatal(err)
	}
	s.emulator, s.made = s.restart(t, "own keys", "release 1"), own
	if err := s.open(t, forged, approve(t, d, 1), s.limit); !errors.Is(err, ErrMade) {
		t.Errorf("made by another system: %v", err)
	}
	forged.Made = s.blob.Made
	if err := s.open(t, forged, approve(t, d, 1), s.limit); !errors.Is(err, ErrMade) {
		t.Errorf("with the ticket of another blob: %v", err)
	}
	forged = s.blob
	forged.Made.Ticket = nil
	if err := s.open(t, forged, approve(t, d, 1), s.limit); !errors.Is(err, ErrMade) {
		t.Errorf("without ticket: %v", err)
	}
	if err := s.open(t, s.blob, approve(t, d, 1), s.limit); err != nil {
		t.Errorf("ours: %v", err)
	}
}

// TestFloor: after the counter has passed the limit, a copy of the old blob is
// worth nothing, whatever is signed for it.
func TestFloor(t *testing.T) {
	s := sealNow(t)
	d := s.pcr11(t)
	next := s.seal(t, 3, s.limit+2)
	for range 2 { // a cut between the increments leaves the new blob working
		if _, err := s.Increment(FloorIndex); err != nil {
			t.Fatal(err)
		}
		if err := s.open(t, s.blob, approve(t, d, 1), s.limit); !errors.Is(err, ErrAbove) {
			t.Errorf("the old blob: %v", err)
		}
		if err := s.open(t, next, approve(t, d, 3), s.limit+2); err != nil {
			t.Errorf("the new blob: %v", err)
		}
	}
	if err := s.open(t, next, approve(t, d, 1), s.limit+2); !errors.Is(err, ErrPolicy) {
		t.Errorf("an old release with the new blob: %v", err)
	}
}

// TestCounterIsNeverBelow: a counter that stood at 57 when it was deleted starts
// above that, with the same name.
func TestCounterIsNeverBelow(t *testing.T) {
	s := sealNow(t)
	first, err := s.Counter(FloorIndex)
	if err != nil {
		t.Fatal(err)
	}
	last := first
	for last.Value < 57 {
		if last, err = s.Increment(FloorIndex); err != nil {
			t.Fatal(err)
		}
	}
	s.limit = last.Value
	s.blob = s.seal(t, 1, last.Value)
	if err := s.DeleteCounter(FloorIndex); err != nil {
		t.Fatal(err)
	}
	d := s.pcr11(t)
	if err := s.open(t, s.blob, approve(t, d, 1), s.limit); !errors.Is(err, ErrNoCounter) {
		t.Errorf("without the counter: %v", err)
	}
	again, err := s.DefineCounter(FloorIndex)
	if err != nil || again.Value <= 57 || !bytes.Equal(again.Name, first.Name) {
		t.Fatalf("%v, %+v", err, again)
	}
	if err := s.open(t, s.blob, approve(t, d, 1), s.limit); !errors.Is(err, ErrAbove) {
		t.Errorf("with a new counter: %v", err)
	}
}

func TestCounterRefusesOthers(t *testing.T) {
	e := blank(t)
	if _, err := e.Counter(FloorIndex); !errors.Is(err, ErrNoCounter) {
		t.Errorf("none: %v", err)
	}
	if _, err := e.Increment(FloorIndex); !errors.Is(err, ErrNoCounter) {
		t.Errorf("none: %v", err)
	}
	_, err := tpm2.NVDefineSpace{AuthHandle: tpm2.TPMRHOwner, PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
		NVIndex: FloorIndex, NameAlg: tpm2.TPMAlgSHA256, DataSize: 8,
		Attributes: tpm2.TPMANV{OwnerWrite: true, OwnerRead: true, AuthRead: true, NoDA: true}})}.Execute(e.t)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Counter(FloorIndex); !errors.Is(err, ErrOtherIndex) || !errors.Is(err, ErrNoCounter) {
		t.Errorf("an ordinary index in its place: %v", err)
	}
	if _, err := e.DefineCounter(FloorIndex); err == nil {
		t.Error("an ordinary index is taken for a counter")
	}
}

// TestCertifyCounter: the signature holds over what the TPM says of the counter.
func TestCertifyCounter(t *testing.T) {
	e := blank(t)
	c, err := e.DefineCounter(FloorIndex)
	if err != nil {
		t.Fatal(err)
	}
	ak, extra := mustKey(t, e), random(t, 32)
	got, err := e.CertifyCounter(ak, c, extra)
	if err != nil {
		t.Fatal(err)
	}
	a, err := tpm2.Unmarshal[tpm2.TPMSAttest](got.Attest)
	if err != nil {
		t.Fatal(err)
	}
	info, err := a.Attested.NV()
	if err != nil {
		t.Fatal(err)
	}
	want := binary.BigEndian.AppendUint64(nil, c.Value)
	ours, err := quote.ParseNV(got.Attest)
	if err != nil || !bytes.Equal(ours.Index, policy.FloorName()) || !bytes.Equal(ours.Contents, want) || ours.Offset != 0 || !bytes.Equal(ours.ExtraData, extra) {
		t.Errorf("%+v, %v, want the index %x", ours, err, policy.FloorName())
	}
	if !bytes.Equal(info.IndexName.Buffer, c.Name) || !bytes.Equal(info.NVContents.Buffer, want) || !bytes.Equal(a.ExtraData.Buffer, extra) {
		t.Errorf("%+v", info)
	}
	public, err := quote.ParsePublic(ak.Public)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := quote.ParseSignature(got.Signature)
	if err != nil {
		t.Fatal(err)
	}
	if err := public.Verify(got.Attest, sig); err != nil {
		t.Error(err)
	}
}
