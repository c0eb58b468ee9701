// Package pcr computes platform configuration registers: what a bank of a TPM
// 2.0 holds after a sequence of extends (TPM 2.0 Library part 1, section 17),
// and how that compares with what a TPM says it holds.
//
// Limits: 24 registers, as the PC Client Platform TPM Profile has; SHA-1,
// SHA-256, SHA-384 and SHA-512. Resets of single registers after the start
// (PCR 16, 20 to 23) are not modelled.
//
// Shape of use:
//
//	s := pcr.Start(pcr.SHA256, 0)
//	err := s.Extend(4, digest)
//	verdict := s.Compare(4, quoted)
package pcr

import (
	"crypto"
	_ "crypto/sha1" // each bank's hash is linked in
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"
)

// Bank is the hash algorithm of a PCR bank, a TPM_ALG_ID (TPM 2.0 Library part
// 2, section 6.3).
type Bank uint16

// The banks that are computed here.
const (
	SHA1   Bank = 0x0004
	SHA256 Bank = 0x000b
	SHA384 Bank = 0x000c
	SHA512 Bank = 0x000d
)

var names = map[Bank]string{SHA1: "sha1", SHA256: "sha256", SHA384: "sha384", SHA512: "sha512"}

// ParseBank reads "sha1", "sha256", "sha384" or "sha512".
func ParseBank(s string) (Bank, error) {
	for b, name := range names {
		if strings.EqualFold(s, name) {
			return b, nil
		}
	}
	return 0, fmt.Errorf("PCR bank %q is not sha1, sha256, sha384 or sha512", s)
}

// Known reports whether values of the bank can be computed.
func (b Bank) Known() bool { return b.Hash() != 0 }

// Size is the length of a digest in bytes; 0 for a bank that is not Known.
func (b Bank) Size() int {
	if h := b.Hash(); h != 0 {
		return h.Size()
	}
	return 0
}

// Hash is the algorithm; 0 for a bank that is not Known.
func (b Bank) Hash() crypto.Hash {
	switch b {
	case SHA1:
		return crypto.SHA1
	case SHA256:
		return crypto.SHA256
	case SHA384:
		return crypto.SHA384
	case SHA512:
		return crypto.SHA512
	}
	return 0
}

// New starts a digest. It panics for a bank that is not Known.
func (b Bank) New() hash.Hash { return b.Hash().New() }

// Sum is the digest of data. It panics for a bank that is not Known.
func (b Bank) Sum(data []byte) Digest {
	h := b.New()
	h.Write(data)
	return h.Sum(nil)
}

// Is reports whether digest is that of data, without making one; false for a
// bank that is not Known.
func (b Bank) Is(digest, data []byte) bool {
	switch b {
	case SHA256:
		sum := sha256.Sum256(data)
		return string(sum[:]) == string(digest)
	case SHA384:
		sum := sha512.Sum384(data)
		return string(sum[:]) == string(digest)
	}
	return b.Known() && string(b.Sum(data)) == string(digest)
}

func (b Bank) String() string {
	if name := names[b]; name != "" {
		return name
	}
	return fmt.Sprintf("algorithm %#04x", uint16(b))
}

// MarshalText gives the name.
func (b Bank) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText reads a name.
func (b *Bank) UnmarshalText(text []byte) (err error) {
	*b, err = ParseBank(string(text))
	return err
}

// Digest is an event's digest or a register's value; its text is hex.
type Digest []byte

func (d Digest) String() string { return hex.EncodeToString(d) }

// MarshalText gives lower case hex.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads hex.
func (d *Digest) UnmarshalText(text []byte) (err error) {
	*d, err = hex.DecodeString(string(text))
	return err
}
