package initramfs

import "encoding/binary"

// zstdMagic starts a zstd frame (RFC 8878 section 3.1.1).
const zstdMagic = 0xFD2FB528

// frameEnd walks the blocks of the frame at off without unpacking them: the
// decoder itself would run on into the next frame.
func frameEnd(p *parser, off int64) (int64, error) {
	var b [6]byte
	if off+6 > p.size {
		return 0, p.errorf(off, "Frame_Header", "%d bytes left", p.size-off)
	}
	if err := p.readAt(b[:], off); err != nil {
		return 0, err
	}
	desc := b[4]
	single := desc&(1<<5) != 0
	pos := off + 5
	if !single {
		pos++ // Window_Descriptor
	}
	pos += int64([4]int{0, 1, 2, 4}[desc&3]) // Dictionary_ID
	switch flag := desc >> 6; {
	case flag == 0 && single:
		pos++ // Frame_Content_Size
	case flag > 0:
		pos += int64(1) << flag
	}
	for last := false; !last; {
		var h [4]byte
		if pos+3 > p.size {
			return 0, p.errorf(pos, "Block_Header", "the frame ends early")
		}
		if err := p.readAt(h[:3], pos); err != nil {
			return 0, err
		}
		v := binary.LittleEndian.Uint32(h[:])
		last = v&1 != 0
		size := int64(v >> 3)
		if v>>1&3 == 1 { // RLE_Block: one byte, repeated
			size = 1
		}
		pos += 3 + size
	}
	if desc&(1<<2) != 0 {
		pos += 4 // Content_Checksum
	}
	if pos > p.size {
		return 0, p.errorf(off, "Block_Size", "the frame ends at %d, the file at %d", pos, p.size)
	}
	return pos, nil
}
