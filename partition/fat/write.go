package fat

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/ingot-os/ingot/partition/tree"
)

// region is a stretch of the volume that is not known to be zero.
type region struct {
	off  int64
	what string
	blob tree.Blob
}

// place lists the regions in the order they lie.
func (m *Image) place(dirs []*dir) {
	boot := m.boot()
	m.add(0, "boot sectors", tree.Bytes(boot))
	fat := tree.Bytes(m.fat())
	for i := range numFATs {
		m.add(m.fatOff(i), "FAT", fat)
	}
	for _, d := range dirs {
		m.add(m.clusterOff(d.first), "directory "+d.node.Path, tree.Bytes(m.entries(d)))
		for _, it := range d.items {
			if it.first != 0 && it.dir == nil {
				m.add(m.clusterOff(it.first), it.node.Path, it.node.Content)
			}
		}
	}
	slices.SortFunc(m.regions, func(a, b region) int { return cmp.Compare(a.off, b.off) })
}

func (m *Image) add(off int64, what string, b tree.Blob) {
	m.regions = append(m.regions, region{off, what, b})
}

// boot makes the reserved sectors: boot sector and FSInfo, twice.
func (m *Image) boot() []byte {
	bs := bootSector{
		Jump: [3]byte{0xEB, 0x58, 0x90}, // over the parameter block to Code
		// Section 3.1: some drivers look at this field, and this value is safe with all of them.
		OEM:               [8]byte([]byte("MSWIN4.1")),
		BytesPerSector:    sectorSize,
		SectorsPerCluster: uint8(m.perClust),
		ReservedSectors:   reserved,
		NumFATs:           numFATs,
		Media:             0xF8,
		SectorsPerTrack:   63,
		Heads:             255,
		TotalSectors32:    m.total,
		FATSectors32:      m.fatSize,
		RootCluster:       2,
		FSInfo:            fsInfoSector,
		BackupBoot:        backupSector,
		Drive:             0x80,
		BootSig:           0x29,
		Serial:            m.opts.Serial,
		Label:             m.label,
		FSType:            [8]byte([]byte("FAT32   ")),
		Mark:              bootMark,
	}
	// A BIOS that jumps here is told to try the next device (int 18h), then the machine halts.
	copy(bs.Code[:], []byte{0xCD, 0x18, 0xF4, 0xEB, 0xFD})
	info := fsInfo{Lead: fsInfoLead, Struct: fsInfoStruct, Trail: fsInfoTrail,
		Free: m.clusters - m.used, NextFree: m.nextFree()}
	pair := marshal(marshal(nil, bs), info)
	out := make([]byte, (backupSector+2)*sectorSize)
	copy(out, pair)
	copy(out[backupSector*sectorSize:], pair)
	return out
}

// nextFree is FSI_Nxt_Free: where to start looking, or "unknown" on a full volume.
func (m *Image) nextFree() uint32 {
	if m.used == m.clusters {
		return 0xFFFFFFFF
	}
	return m.used + 2
}

// fat returns the FAT up to its last entry in use; the rest is zero.
func (m *Image) fat() []byte {
	b := make([]byte, 0, 4*(int(m.used)+2))
	b = binary.LittleEndian.AppendUint32(b, 0x0FFFFF00|0xF8) // media byte (section 4)
	b = binary.LittleEndian.AppendUint32(b, endOfChain)      // clean shutdown, no disk errors
	c := uint32(2)
	for _, n := range m.runs {
		for range n - 1 {
			c++
			b = binary.LittleEndian.AppendUint32(b, c)
		}
		c++
		b = binary.LittleEndian.AppendUint32(b, endOfChain)
	}
	return b
}

// entries lays out one directory.
func (m *Image) entries(d *dir) []byte {
	b := make([]byte, 0, d.size)
	if d.root() {
		if m.opts.Label != "" {
			b = marshal(b, m.stamp.entry(m.label, attrVolumeID))
		}
	} else {
		b = m.dots(b, d)
	}
	for _, it := range d.items {
		if !it.alias.exact {
			for _, l := range longEntries(it.name, it.alias.name) {
				b = marshal(b, l)
			}
		}
		e := m.stamp.entry(it.alias.name, attrArchive)
		e.setCluster(it.first)
		if it.dir != nil {
			e.Attr = attrDirectory // and DIR_FileSize stays 0 (section 6.4)
		} else {
			e.Size = uint32(it.node.Size())
		}
		b = marshal(b, e)
	}
	return b
}

func (m *Image) dots(b []byte, d *dir) []byte {
	dot := m.stamp.entry(pack(".", ""), attrDirectory)
	dot.setCluster(d.first)
	up := m.stamp.entry(pack("..", ""), attrDirectory)
	if !d.parent.root() { // section 6.5: 0, not 2, when the parent is the root
		up.setCluster(d.parent.first)
	}
	return marshal(marshal(b, dot), up)
}

const chunk = 128 << 10

// Write writes what is not zero. What w holds beyond that must be zero already:
// a fresh sparse file or a discarded area.
func (m *Image) Write(w io.WriterAt) error {
	buf := make([]byte, chunk)
	for _, r := range m.regions {
		if err := r.copyTo(io.NewOffsetWriter(sparse{w}, r.off), buf); err != nil {
			return err
		}
	}
	return nil
}

// WriteTo writes all Size bytes in order; it implements io.WriterTo.
func (m *Image) WriteTo(w io.Writer) (int64, error) {
	buf, pos := make([]byte, chunk), int64(0)
	for _, r := range m.regions {
		if err := writeZeros(w, r.off-pos, buf); err != nil {
			return pos, fmt.Errorf("write fat32: %w", err)
		}
		if err := r.copyTo(w, buf); err != nil {
			return r.off, err
		}
		pos = r.off + r.blob.Size()
	}
	if err := writeZeros(w, m.Size()-pos, buf); err != nil {
		return pos, fmt.Errorf("write fat32: %w", err)
	}
	return m.Size(), nil
}

// copyTo copies the blob and insists on the size that the plan was made with.
func (r region) copyTo(w io.Writer, buf []byte) error {
	src, err := r.blob.Open()
	if err != nil {
		return fmt.Errorf("write fat32: open %s: %w", r.what, err)
	}
	defer src.Close()
	want := r.blob.Size()
	for left := want; left > 0; {
		n, err := io.ReadFull(src, buf[:min(left, int64(len(buf)))])
		if err != nil {
			return fmt.Errorf("write fat32: read %s at byte %d of %d: %w", r.what, want-left+int64(n), want, short(err))
		}
		if _, err := w.Write(buf[:n]); err != nil {
			return fmt.Errorf("write fat32: %s: %w", r.what, err)
		}
		left -= int64(n)
	}
	if n, _ := io.ReadFull(src, buf[:1]); n != 0 {
		return fmt.Errorf("write fat32: read %s: more than the %d bytes planned", r.what, want)
	}
	return nil
}

func short(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// sparse leaves out writes of nothing but zeros.
type sparse struct{ w io.WriterAt }

var zeros [chunk]byte

func (s sparse) WriteAt(p []byte, off int64) (int, error) {
	if bytes.Equal(p, zeros[:len(p)]) {
		return len(p), nil
	}
	return s.w.WriteAt(p, off)
}

func writeZeros(w io.Writer, n int64, buf []byte) error {
	clear(buf)
	for n > 0 {
		k := min(n, int64(len(buf)))
		if _, err := w.Write(buf[:k]); err != nil {
			return err
		}
		n -= k
	}
	return nil
}
