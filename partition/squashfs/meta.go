package squashfs

import (
	"encoding/binary"

	"github.com/klauspost/compress/zstd"
)

// metaWriter cuts what is written into metadata blocks and keeps them compressed.
type metaWriter struct {
	enc *zstd.Encoder // nil stores the blocks as they are
	buf []byte        // of the block that is being filled, less than metaSize
	out []byte
}

// pos is where the next byte will be.
func (m *metaWriter) pos() ref { return makeRef(uint64(len(m.out)), len(m.buf)) }

func (m *metaWriter) write(b []byte) {
	for len(b) > 0 {
		n := min(len(b), metaSize-len(m.buf))
		m.buf = append(m.buf, b[:n]...)
		b = b[n:]
		if len(m.buf) == metaSize {
			m.flush()
		}
	}
}

func (m *metaWriter) flush() {
	if len(m.buf) == 0 {
		return
	}
	head := len(m.out)
	m.out = append(m.out, 0, 0)
	if m.enc != nil {
		m.out = m.enc.EncodeAll(m.buf, m.out)
	}
	word := len(m.out) - head - 2
	if word == 0 || word >= len(m.buf) {
		m.out = append(m.out[:head+2], m.buf...)
		word = len(m.buf) | metaPlain
	}
	binary.LittleEndian.PutUint16(m.out[head:], uint16(word))
	m.buf = m.buf[:0]
}

// lookupTable lays out entries in metadata blocks that start at byte base of
// the filesystem, then the list of the blocks' offsets. list is where it begins.
func lookupTable(enc *zstd.Encoder, entries []byte, base uint64) (b []byte, list uint64) {
	m := &metaWriter{enc: enc}
	var starts []byte
	for i := 0; i < len(entries); i += metaSize {
		starts = binary.LittleEndian.AppendUint64(starts, base+uint64(len(m.out)))
		m.write(entries[i:min(i+metaSize, len(entries))])
	}
	m.flush()
	return append(m.out, starts...), base + uint64(len(m.out))
}
