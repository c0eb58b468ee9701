package pcr

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
)

// Count is the number of registers of a bank (PC Client Platform TPM Profile,
// section 4.6).
const Count = 24

// maxDigest is the size in bytes of the largest digest.
const maxDigest = 64

// State is the registers of one bank while they are extended.
type State struct {
	bank      Bank
	hash      hash.Hash
	registers [Count][maxDigest]byte
	extends   [Count]int
	locality  byte
}

// Start gives the registers after TPM2_Startup at a locality: all zero, but the
// last byte of PCR 0 is the locality, 4 when a hardware root of trust measured
// before the firmware, and PCR 17 to 22 are all ones (PC Client Platform TPM
// Profile, sections 4.6.2 and 4.6.3). It panics for a bank that is not Known.
func Start(bank Bank, locality byte) *State {
	s := &State{bank: bank, hash: bank.New(), locality: locality}
	for i := range Count {
		s.begin(i, s.registers[i][:bank.Size()])
	}
	return s
}

// begin writes the value that register i has at the start.
func (s *State) begin(i int, value []byte) {
	clear(value)
	switch {
	case i == 0:
		value[len(value)-1] = s.locality
	case i >= 17 && i <= 22:
		for n := range value {
			value[n] = 0xff
		}
	}
}

// Bank is the bank that s is of.
func (s *State) Bank() Bank { return s.bank }

// Extend does what TPM2_PCR_Extend does: the register becomes the hash of
// itself and the digest.
func (s *State) Extend(i int, digest []byte) error {
	if i < 0 || i >= Count {
		return fmt.Errorf("extend PCR %d: there are %d", i, Count)
	}
	if len(digest) != s.bank.Size() {
		return fmt.Errorf("extend PCR %d: a digest of %d bytes is none of %s", i, len(digest), s.bank)
	}
	s.extends[i]++
	register := s.registers[i][:len(digest)]
	if s.bank == SHA256 { // the common one, without going through an interface
		var both [2 * sha256.Size]byte
		copy(both[:], register)
		copy(both[sha256.Size:], digest)
		sum := sha256.Sum256(both[:])
		copy(register, sum[:])
		return nil
	}
	s.hash.Reset()
	s.hash.Write(register)
	s.hash.Write(digest)
	s.hash.Sum(register[:0])
	return nil
}

// Value is what register i holds; the caller may keep it.
func (s *State) Value(i int) Digest { return bytes.Clone(s.registers[i][:s.bank.Size()]) }

// Extends is how often register i was extended.
func (s *State) Extends(i int) int { return s.extends[i] }

// Verdict says how a register of a TPM compares with what its log explains.
type Verdict string

// The verdicts about one register.
const (
	// Match: the logged events give exactly this value.
	Match Verdict = "match"
	// Unexpected: events were logged, and they give another value.
	Unexpected Verdict = "logged-but-unexpected"
	// Unlogged: the register was extended, and no event says by what.
	Unlogged Verdict = "extended-but-unlogged"
	// Unmeasured: nothing was logged and the register is as it started.
	Unmeasured Verdict = "unmeasured"
)

// Explained reports whether the log and the register agree. What was not
// measured is explained, and says nothing.
func (v Verdict) Explained() bool { return v == Match || v == Unmeasured }

// Compare judges the value that a TPM gives for register i. A value of another
// length than the bank's is Unexpected or Unlogged.
func (s *State) Compare(i int, value []byte) Verdict {
	same := bytes.Equal(s.registers[i][:s.bank.Size()], value)
	switch {
	case s.extends[i] > 0 && same:
		return Match
	case s.extends[i] > 0:
		return Unexpected
	case same:
		return Unmeasured
	}
	return Unlogged
}
