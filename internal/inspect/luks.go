package inspect

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/ingot-os/ingot/partition/luks"
)

// Of the header of a LUKS2 volume (specification 1.1.1, section 2.1): where the
// length of a copy is, how long a copy can be and where its JSON begins, in
// bytes.
const (
	luksLengthAt  = 8
	luksMinLength = 16 << 10
	luksMaxLength = 4 << 20
	luksJSONAt    = 4096
)

// luksObjects bounds key slots, and all else that has numbers (section 3).
const luksObjects = 32

// isLUKS looks for a first copy, or for a second one where cryptsetup and ingot
// put it.
func isLUKS(head []byte) bool {
	return at("LUKS\xba\xbe\x00\x02", 0)(head) || at("SKUL\xba\xbe\x00\x02", luksMinLength)(head)
}

// readLUKS shows both copies of a header, and what the newer one says of key
// slots, tokens and the encrypted segment. Nothing is opened.
func readLUKS(n *Node, r io.ReaderAt, size int64) error {
	h, err := luks.Read(r)
	if err != nil {
		return err
	}
	s, err := h.Segment()
	if err != nil {
		return err
	}
	n.add("uuid", h.UUID)
	n.add("label", h.Label)
	n.add("sequence", h.Seq)
	length, raw := luksCopies(n, r, h.Seq)
	n.region(0, length, "first header")
	n.region(length, 2*length, "second header")
	n.region(2*length, s.Offset, "key slots")
	n.region(s.Offset, size, "encrypted data")
	return addLUKS(n, raw)
}

// luksCopies says what is wrong with a copy, and gives the length of one and
// the JSON of the newest.
func luksCopies(n *Node, r io.ReaderAt, newest uint64) (length int64, raw []byte) {
	length = luksLength(r, 0)
	for i, name := range []string{"first header", "second header"} {
		var only io.ReaderAt = zeroed{r, length, 1 << 62} // without the second
		if i == 1 {
			only = zeroed{r, 0, luksJSONAt}
		}
		h, err := luks.Read(only)
		switch {
		case err != nil:
			n.add("problem", fmt.Sprintf("%s: %v", name, err))
			continue
		case h.Seq != newest:
			n.add("problem", fmt.Sprintf("%s: of sequence %d", name, h.Seq))
			continue
		case i == 1 && raw == nil:
			length = secondLUKS(r)
		}
		if raw == nil {
			raw = make([]byte, max(0, length-luksJSONAt))
			m, _ := r.ReadAt(raw, int64(i)*length+luksJSONAt)
			raw, _, _ = bytes.Cut(raw[:m], []byte{0})
		}
	}
	return length, raw
}

// luksLength is what the copy at off says to be its length, within bounds.
func luksLength(r io.ReaderAt, off int64) int64 {
	var b [8]byte
	if _, err := r.ReadAt(b[:], off+luksLengthAt); err != nil {
		return luksMinLength
	}
	return int64(min(max(binary.BigEndian.Uint64(b[:]), luksMinLength), luksMaxLength))
}

// secondLUKS finds the second copy without the first: it begins where its
// length ends the first one.
func secondLUKS(r io.ReaderAt) int64 {
	for off := int64(luksMinLength); off <= luksMaxLength; off *= 2 {
		magic := make([]byte, 6)
		if _, err := r.ReadAt(magic, off); err == nil && string(magic) == "SKUL\xba\xbe" && luksLength(r, off) == off {
			return off
		}
	}
	return luksMinLength
}

// addLUKS shows the JSON of a header, each object by itself.
func addLUKS(n *Node, raw []byte) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		return fmt.Errorf("parse metadata: %w", err)
	}
	for _, kind := range []struct{ section, name string }{
		{"segments", "segment"}, {"keyslots", "keyslot"}, {"digests", "digest"}, {"tokens", "token"},
	} {
		var objects map[string]json.RawMessage
		if raw := all[kind.section]; raw != nil {
			if err := json.Unmarshal(raw, &objects); err != nil {
				return fmt.Errorf("parse metadata: %s: %w", kind.section, err)
			}
		}
		if len(objects) > luksObjects {
			return fmt.Errorf("parse metadata: %s: %d, at most %d are read", kind.section, len(objects), luksObjects)
		}
		for _, name := range slices.Sorted(maps.Keys(objects)) {
			if err := addJSON(n.child(kind.name, name), bytes.NewReader(objects[name])); err != nil {
				return fmt.Errorf("parse metadata: %s.%.40q: %w", kind.section, name, err)
			}
		}
	}
	return nil
}

// zeroed reads a range as zeros.
type zeroed struct {
	io.ReaderAt
	from, to int64
}

// ReadAt implements io.ReaderAt.
func (z zeroed) ReadAt(b []byte, off int64) (int, error) {
	n, err := z.ReaderAt.ReadAt(b, off)
	if from, to := max(z.from, off), min(z.to, off+int64(n)); from < to {
		clear(b[from-off : to-off])
	}
	return n, err
}
