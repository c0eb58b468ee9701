package fat

import (
	"encoding/binary"
	"fmt"
	"time"
)

const (
	sectorSize   = 512
	entrySize    = 32
	reserved     = 32 // sectors before the first FAT, as every known formatter has
	numFATs      = 2
	fsInfoSector = 1
	backupSector = 6

	minClusters = 65525      // fewer and the volume is FAT16 by definition (section 3.5)
	maxClusters = 0x0FFFFFF5 // FAT entries above this number have a meaning of their own
	maxDirSize  = 65536 * entrySize
	maxFileSize = 1<<32 - 1

	endOfChain = 0x0FFFFFFF
	badCluster = 0x0FFFFFF7
	fatMask    = 0x0FFFFFFF // the top four bits of an entry are reserved
)

const (
	attrReadOnly  = 0x01
	attrHidden    = 0x02
	attrSystem    = 0x04
	attrVolumeID  = 0x08
	attrDirectory = 0x10
	attrArchive   = 0x20
	attrLongName  = attrReadOnly | attrHidden | attrSystem | attrVolumeID
	attrLongMask  = attrLongName | attrDirectory | attrArchive
)

const (
	caseLowerBase = 0x08 // DIR_NTRes: the eight characters are meant in lower case
	caseLowerExt  = 0x10

	longLast      = 0x40 // LDIR_Ord of the entry that is stored first
	unitsPerEntry = 13
	maxNameUnits  = 255
)

const (
	fsInfoLead   = 0x41615252
	fsInfoStruct = 0x61417272
	fsInfoTrail  = 0xAA550000
	bootMark     = 0xAA55
)

// bootSector is sector 0 and its copy in sector 6 (sections 3.1 and 3.3).
type bootSector struct {
	Jump              [3]byte
	OEM               [8]byte
	BytesPerSector    uint16
	SectorsPerCluster uint8
	ReservedSectors   uint16
	NumFATs           uint8
	RootEntries       uint16 // FAT12 and FAT16 only
	TotalSectors16    uint16 // FAT12 and FAT16 only
	Media             uint8
	FATSectors16      uint16 // FAT12 and FAT16 only
	SectorsPerTrack   uint16
	Heads             uint16
	HiddenSectors     uint32
	TotalSectors32    uint32
	FATSectors32      uint32
	ExtFlags          uint16
	Version           uint16
	RootCluster       uint32
	FSInfo            uint16
	BackupBoot        uint16
	Reserved          [12]byte
	Drive             uint8
	Reserved1         uint8
	BootSig           uint8
	Serial            uint32
	Label             [11]byte
	FSType            [8]byte
	Code              [420]byte
	Mark              uint16
}

// fsInfo is sector 1 and its copy in sector 7 (section 5).
type fsInfo struct {
	Lead      uint32
	Reserved1 [480]byte
	Struct    uint32
	Free      uint32
	NextFree  uint32
	Reserved2 [12]byte
	Trail     uint32
}

// dirEntry is a short directory entry (section 6).
type dirEntry struct {
	Name        [11]byte
	Attr        uint8
	Case        uint8 // DIR_NTRes
	CreateTenth uint8 // units of 10 ms, 0 to 199
	CreateTime  uint16
	CreateDate  uint16
	AccessDate  uint16
	ClusterHigh uint16
	WriteTime   uint16
	WriteDate   uint16
	ClusterLow  uint16
	Size        uint32
}

// longEntry is one piece of a long name (section 7).
type longEntry struct {
	Ord         uint8
	Name1       [5]uint16
	Attr        uint8
	Type        uint8
	Checksum    uint8
	Name2       [6]uint16
	ClusterZero uint16
	Name3       [2]uint16
}

func (e *dirEntry) cluster() uint32 { return uint32(e.ClusterHigh)<<16 | uint32(e.ClusterLow) }

func (e *dirEntry) setCluster(c uint32) {
	e.ClusterHigh, e.ClusterLow = uint16(c>>16), uint16(c)
}

// marshal lays a structure out little endian; the fixed-size structures above cannot fail.
func marshal(b []byte, v any) []byte {
	b, err := binary.Append(b, binary.LittleEndian, v)
	if err != nil {
		panic(err)
	}
	return b
}

// unmarshal reads a structure from the front of b, which the caller made long enough.
func unmarshal(b []byte, v any) {
	if _, err := binary.Decode(b, binary.LittleEndian, v); err != nil {
		panic(err)
	}
}

// stamp is one moment in FAT's three fields.
type stamp struct {
	date, time uint16
	tenth      uint8
}

// newStamp turns seconds since 1970 into FAT fields, in UTC. FAT has no zone;
// most firmware and Linux's tz=UTC read it so.
func newStamp(epoch int64) (stamp, error) {
	t := time.Unix(epoch, 0).UTC()
	if t.Year() < 1980 || t.Year() > 2107 {
		return stamp{}, fmt.Errorf("epoch %d: year %d is outside FAT's 1980 to 2107", epoch, t.Year())
	}
	return stamp{
		date:  uint16((t.Year()-1980)<<9 | int(t.Month())<<5 | t.Day()),
		time:  uint16(t.Hour()<<11 | t.Minute()<<5 | t.Second()/2),
		tenth: uint8(t.Second() % 2 * 100),
	}, nil
}

func (s stamp) entry(name [11]byte, attr uint8) dirEntry {
	return dirEntry{
		Name: name, Attr: attr,
		CreateTenth: s.tenth, CreateTime: s.time, CreateDate: s.date, AccessDate: s.date,
		WriteTime: s.time, WriteDate: s.date,
	}
}
