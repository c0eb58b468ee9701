package luks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
)

// Header is what a volume says of itself.
type Header struct {
	UUID  string
	Label string
	Seq   uint64 // rises with each change

	newest copyOf
	stale  int // which copy is not what newest is: firstCopy, secondCopy or none
	meta   metadata
	all    map[string]json.RawMessage // the metadata as they were read, by section
	tokens map[string]json.RawMessage
}

// What Header.stale says: the copy that is damaged, older, or was cut.
const (
	noCopy = iota
	firstCopy
	secondCopy
)

// metadata is the part of the JSON area that is used here (section 3).
type metadata struct {
	Keyslots map[string]keyslot `json:"keyslots"`
	Segments map[string]segment `json:"segments"`
	Digests  map[string]digest  `json:"digests"`
}

type keyslot struct {
	Type    string `json:"type"`
	KeySize int    `json:"key_size"`
	AF      *af    `json:"af,omitempty"`
	Area    *area  `json:"area,omitempty"`
	KDF     *kdf   `json:"kdf,omitempty"`
}

type af struct {
	Type    string `json:"type"`
	Stripes int    `json:"stripes"`
	Hash    string `json:"hash"`
}

type area struct {
	Type       string `json:"type"`
	Offset     int64  `json:"offset,string"`
	Size       int64  `json:"size,string"`
	Encryption string `json:"encryption"`
	KeySize    int    `json:"key_size"`
}

type kdf struct {
	Type       string `json:"type"`
	Hash       string `json:"hash"`
	Iterations int    `json:"iterations"`
	Salt       []byte `json:"salt"`
}

type segment struct {
	Type       string `json:"type"`
	Offset     int64  `json:"offset,string"`
	Size       string `json:"size"` // bytes or "dynamic"
	IVTweak    uint64 `json:"iv_tweak,string"`
	Encryption string `json:"encryption"`
	SectorSize int    `json:"sector_size"`
}

type digest struct {
	Type       string   `json:"type"`
	Keyslots   []string `json:"keyslots"`
	Segments   []string `json:"segments"`
	Hash       string   `json:"hash"`
	Iterations int      `json:"iterations"`
	Salt       []byte   `json:"salt"`
	Digest     []byte   `json:"digest"`
}

// Read finds the newest valid copy of the header. Its error wraps ErrBlank when
// the device holds no sign of any header, ErrForeign or ErrDamaged when it
// holds something that is none, or the reader's error.
func Read(r io.ReaderAt) (*Header, error) {
	first, firstErr := readCopy(r, 0)
	second, secondErr := readSecond(r, first, firstErr)
	newest, stale := first, noCopy
	switch {
	case firstErr != nil && secondErr != nil:
		return nil, none(r, firstErr, secondErr)
	case firstErr != nil, secondErr == nil && second.Seq > first.Seq:
		newest, stale = second, firstCopy
	case secondErr != nil, second.Seq < first.Seq:
		stale = secondCopy
	}
	h, err := parse(newest)
	if err != nil {
		return nil, err
	}
	h.stale = stale
	return h, nil
}

// readSecond finds the second copy: where the first says, or wherever one can
// be.
func readSecond(r io.ReaderAt, first copyOf, firstErr error) (copyOf, error) {
	if firstErr == nil {
		return readCopy(r, int64(first.Size))
	}
	found := fmt.Errorf("second header: %w", ErrForeign)
	for _, off := range sizes {
		c, err := readCopy(r, off)
		if err == nil {
			return c, nil
		}
		if !errors.Is(err, ErrForeign) && !errors.Is(err, io.EOF) {
			found = err
		}
	}
	return copyOf{}, found
}

// none says why there is no header. A device is blank when its first blankSize
// bytes are zero: file systems that leave the first block alone begin within
// them (btrfs at 64 KiB, ZFS at 16 KiB, ISO 9660 and JFS at 32 KiB). What Format
// has begun and not ended is blank as well, unless a second copy was begun: that
// may be all that is left of a volume.
func none(r io.ReaderAt, firstErr, secondErr error) error {
	b := make([]byte, blankSize)
	n, err := r.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read volume: %w", err)
	}
	b = b[:n]
	switch {
	case !errors.Is(secondErr, ErrForeign):
		return fmt.Errorf("read volume: %w", secondErr)
	case bytes.HasPrefix(b, begun()):
	case slices.ContainsFunc(b, func(c byte) bool { return c != 0 }):
		return fmt.Errorf("read volume: %w", firstErr)
	}
	return fmt.Errorf("read volume: %w", ErrBlank)
}

func parse(c copyOf) (*Header, error) {
	h := &Header{UUID: text(c.UUID[:]), Label: text(c.Label[:]), Seq: c.Seq, newest: c}
	d := json.NewDecoder(bytes.NewReader(c.json))
	if err := d.Decode(&h.all); err != nil {
		return nil, fmt.Errorf("parse metadata: %w: %w", ErrDamaged, err)
	}
	if err := json.Unmarshal(c.json, &h.meta); err != nil {
		return nil, fmt.Errorf("parse metadata: %w: %w", ErrDamaged, err)
	}
	if raw, ok := h.all["tokens"]; ok {
		if err := json.Unmarshal(raw, &h.tokens); err != nil {
			return nil, fmt.Errorf("parse metadata: tokens: %w: %w", ErrDamaged, err)
		}
	}
	if h.tokens == nil {
		h.tokens = map[string]json.RawMessage{}
	}
	if err := h.requirements(); err != nil {
		return nil, err
	}
	if _, err := h.Segment(); err != nil {
		return nil, err
	}
	return h, nil
}

// requirements refuses volumes whose writer demands more than is known here
// (section 3.6), as those in the middle of a reencryption.
func (h *Header) requirements() error {
	var config struct {
		Requirements *struct {
			Mandatory []string `json:"mandatory"`
		} `json:"requirements"`
	}
	if raw := h.all["config"]; raw != nil {
		if err := json.Unmarshal(raw, &config); err != nil {
			return fmt.Errorf("parse metadata: config: %w: %w", ErrDamaged, err)
		}
	}
	if r := config.Requirements; r != nil && len(r.Mandatory) > 0 {
		return fmt.Errorf("read volume: it requires %.100q: %w", r.Mandatory, ErrUnsupported)
	}
	return nil
}

// Segment is where the data are and how they are encrypted, as dm-crypt takes
// it.
type Segment struct {
	Offset     int64 // bytes
	Size       int64 // bytes; 0 = to the end of the device
	Cipher     string
	IVTweak    uint64
	SectorSize int // bytes
}

// Cipher is the encryption of data and of key slots.
const Cipher = "aes-xts-plain64"

// maxOffset bounds where a segment may start, in bytes.
const maxOffset = 1 << 40

// Segment gives the one encrypted segment.
func (h *Header) Segment() (Segment, error) {
	s, ok := h.meta.Segments["0"]
	if !ok || len(h.meta.Segments) != 1 || s.Type != "crypt" {
		return Segment{}, fmt.Errorf("parse metadata: segments: want one of type crypt: %w", ErrUnsupported)
	}
	out := Segment{s.Offset, 0, s.Encryption, s.IVTweak, s.SectorSize}
	if s.Size != "dynamic" {
		n, err := strconv.ParseInt(s.Size, 10, 64)
		if err != nil || n <= 0 || n%512 != 0 {
			return Segment{}, fmt.Errorf("parse metadata: segments.0.size %.40q: %w", s.Size, ErrDamaged)
		}
		out.Size = n
	}
	switch {
	case s.Encryption != Cipher:
		return out, fmt.Errorf("parse metadata: segments.0.encryption %.40q: %w", s.Encryption, ErrUnsupported)
	case s.Offset < 2*int64(h.newest.Size) || s.Offset > maxOffset || s.Offset%512 != 0:
		return out, fmt.Errorf("parse metadata: segments.0.offset %d: %w", s.Offset, ErrDamaged)
	case s.SectorSize != 512 && s.SectorSize != 1024 && s.SectorSize != 2048 && s.SectorSize != 4096:
		return out, fmt.Errorf("parse metadata: segments.0.sector_size %d: %w", s.SectorSize, ErrDamaged)
	}
	return out, nil
}

// Slots are the numbers of the key slots, in order.
func (h *Header) Slots() []int {
	var out []int
	for name := range h.meta.Keyslots {
		if n, err := strconv.Atoi(name); err == nil && strconv.Itoa(n) == name && n >= 0 {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

// Token gives the first token of a type and its number, or "".
func (h *Header) Token(typ string) (id string, token json.RawMessage) {
	for _, id := range slices.Sorted(maps.Keys(h.tokens)) {
		var t struct {
			Type string `json:"type"`
		}
		if json.Unmarshal(h.tokens[id], &t) == nil && t.Type == typ {
			return id, h.tokens[id]
		}
	}
	return "", nil
}

// SetToken puts a token of the specification's form (section 3.5) in the place
// of what has its number. Store makes it last.
func (h *Header) SetToken(id string, token json.RawMessage) { h.tokens[id] = token }

// Store writes the header with a new sequence: one copy after the other, and
// first the one that nobody needs when the writing is cut.
func (h *Header) Store(d Device) error {
	tokens, err := json.Marshal(h.tokens)
	if err != nil {
		return fmt.Errorf("write header: tokens: %w", err)
	}
	h.all["tokens"] = tokens
	b, err := json.Marshal(h.all)
	if err != nil {
		return fmt.Errorf("write header: %w", err)
	}
	c := h.newest
	c.Seq, c.json = h.Seq+1, b
	next, last := c.second(), c.first()
	left := firstCopy
	if h.stale == firstCopy {
		next, last, left = last, next, secondCopy
	}
	if err := next.write(d); err != nil {
		return err
	}
	h.Seq, h.newest, h.stale = c.Seq, c, left
	if err := last.write(d); err != nil {
		return err
	}
	h.stale = noCopy
	return nil
}

// Repair writes the copy of the header that Read found damaged or older, when
// one was: the next cut may take the other. It does nothing to a header whose
// copies are the same.
func (h *Header) Repair(d Device) error {
	bad := h.newest.first()
	switch h.stale {
	case noCopy:
		return nil
	case secondCopy:
		bad = h.newest.second()
	}
	if err := bad.write(d); err != nil {
		return err
	}
	h.stale = noCopy
	return nil
}

// first and second are a copy in its place.
func (c copyOf) first() copyOf {
	copy(c.Magic[:], primaryMagic)
	c.Offset = 0
	return c
}

func (c copyOf) second() copyOf {
	copy(c.Magic[:], secondaryMagic)
	c.Offset = c.Size
	return c
}

// writeBoth makes a volume valid.
func (c copyOf) writeBoth(d Device) error {
	if err := c.second().write(d); err != nil {
		return err
	}
	return c.first().write(d)
}
