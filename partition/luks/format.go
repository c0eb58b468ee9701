package luks

import (
	"crypto/aes"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"golang.org/x/crypto/xts"
)

// headerSize is the length of one copy: what cryptsetup chooses.
const headerSize = 16 << 10

// MinIterations is the least number that cryptsetup takes. It is enough for
// passphrases that cannot be guessed anyway: 160 random bits and more.
const MinIterations = 1000

// MinSize is the smallest volume in bytes.
const MinSize = DataOffset + 1<<20

// maxSlots is the highest number of key slots (section 3.2).
const maxSlots = 32

// blankSize is how many bytes a blank device begins with that are zero, and how
// much of a new volume reads so.
const blankSize = 1 << 20

// begun is the first sector of a device that Format has begun with. What it
// writes next makes the device no longer blank, and a cut must not leave a
// device that nobody touches any more; nor one that looks blank to whoever
// would put something else there.
func begun() []byte {
	b := make([]byte, sectorSize)
	copy(b, "a LUKS2 volume was begun here; there is nothing in it\n")
	return b
}

// Slot is a passphrase of a new volume.
type Slot struct {
	Passphrase []byte
	Iterations int // of PBKDF2; 0 = MinIterations
}

// Volume is a volume to be made.
type Volume struct {
	UUID       string // text form, lower case
	Label      string // up to 47 bytes
	Size       int64  // of the device, bytes
	SectorSize int    // 512 or 4096; a larger one is quicker and must divide Size
	Slots      []Slot // by number
	Tokens     map[string]json.RawMessage
}

// Format makes a volume and gives its key. The first 1 MiB of the data reads as
// zeros, everything else as noise. All that is random comes from random, in a
// fixed order. The device must have been found blank: it is not asked here.
func Format(d Device, random io.Reader, v Volume) ([]byte, error) {
	if err := v.check(); err != nil {
		return nil, fmt.Errorf("make volume: %w", err)
	}
	key := make([]byte, KeySize)
	if _, err := io.ReadFull(random, key); err != nil {
		return nil, fmt.Errorf("make volume: %w", err)
	}
	m := metadata{Keyslots: map[string]keyslot{}, Segments: map[string]segment{"0": {
		Type: "crypt", Offset: DataOffset, Size: "dynamic", Encryption: Cipher, SectorSize: v.SectorSize}}}
	if err := writeBegun(d); err != nil {
		return nil, fmt.Errorf("make volume: %w", err)
	}
	for i, s := range v.Slots {
		k, err := writeSlot(d, random, area{"raw", 2*headerSize + int64(i)*slotArea, slotArea, Cipher, KeySize}, s, key)
		if err != nil {
			return nil, fmt.Errorf("make key slot %d: %w", i, err)
		}
		m.Keyslots[strconv.Itoa(i)] = k
	}
	if err := m.digest(random, key); err != nil {
		return nil, fmt.Errorf("make volume: %w", err)
	}
	if err := writeBlank(d, key, v.SectorSize); err != nil {
		return nil, fmt.Errorf("make volume: %w", err)
	}
	c, err := v.header(random, m)
	if err != nil {
		return nil, fmt.Errorf("make volume: %w", err)
	}
	if err := d.Sync(); err != nil {
		return nil, fmt.Errorf("make volume: %w", err)
	}
	return key, c.writeBoth(d)
}

func writeBegun(d Device) error {
	if _, err := d.WriteAt(begun(), 0); err != nil {
		return err
	}
	return d.Sync()
}

func (v Volume) check() error {
	switch {
	case v.Size < MinSize:
		return fmt.Errorf("%d bytes are less than %d", v.Size, int64(MinSize))
	case v.SectorSize != 512 && v.SectorSize != 4096 || v.Size%int64(v.SectorSize) != 0:
		return fmt.Errorf("sectors of %d bytes on a device of %d", v.SectorSize, v.Size)
	case len(v.UUID) == 0 || len(v.UUID) >= 40 || len(v.Label) >= 48:
		return fmt.Errorf("UUID %.50q or label %.50q does not fit", v.UUID, v.Label)
	case len(v.Slots) == 0 || len(v.Slots) > maxSlots:
		return fmt.Errorf("%d key slots", len(v.Slots))
	}
	for i, s := range v.Slots {
		if len(s.Passphrase) == 0 || s.Iterations != 0 && s.Iterations < MinIterations {
			return fmt.Errorf("key slot %d: passphrase of %d bytes, %d iterations", i, len(s.Passphrase), s.Iterations)
		}
	}
	return nil
}

// writeSlot puts the volume key into an area.
func writeSlot(d Device, random io.Reader, at area, s Slot, key []byte) (keyslot, error) {
	k := keyslot{Type: "luks2", KeySize: KeySize,
		AF:   &af{"luks1", stripes, "sha256"},
		Area: &at,
		KDF:  &kdf{"pbkdf2", "sha256", max(s.Iterations, MinIterations), make([]byte, 32)}}
	if _, err := io.ReadFull(random, k.KDF.Salt); err != nil {
		return k, err
	}
	b, err := split(random, key)
	if err != nil {
		return k, err
	}
	if err := k.crypt(b, s.Passphrase, (*xts.Cipher).Encrypt); err != nil {
		return k, err
	}
	_, err = d.WriteAt(b, k.Area.Offset)
	return k, err
}

// digest adds what a volume key is recognised by.
func (m *metadata) digest(random io.Reader, key []byte) error {
	d := digest{Type: "pbkdf2", Segments: []string{"0"}, Hash: "sha256", Iterations: MinIterations, Salt: make([]byte, 32)}
	for i := range len(m.Keyslots) {
		d.Keyslots = append(d.Keyslots, strconv.Itoa(i))
	}
	if _, err := io.ReadFull(random, d.Salt); err != nil {
		return err
	}
	var err error
	d.Digest, err = pbkdf2.Key(sha256.New, string(key), d.Salt, d.Iterations, sha256.Size)
	m.Digests = map[string]digest{"0": d}
	return err
}

// writeBlank makes the start of the data read as zeros, as a blank partition
// does: what makes the file system looks there whether it has been made. The
// tweak counts sectors of 512 bytes, whatever the sector size is.
func writeBlank(d Device, key []byte, sector int) error {
	c, err := xts.NewCipher(aes.NewCipher, key)
	if err != nil {
		return err
	}
	b := make([]byte, blankSize)
	for i := 0; i < len(b); i += sector {
		c.Encrypt(b[i:i+sector], b[i:i+sector], uint64(i/sectorSize))
	}
	_, err = d.WriteAt(b, DataOffset)
	return err
}

// header is the first copy.
func (v Volume) header(random io.Reader, m metadata) (copyOf, error) {
	c := copyOf{binaryHeader: binaryHeader{Version: version, Size: headerSize, Seq: 1}}
	copy(c.Label[:], v.Label)
	copy(c.UUID[:], v.UUID)
	copy(c.Algorithm[:], "sha256")
	if _, err := io.ReadFull(random, c.Salt[:]); err != nil {
		return c, err
	}
	tokens := v.Tokens
	if tokens == nil {
		tokens = map[string]json.RawMessage{}
	}
	var err error
	c.json, err = json.Marshal(struct {
		metadata
		Tokens map[string]json.RawMessage `json:"tokens"`
		Config map[string]string          `json:"config"`
	}{m, tokens, map[string]string{
		"json_size":     strconv.Itoa(headerSize - binarySize),
		"keyslots_size": strconv.Itoa(DataOffset - 2*headerSize),
	}})
	return c, err
}

// SetSlot gives a slot, new or not, another passphrase for the volume key; it
// writes the slot's area, and Store the rest. A cut between leaves the slot
// without use and the others as they were.
func (h *Header) SetSlot(d Device, random io.Reader, n int, s Slot, key []byte) error {
	if n < 0 || n >= maxSlots || len(s.Passphrase) == 0 || len(key) != KeySize {
		return fmt.Errorf("set key slot %d: passphrase of %d bytes, key of %d", n, len(s.Passphrase), len(key))
	}
	name := strconv.Itoa(n)
	old, ok := h.meta.Keyslots[name]
	if !ok {
		return fmt.Errorf("set key slot %d: the volume has none", n)
	}
	if err := old.check(h.newest.Size); err != nil {
		return fmt.Errorf("set key slot %d: %w", n, err)
	}
	if err := h.verify(name, key); err != nil {
		return fmt.Errorf("set key slot %d: %w", n, err)
	}
	k, err := writeSlot(d, random, *old.Area, s, key)
	if err != nil {
		return fmt.Errorf("set key slot %d: %w", n, err)
	}
	var slots map[string]json.RawMessage // those of others as they are
	if err := json.Unmarshal(h.all["keyslots"], &slots); err != nil {
		return fmt.Errorf("set key slot %d: %w", n, err)
	}
	if slots[name], err = json.Marshal(k); err != nil {
		return fmt.Errorf("set key slot %d: %w", n, err)
	}
	h.meta.Keyslots[name] = k
	h.all["keyslots"], err = json.Marshal(slots)
	return err
}
