package luks

import (
	"crypto/aes"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strconv"

	"golang.org/x/crypto/xts"
)

// stripes is the number that LUKS1 and LUKS2 know for anti-forensic splitting.
const stripes = 4000

// maxIterations bounds the work that a hostile header can ask for: some
// seconds.
const maxIterations = 10_000_000

// slotArea is the room of one key slot in bytes: the split key, in whole
// blocks.
const slotArea = (KeySize*stripes + 4095) / 4096 * 4096

// Unlock opens a key slot and gives the volume key. The key is checked by the
// volume's digest, so what comes back is the key.
func (h *Header) Unlock(r io.ReaderAt, slot int, passphrase []byte) ([]byte, error) {
	name := strconv.Itoa(slot)
	k, ok := h.meta.Keyslots[name]
	if !ok {
		return nil, fmt.Errorf("open key slot %d: the volume has none", slot)
	}
	if err := k.check(h.newest.Size); err != nil {
		return nil, fmt.Errorf("open key slot %d: %w", slot, err)
	}
	split := make([]byte, KeySize*stripes)
	if n, err := r.ReadAt(split, k.Area.Offset); n < len(split) {
		return nil, fmt.Errorf("open key slot %d: %w", slot, err)
	}
	if err := k.crypt(split, passphrase, (*xts.Cipher).Decrypt); err != nil {
		return nil, fmt.Errorf("open key slot %d: %w", slot, err)
	}
	key := merge(split)
	if err := h.verify(name, key); err != nil {
		return nil, fmt.Errorf("open key slot %d: %w", slot, err)
	}
	return key, nil
}

func (k keyslot) check(header uint64) error {
	switch {
	case k.Type != "luks2" || k.KeySize != KeySize || k.AF == nil || k.Area == nil || k.KDF == nil:
		return ErrUnsupported
	case k.KDF.Type != "pbkdf2" || k.KDF.Hash != "sha256":
		return fmt.Errorf("kdf %.20q with %.20q: %w", k.KDF.Type, k.KDF.Hash, ErrUnsupported)
	case k.AF.Type != "luks1" || k.AF.Stripes != stripes || k.AF.Hash != "sha256":
		return fmt.Errorf("af %.20q: %w", k.AF.Type, ErrUnsupported)
	case k.Area.Type != "raw" || k.Area.Encryption != Cipher || k.Area.KeySize != KeySize:
		return fmt.Errorf("area %.20q: %w", k.Area.Type, ErrUnsupported)
	case k.Area.Offset < 2*int64(header) || k.Area.Offset > maxOffset || k.Area.Size < KeySize*stripes:
		return fmt.Errorf("area at offset %d: %w", k.Area.Offset, ErrDamaged)
	}
	return checkKDF(k.KDF.Iterations, k.KDF.Salt)
}

func checkKDF(iterations int, salt []byte) error {
	if iterations < 1 || iterations > maxIterations || len(salt) == 0 || len(salt) > 256 {
		return fmt.Errorf("kdf: %d iterations, salt of %d bytes: %w", iterations, len(salt), ErrDamaged)
	}
	return nil
}

// crypt encrypts or decrypts a key slot's area in place, in sectors that are
// counted from its start.
func (k keyslot) crypt(b, passphrase []byte, f func(c *xts.Cipher, dst, src []byte, sector uint64)) error {
	key, err := pbkdf2.Key(sha256.New, string(passphrase), k.KDF.Salt, k.KDF.Iterations, KeySize)
	if err != nil {
		return err
	}
	c, err := xts.NewCipher(aes.NewCipher, key)
	if err != nil {
		return err
	}
	for i := 0; i+sectorSize <= len(b); i += sectorSize {
		f(c, b[i:i+sectorSize], b[i:i+sectorSize], uint64(i/sectorSize))
	}
	return nil
}

// verify checks a volume key by the digest that the slot belongs to.
func (h *Header) verify(slot string, key []byte) error {
	for _, d := range h.meta.Digests {
		if !slices.Contains(d.Keyslots, slot) || !slices.Contains(d.Segments, "0") {
			continue
		}
		if d.Type != "pbkdf2" || d.Hash != "sha256" || len(d.Digest) != sha256.Size {
			return fmt.Errorf("digest %.20q: %w", d.Type, ErrUnsupported)
		}
		if err := checkKDF(d.Iterations, d.Salt); err != nil {
			return err
		}
		got, err := pbkdf2.Key(sha256.New, string(key), d.Salt, d.Iterations, sha256.Size)
		if err != nil {
			return err
		}
		if subtle.ConstantTimeCompare(got, d.Digest) != 1 {
			return ErrPassphrase
		}
		return nil
	}
	return fmt.Errorf("no digest covers it: %w", ErrDamaged)
}

// split spreads a key over stripes so that losing any sector of them loses the
// key (LUKS1 On-Disk Format Specification, section 2.4).
func split(random io.Reader, key []byte) ([]byte, error) {
	out := make([]byte, len(key)*stripes)
	last := len(out) - len(key)
	if _, err := io.ReadFull(random, out[:last]); err != nil {
		return nil, err
	}
	d := fold(out[:last], len(key))
	subtle.XORBytes(out[last:], d, key)
	return out, nil
}

// merge is the inverse of split.
func merge(b []byte) []byte {
	n := len(b) / stripes
	key := fold(b[:len(b)-n], n)
	subtle.XORBytes(key, key, b[len(b)-n:])
	return key
}

// fold runs the diffusion over all stripes but the last.
func fold(b []byte, n int) []byte {
	d := make([]byte, n)
	for ; len(b) > 0; b = b[n:] {
		subtle.XORBytes(d, d, b[:n])
		diffuse(d)
	}
	return d
}

// diffuse replaces each part of the length of a hash by the hash of its number
// and itself.
func diffuse(d []byte) {
	for i := 0; i*sha256.Size < len(d); i++ {
		part := d[i*sha256.Size : min(len(d), (i+1)*sha256.Size)]
		sum := sha256.Sum256(append(binary.BigEndian.AppendUint32(nil, uint32(i)), part...))
		copy(part, sum[:])
	}
}
