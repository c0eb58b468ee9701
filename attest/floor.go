package attest

import (
	"bytes"
	"crypto/subtle"
	"encoding/binary"
	"math"

	"github.com/ingot-os/ingot/attest/policy"
	"github.com/ingot-os/ingot/attest/quote"
)

// FloorProof is what the TPM says about the counter of its version floor, by
// TPM2_NV_Certify with the attestation key and the same extra data as the quote.
type FloorProof struct {
	Attest    []byte `json:"attest"`    // TPMS_ATTEST with TPMS_NV_CERTIFY_INFO
	Signature []byte `json:"signature"` // TPMT_SIGNATURE
	// Epoch is the floor that the value means to the machine, by the base in its
	// data volume; nil when it knows none.
	Epoch *int64 `json:"epoch,omitempty"`
}

// Counter is what a server knows of a version floor's counter. A TPM begins a
// counter above all that it has ever had, so the floor is what it has been
// raised by since.
type Counter struct {
	Name  []byte `json:"name"`  // of the NV index
	Base  int64  `json:"base"`  // the value that means floor 0
	Value uint64 `json:"value"` // the highest that was seen
}

// Floor is the lowest epoch that the counter lets run.
func (c *Counter) Floor() int64 { return int64(c.Value) - c.Base }

// counter asks what the TPM says about the floor: whether its counter is the one
// that was bound, and whether the release is at or above what it means (S10).
func (k *check) counter() {
	p, bound := k.c.Evidence.Floor, k.c.Record.Counter
	switch {
	case p == nil && bound == nil:
		k.skip("version floor in the TPM: the evidence names no counter")
		return
	case p == nil:
		k.refuse(FloorLost, -1, "no counter; the enrolled one stood at %d", bound.Value)
		return
	}
	nv := k.certified(p)
	if nv == nil {
		return
	}
	name := policy.FloorName()
	if bound != nil {
		name = bound.Name
	}
	if !bytes.Equal(nv.Index, name) || nv.Offset != 0 || len(nv.Contents) != 8 {
		k.refuse(FloorLost, -1, "the index %x is not the counter %x", nv.Index, name)
		return
	}
	value := binary.BigEndian.Uint64(nv.Contents)
	if value > math.MaxInt64 {
		k.refuse(FloorLost, -1, "the counter stands at %d", value)
		return
	}
	k.reckon(bound, Counter{Name: nv.Index, Value: value}, p.Epoch)
}

// certified gives what the TPM has signed, if it has: with the quote's key, for
// this challenge, in this boot.
func (k *check) certified(p *FloorProof) *quote.NV {
	sig, err := quote.ParseSignature(p.Signature)
	if err == nil {
		err = k.key.Verify(p.Attest, sig)
	}
	var nv *quote.NV
	if err == nil {
		nv, err = quote.ParseNV(p.Attest)
	}
	switch {
	case err != nil:
		k.refuse(FloorUnproven, -1, "%v", err)
	case subtle.ConstantTimeCompare(nv.ExtraData, k.c.Challenge.ExtraData()) != 1:
		k.refuse(FloorUnproven, -1, "it carries %x, another challenge's", nv.ExtraData)
	case nv.Clock.ResetCount != k.quote.Clock.ResetCount || nv.Clock.RestartCount != k.quote.Clock.RestartCount:
		k.refuse(FloorUnproven, -1, "of another boot than the quote: %+v, %+v", nv.Clock, k.quote.Clock)
	default:
		return nv
	}
	return nil
}

// reckon says what the value means. says is the floor by the machine's own
// count. It binds the base at first, and may lower it later: a volume that was
// made by a later release counts from there.
func (k *check) reckon(bound *Counter, c Counter, says *int64) {
	var floor int64
	switch {
	case bound != nil && c.Value < bound.Value:
		k.refuse(FloorLost, -1, "the counter stands at %d, and was at %d", c.Value, bound.Value)
		return
	case bound == nil && says == nil:
		k.skip("version floor in the TPM: nothing says from where its counter counts")
		return
	case bound == nil:
		floor = *says
	default:
		floor = int64(c.Value) - bound.Base
		if says != nil && *says < floor {
			k.refuse(FloorLost, -1, "the machine counts from %d, enrolled is %d: the counter was made anew", int64(c.Value)-*says, bound.Base)
			return
		}
		if says != nil {
			floor = *says
		}
	}
	c.Base = int64(c.Value) - floor
	switch {
	case floor < 0:
		k.refuse(FloorLost, -1, "the counter stands at %d, below its base %d", c.Value, c.Base)
	case k.v.Release == "": // refused already
	case floor > k.highest():
		k.refuse(FloorLost, -1, "the counter stands at %d, floor %d: made anew, or raised by somebody else, for no release has an epoch so high", c.Value, floor)
	case floor > k.v.Epoch:
		if k.v.Epoch >= k.c.Record.Floor { // else it was said
			k.refuse(VersionFloor, -1, "%s has the epoch %d, the floor in the TPM is %d", k.v.Version, k.v.Epoch, floor)
		}
	default:
		k.v.Counter = &c
	}
}

// highest is the highest floor that a release of this host can have raised.
func (k *check) highest() int64 {
	top := k.c.Record.Floor
	for i := range k.c.References {
		top = max(top, k.c.References[i].Epoch)
	}
	return top
}
