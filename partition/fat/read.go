package fat

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"strings"
)

// Info is what a volume says about itself.
type Info struct {
	OEM             string `json:"oem"`
	Serial          string `json:"serial"` // as lsblk shows it: 1234-ABCD
	Label           string `json:"label"`
	Size            int64  `json:"size"`         // bytes
	SectorSize      int    `json:"sector_size"`  // bytes
	ClusterSize     int    `json:"cluster_size"` // bytes
	Clusters        uint32 `json:"clusters"`
	FreeClusters    uint32 `json:"free_clusters"` // as FSInfo has it; 0xffffffff means unknown
	ReservedSectors int    `json:"reserved_sectors"`
	FATs            int    `json:"fats"`
	FATSectors      uint32 `json:"fat_sectors"`
	HiddenSectors   uint32 `json:"hidden_sectors"`
}

// FS is an opened FAT32 volume of any formatter.
type FS struct {
	r       io.ReaderAt
	boot    bootSector
	info    Info
	fatOff  int64
	dataOff int64
	last    uint32 // highest cluster number

	window    []byte // a piece of the FAT
	windowOff int64

	entries map[string]EntryInfo
}

// Open checks the boot sector of a volume of size bytes. Errors about the
// content are a *FormatError.
func Open(r io.ReaderAt, size int64) (*FS, error) {
	var raw [sectorSize]byte
	if _, err := io.ReadFull(io.NewSectionReader(r, 0, size), raw[:]); err != nil {
		return nil, fmt.Errorf("read fat32: boot sector: %w", err)
	}
	f := &FS{r: r}
	unmarshal(raw[:], &f.boot)
	if err := f.check(size); err != nil {
		return nil, err
	}
	f.fill()
	return f, f.readFSInfo()
}

// check refuses everything that would make a later offset computation wrong.
func (f *FS) check(size int64) error {
	b := &f.boot
	bps, spc := int64(b.BytesPerSector), int64(b.SectorsPerCluster)
	switch {
	case b.Mark != bootMark:
		return bad(510, "Signature_word", "0x%04X, want 0xAA55", b.Mark)
	case bps < 512 || bps > 4096 || bits.OnesCount16(b.BytesPerSector) != 1:
		return bad(11, "BPB_BytsPerSec", "%d, want 512, 1024, 2048 or 4096", bps)
	case bits.OnesCount8(b.SectorsPerCluster) != 1:
		return bad(13, "BPB_SecPerClus", "%d is no power of two", spc)
	case b.ReservedSectors == 0:
		return bad(14, "BPB_RsvdSecCnt", "0")
	case b.NumFATs == 0 || b.NumFATs > 4:
		return bad(16, "BPB_NumFATs", "%d", b.NumFATs)
	case b.RootEntries != 0 || b.FATSectors16 != 0 || b.FATSectors32 == 0:
		return bad(17, "BPB_RootEntCnt", "not a FAT32 volume")
	case b.Version != 0:
		return bad(42, "BPB_FSVer", "%d, only 0 is defined", b.Version)
	}
	total := int64(b.TotalSectors32)
	if total == 0 {
		total = int64(b.TotalSectors16)
	}
	if total*bps > size {
		return bad(32, "BPB_TotSec32", "%d sectors of %d, the volume has %d bytes", total, bps, size)
	}
	f.fatOff = int64(b.ReservedSectors) * bps
	f.dataOff = f.fatOff + int64(b.NumFATs)*int64(b.FATSectors32)*bps
	clusters := (total*bps - f.dataOff) / (bps * spc)
	if clusters < minClusters || clusters > maxClusters {
		return bad(32, "BPB_TotSec32", "%d clusters, FAT32 has %d to %d", clusters, minClusters, maxClusters)
	}
	if int64(b.FATSectors32)*bps/4 < clusters+2 {
		return bad(36, "BPB_FATSz32", "%d sectors are too few for %d clusters", b.FATSectors32, clusters)
	}
	f.last = uint32(clusters + 1)
	if b.RootCluster < 2 || b.RootCluster > f.last {
		return bad(44, "BPB_RootClus", "%d, clusters are 2 to %d", b.RootCluster, f.last)
	}
	f.info.Size, f.info.Clusters = total*bps, uint32(clusters)
	return nil
}

func (f *FS) fill() {
	b, i := &f.boot, &f.info
	i.OEM = strings.TrimRight(string(b.OEM[:]), " \x00")
	i.Serial = fmt.Sprintf("%04X-%04X", b.Serial>>16, b.Serial&0xFFFF)
	i.Label = strings.TrimRight(string(b.Label[:]), " \x00")
	i.SectorSize = int(b.BytesPerSector)
	i.ClusterSize = int(f.clusterSize())
	i.ReservedSectors = int(b.ReservedSectors)
	i.FATs = int(b.NumFATs)
	i.FATSectors = b.FATSectors32
	i.HiddenSectors = b.HiddenSectors
}

// readFSInfo takes the free count, which is a hint: a wrong signature only means unknown.
func (f *FS) readFSInfo() error {
	f.info.FreeClusters = 0xFFFFFFFF
	if f.boot.FSInfo == 0 || f.boot.FSInfo >= f.boot.ReservedSectors {
		return nil
	}
	var raw [sectorSize]byte
	if _, err := f.r.ReadAt(raw[:], int64(f.boot.FSInfo)*int64(f.boot.BytesPerSector)); err != nil {
		return fmt.Errorf("read fat32: FSInfo: %w", err)
	}
	var info fsInfo
	unmarshal(raw[:], &info)
	if info.Lead == fsInfoLead && info.Struct == fsInfoStruct && info.Free <= f.info.Clusters {
		f.info.FreeClusters = info.Free
	}
	return nil
}

// Info returns what the boot sector and FSInfo say.
func (f *FS) Info() Info { return f.info }

func (f *FS) clusterSize() int64 {
	return int64(f.boot.BytesPerSector) * int64(f.boot.SectorsPerCluster)
}

func (f *FS) clusterOff(c uint32) int64 { return f.dataOff + int64(c-2)*f.clusterSize() }

// next reads the FAT entry of a cluster through a window, so that a chain does
// not cost one read per cluster.
func (f *FS) next(c uint32) (uint32, error) {
	off := f.fatOff + 4*int64(c)
	if off < f.windowOff || off+4 > f.windowOff+int64(len(f.window)) {
		const size = 64 << 10
		f.windowOff = f.fatOff + (4*int64(c))&^(size-1)
		end := min(f.windowOff+size, f.fatOff+4*(int64(f.last)+1))
		f.window = append(f.window[:0], make([]byte, end-f.windowOff)...)
		if _, err := f.r.ReadAt(f.window, f.windowOff); err != nil && err != io.EOF {
			f.window = f.window[:0]
			return 0, fmt.Errorf("read fat32: FAT at byte %d: %w", f.windowOff, err)
		}
	}
	return binary.LittleEndian.Uint32(f.window[off-f.windowOff:]) & fatMask, nil
}
