// Package policy computes the policies under which a TPM gives a sealed key
// away: digests of TPM2_PolicyPCR, TPM2_PolicyAuthorize and TPM2_PolicyNV (TPM
// 2.0 Library part 3, section 23), the signed file of a release that says which
// values of PCR 11 are good, and the policy of a sealed data key.
//
// A data key is sealed at a floor, an epoch of releases. Its policy is: PCR 11
// has a value that the policy key has signed for this floor, PCR 7 is literally
// what it was, and the TPM's counter has not passed the value that belongs to
// the floor. A release of epoch E carries a signature for each floor from 0 to
// E: it opens keys of its own and of lower floors, never of higher ones.
//
// Limits: SHA-256 throughout; policy keys are RSA, which every TPM 2.0 checks;
// registers 0 to 23. All of it is arithmetic: nothing here speaks to a TPM.
//
// Shape of use:
//
//	pcr11 := policy.Digest{}.PCR(policy.Values{11: value})
//	sum := policy.Approval(pcr11, policy.Ref(3)) // what the policy key signs
//	key, err := policy.ParseKey(spki)
//	sealed := policy.Sealed(key, policy.Ref(3), policy.Values{7: pcr7}, policy.Counter{Name: name, Limit: 60})
package policy

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// Commands (part 2, section 6.5.2) and the algorithm of all digests here (6.3).
const (
	ccPolicyNV        = 0x00000149
	ccPolicyAuthorize = 0x0000016a
	ccPolicyPCR       = 0x0000017f
	algSHA256         = 0x000b
)

// registers is how many the PC Client Platform TPM Profile has; a selection of
// them takes three octets.
const registers = 24

// Digest is the policyDigest of a session with SHA-256. The zero value is that
// of a session that has just started.
type Digest [sha256.Size]byte

// Values are contents of registers in the SHA-256 bank.
type Values map[int][sha256.Size]byte

// extend is policyDigest := H(policyDigest ‖ parts...).
func (d Digest) extend(parts ...[]byte) (out Digest) {
	h := sha256.New()
	h.Write(d[:])
	for _, p := range parts {
		h.Write(p)
	}
	h.Sum(out[:0])
	return out
}

// PCR is the digest after TPM2_PolicyPCR (23.7) for registers with these
// values. It panics for a register above 23: selections are no input.
func (d Digest) PCR(v Values) Digest {
	return d.extend(be32(ccPolicyPCR), selection(v), composite(v))
}

// selection is a TPML_PCR_SELECTION of one bank.
func selection(v Values) []byte {
	b := []byte{0, 0, 0, 1, algSHA256 >> 8, algSHA256 & 0xff, registers / 8, 0, 0, 0}
	for n := range v {
		if n < 0 || n >= registers {
			panic(fmt.Sprintf("policy: register %d", n))
		}
		b[7+n/8] |= 1 << (n % 8)
	}
	return b
}

// composite is the hash of the values in the order of their registers.
func composite(v Values) []byte {
	h := sha256.New()
	for n := range registers {
		if value, ok := v[n]; ok {
			h.Write(value[:])
		}
	}
	return h.Sum(nil)
}

// Authorized is the digest after TPM2_PolicyAuthorize (23.16) with a key of
// this name. What came before is replaced by it, whatever it was: that it was
// approved under ref is what the command checks.
func Authorized(keyName []byte, ref string) Digest {
	return Digest{}.extend(be32(ccPolicyAuthorize), keyName).extend([]byte(ref))
}

// Approval is what the key signs so that TPM2_PolicyAuthorize takes a policy.
func Approval(approved Digest, ref string) [sha256.Size]byte {
	return sha256.Sum256(append(approved[:], ref...))
}

// Operation is a TPM_EO: how an NV index is compared (part 2, section 6.8).
type Operation uint16

// AtMost is TPM_EO_UNSIGNED_LE.
const AtMost Operation = 0x0009

// Counter is an NV index of eight bytes and the highest value that it may have.
type Counter struct {
	Name  []byte // of the index once it was written: SHA-256 with its algorithm
	Limit uint64
}

// NV is the digest after TPM2_PolicyNV (23.9): the counter's value is at most
// its limit, both unsigned.
func (d Digest) NV(c Counter) Digest {
	args := sha256.New()
	args.Write(binary.BigEndian.AppendUint64(nil, c.Limit)) // operandB
	args.Write(be16(0))                                     // offset
	args.Write(be16(uint16(AtMost)))
	return d.extend(be32(ccPolicyNV), args.Sum(nil), c.Name)
}

// Sealed is the policy of a data key: registers that the policy key has
// approved under ref, then registers with literal values, then the counter.
func Sealed(k Key, ref string, literal Values, c Counter) Digest {
	return Authorized(k.Name, ref).PCR(literal).NV(c)
}

func be16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
