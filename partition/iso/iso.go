// Package iso writes and reads bootable CDs: ISO 9660 (ECMA-119) with one
// El Torito entry for UEFI ("El Torito" Bootable CD-ROM Format 1.0, platform
// 0xEF as UEFI 2.10 section 13.3.2 says). The boot image is a FAT volume; there
// is no BIOS entry and no other file.
//
// The same bytes boot from a USB stick: the first sector, which ISO 9660 leaves
// alone, is an MBR whose one partition of type 0xEF (UEFI 2.10 section 5.2.1) is
// that volume. It is not a GPT on purpose: its second copy would have to lie at
// the end of a medium whose size is not known here, and a GPT partition has a
// GUID that systemd's stub reports to the system as the disk to look for.
//
// All dates are the epoch given. go-diskfs, which ingot uses elsewhere, was
// measured first: v1.9.4 puts the clock into the four dates of the volume and
// into the catalog's entry (two runs a second apart differ in 13 bytes), takes
// its files from a directory on disk, and cannot make the file boot from a stick.
//
//	size, err := iso.Write(f, iso.Options{Label: "HELLO", Epoch: t, Boot: volume})
//	cd, err := iso.Open(f, size)
package iso

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	// Sector is the unit of everything on a CD, in bytes.
	Sector = 2048

	// Places of the fixed parts, in sectors.
	primaryAt = 16
	bootAt    = 17
	endAt     = 18
	pathsLE   = 19
	pathsBE   = 20
	rootAt    = 21
	catalogAt = 22
	imageAt   = 512 // 1 MiB, where a partition on a stick should begin

	// Names of the two files, level 1 of the standard.
	catalogName = "BOOT.CAT;1"
	imageName   = "EFI.IMG;1"

	platformEFI = 0xef
	elTorito    = "EL TORITO SPECIFICATION"
)

// Options describe a CD.
type Options struct {
	Label string // volume id: A-Z, 0-9 and _, at most 32; others are replaced by _
	Epoch int64  // all dates, in Unix seconds
	Boot  Volume // FAT with \EFI\BOOT\BOOTX64.EFI or BOOTAA64.EFI; a multiple of 2048 bytes, below 4 GiB
	Disk  uint32 // disk signature in the MBR, for those who see the file as a stick
}

// Volume is a planned file system, such as an image of package fat. Write may
// leave zeros out.
type Volume interface {
	Size() int64 // bytes
	Write(w io.WriterAt) error
}

// Write writes the CD to w, which is empty, and returns its size in bytes.
func Write(w io.WriterAt, o Options) (int64, error) {
	n := o.Boot.Size()
	if n <= 0 || n%Sector != 0 || n >= 1<<32 {
		return 0, fmt.Errorf("write iso: boot image of %d bytes is not a multiple of 2048 below 4 GiB", n)
	}
	size := imageAt*Sector + n
	head := make([]byte, (catalogAt+1)*Sector)
	copy(head, o.mbr(n))
	at := func(sector int) []byte { return head[sector*Sector : (sector+1)*Sector] }
	o.primary(at(primaryAt), size)
	o.bootRecord(at(bootAt))
	copy(at(endAt), "\xffCD001\x01") // ECMA-119 8.3
	paths(at(pathsLE), binary.LittleEndian)
	paths(at(pathsBE), binary.BigEndian)
	o.root(at(rootAt), n)
	catalog(at(catalogAt))
	_, err := w.WriteAt(make([]byte, Sector), size-Sector) // the file has its length, whatever the volume leaves out
	if err == nil {
		err = o.Boot.Write(io.NewOffsetWriter(w, imageAt*Sector))
	}
	if err == nil {
		_, err = w.WriteAt(head, 0)
	}
	if err != nil {
		return 0, fmt.Errorf("write iso: %w", err)
	}
	return size, nil
}

// mbr has one partition, in sectors of 512 bytes (UEFI 2.10 table 5.1).
func (o Options) mbr(n int64) []byte {
	b := make([]byte, 512)
	binary.LittleEndian.PutUint32(b[440:], o.Disk)
	p := b[446:462]
	copy(p[1:4], "\xfe\xff\xff") // first and last sector as cylinder, head and sector: beyond them
	p[4] = platformEFI           // the type has the platform's number
	copy(p[5:8], "\xfe\xff\xff")
	binary.LittleEndian.PutUint32(p[8:], imageAt*Sector/512)
	binary.LittleEndian.PutUint32(p[12:], uint32(n/512))
	b[510], b[511] = 0x55, 0xaa
	return b
}

// primary is the primary volume descriptor, ECMA-119 8.4.
func (o Options) primary(b []byte, size int64) {
	copy(b, "\x01CD001\x01")
	for _, text := range [][]byte{b[8:72], b[190:813]} { // all names, which are blank
		copy(text, bytes.Repeat([]byte(" "), len(text)))
	}
	copy(b[40:72], label(o.Label))
	both32(b[80:], uint32(size/Sector))
	both16(b[120:], 1) // volumes in the set
	both16(b[124:], 1) // number of this one
	both16(b[128:], Sector)
	both32(b[132:], 10) // bytes of the path table
	binary.LittleEndian.PutUint32(b[140:], pathsLE)
	binary.BigEndian.PutUint32(b[148:], pathsBE)
	o.record(b[156:190], "\x00", rootAt, Sector, true)
	date := time.Unix(o.Epoch, 0).UTC().Format("20060102150405") + "00\x00" // 8.4.26.1: hundredths, zone
	copy(b[813:], date)
	copy(b[830:], date)
	copy(b[847:], "0000000000000000\x00") // never expires
	copy(b[864:], date)
	b[881] = 1 // file structure version
}

// label makes a text of d-characters, ECMA-119 7.4.1.
func label(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(s))
	return s[:min(len(s), 32)]
}

// record writes a directory record, ECMA-119 9.1, and returns its length.
func (o Options) record(b []byte, name string, at, size uint32, dir bool) int {
	n := 33 + len(name)
	n += n & 1
	b[0] = byte(n)
	both32(b[2:], at)
	both32(b[10:], size)
	t := time.Unix(o.Epoch, 0).UTC()
	copy(b[18:], []byte{byte(t.Year() - 1900), byte(t.Month()), byte(t.Day()), byte(t.Hour()), byte(t.Minute()), byte(t.Second()), 0})
	if dir {
		b[25] = 2
	}
	both16(b[28:], 1)
	b[32] = byte(len(name))
	copy(b[33:], name)
	return n
}

// root is the only directory: itself, its parent, which is itself, two files.
func (o Options) root(b []byte, image int64) {
	for _, e := range []struct {
		name     string
		at, size uint32
		dir      bool
	}{{"\x00", rootAt, Sector, true}, {"\x01", rootAt, Sector, true}, {catalogName, catalogAt, Sector, false}, {imageName, imageAt, uint32(image), false}} {
		b = b[o.record(b, e.name, e.at, e.size, e.dir):]
	}
}

// paths is a path table with the root alone, ECMA-119 9.4.
func paths(b []byte, order binary.ByteOrder) {
	b[0] = 1 // length of the name
	order.PutUint32(b[2:], rootAt)
	order.PutUint16(b[6:], 1)
}

// bootRecord is El Torito's volume descriptor, figure 7 of the specification.
func (o Options) bootRecord(b []byte) {
	copy(b, "\x00CD001\x01")
	copy(b[7:], elTorito)
	binary.LittleEndian.PutUint32(b[71:], catalogAt)
}

// catalog has the validation entry, whose 16-bit words add up to zero, and the
// default entry. A count of 1 says that the volume ends where the CD does (UEFI
// 2.10 section 13.3.2.1); an honest one would end at 32 MiB, as it has 16 bits.
func catalog(b []byte) {
	b[0], b[1] = 1, platformEFI
	b[30], b[31] = 0x55, 0xaa
	var sum uint16
	for i := 0; i < 32; i += 2 {
		sum += binary.LittleEndian.Uint16(b[i:])
	}
	binary.LittleEndian.PutUint16(b[28:], -sum)
	e := b[32:64]
	e[0] = 0x88 // bootable, no emulation
	binary.LittleEndian.PutUint16(e[6:], 1)
	binary.LittleEndian.PutUint32(e[8:], imageAt)
}

// both32 and both16 write a number in both byte orders, ECMA-119 7.2.3 and 7.3.3.
func both32(b []byte, v uint32) {
	binary.LittleEndian.PutUint32(b, v)
	binary.BigEndian.PutUint32(b[4:], v)
}

func both16(b []byte, v uint16) {
	binary.LittleEndian.PutUint16(b, v)
	binary.BigEndian.PutUint16(b[2:], v)
}
