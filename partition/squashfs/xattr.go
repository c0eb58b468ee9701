package squashfs

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// xattrClasses are the name prefixes that the format can hold, by their number.
var xattrClasses = []string{"user.", "trusted.", "security."}

const (
	xattrElsewhere = 1 << 8   // the value is a reference to another place
	maxXattrValue  = 64 << 10 // XATTR_SIZE_MAX
)

// xattrTable collects the sets of attributes; equal sets are stored once.
type xattrTable struct {
	sets   map[string]uint32
	lists  [][]byte
	counts []uint32
}

// add returns the index of a set of attributes.
func (x *xattrTable) add(set map[string][]byte) (uint32, error) {
	if len(set) == 0 {
		return none, nil
	}
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(set)) {
		class := slices.IndexFunc(xattrClasses, func(p string) bool { return strings.HasPrefix(name, p) })
		if class < 0 {
			return 0, fmt.Errorf("extended attribute %q: squashfs has user, trusted and security only", name)
		}
		rest := name[len(xattrClasses[class]):]
		if rest == "" || len(name) > maxName || len(set[name]) > maxXattrValue {
			return 0, fmt.Errorf("extended attribute %q: a name has up to %d bytes and a value up to %d", name, maxName, maxXattrValue)
		}
		b = binary.LittleEndian.AppendUint16(b, uint16(class))
		b = binary.LittleEndian.AppendUint16(b, uint16(len(rest)))
		b = append(b, rest...)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(set[name])))
		b = append(b, set[name]...)
	}
	if x.sets == nil {
		x.sets = map[string]uint32{}
	}
	i, ok := x.sets[string(b)]
	if !ok {
		i = uint32(len(x.lists))
		x.sets[string(b)] = i
		x.lists, x.counts = append(x.lists, b), append(x.counts, uint32(len(set)))
	}
	return i, nil
}

// layout writes lists, entries and head for a table that starts at byte base;
// head is where the superblock points.
func (x *xattrTable) layout(enc *zstd.Encoder, base uint64) (b []byte, head uint64) {
	if len(x.lists) == 0 {
		return nil, absent
	}
	m := &metaWriter{enc: enc}
	var entries []byte
	for i, l := range x.lists {
		entries = marshal(entries, xattrEntry{uint64(m.pos()), x.counts[i], uint32(len(l))})
		m.write(l)
	}
	m.flush()
	table, list := lookupTable(enc, entries, base+uint64(len(m.out)))
	blocks := table[:list-base-uint64(len(m.out))]
	b = append(m.out, blocks...)
	head = base + uint64(len(b))
	b = marshal(b, xattrHead{Table: base, IDs: uint32(len(x.lists))})
	return append(b, table[len(blocks):]...), head
}
