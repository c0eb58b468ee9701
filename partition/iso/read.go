package iso

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"github.com/ingot-os/ingot/partition/blocks"
)

// CD is what Open has found.
type CD struct {
	Label   string
	Created string // as the volume has it: YYYYMMDDhhmmsscc
	Size    int64  // of the volume in bytes
	Files   []File // of the root directory, by the names there
	Boot    []Boot
}

// File is a file of the root directory.
type File struct {
	Name      string
	Off, Size int64 // bytes
}

// Boot is one bootable entry of the catalog.
type Boot struct {
	Platform  byte  // 0xEF is UEFI
	Off, Size int64 // bytes; for UEFI a count of 0 or 1 means up to the end of the volume
}

// maxRoot bounds the root directory, in bytes.
const maxRoot = 1 << 20

// Open reads volume, root directory and boot catalog of a CD of size bytes.
func Open(r io.ReaderAt, size int64) (*CD, error) {
	c := new(CD)
	if err := c.open(r, size); err != nil {
		return nil, fmt.Errorf("open iso: %w", err)
	}
	return c, nil
}

// Is says whether a file that begins so is a CD; head has at least 32774 bytes.
func Is(head []byte) bool {
	return len(head) >= primaryAt*Sector+6 && string(head[primaryAt*Sector:primaryAt*Sector+6]) == "\x01CD001"
}

func (c *CD) open(r io.ReaderAt, size int64) error {
	b, err := sectors(r, primaryAt, 2*Sector, size)
	if err != nil {
		return fmt.Errorf("volume descriptors: %w", err)
	}
	p, boot := b[:Sector], b[Sector:]
	switch {
	case string(p[:7]) != "\x01CD001\x01":
		return fmt.Errorf("offset %d: no primary volume descriptor", primaryAt*Sector)
	case binary.LittleEndian.Uint16(p[128:]) != Sector:
		return fmt.Errorf("offset %d: logical blocks of %d bytes, want 2048", primaryAt*Sector+128, binary.LittleEndian.Uint16(p[128:]))
	}
	c.Label = strings.TrimRight(string(p[40:72]), " \x00")
	c.Created = strings.TrimRight(string(p[813:829]), "\x00")
	c.Size = int64(binary.LittleEndian.Uint32(p[80:])) * Sector
	if c.Size > size {
		return fmt.Errorf("offset %d: the volume has %d bytes, the file %d", primaryAt*Sector+80, c.Size, size)
	}
	root, err := sectors(r, int64(binary.LittleEndian.Uint32(p[158:])), int64(binary.LittleEndian.Uint32(p[166:])), size)
	if err != nil {
		return fmt.Errorf("root directory: %w", err)
	}
	c.list(root)
	if string(boot[:7]) != "\x00CD001\x01" || !strings.HasPrefix(string(boot[7:]), elTorito) {
		return nil // not bootable
	}
	cat, err := sectors(r, int64(binary.LittleEndian.Uint32(boot[71:])), Sector, size)
	if err != nil {
		return fmt.Errorf("boot catalog: %w", err)
	}
	return c.catalog(cat)
}

// sectors reads n bytes from a sector on.
func sectors(r io.ReaderAt, at, n, size int64) ([]byte, error) {
	if n > maxRoot || at*Sector+n > size {
		return nil, fmt.Errorf("offset %d: %d bytes are not within the file of %d", at*Sector, n, size)
	}
	b := make([]byte, n)
	return b, blocks.ReadFull(r, b, at*Sector)
}

// list reads directory records; a length of zero skips to the next sector.
func (c *CD) list(b []byte) {
	for i := 0; i+33 < len(b); {
		n := int(b[i])
		if n == 0 {
			i = (i/Sector + 1) * Sector
			continue
		}
		if n < 34 || i+n > len(b) || 33+int(b[i+32]) > n {
			return
		}
		e := b[i : i+n]
		name := string(e[33 : 33+int(e[32])])
		if e[25]&2 == 0 {
			c.Files = append(c.Files, File{strings.TrimSuffix(name, ";1"), int64(binary.LittleEndian.Uint32(e[2:])) * Sector, int64(binary.LittleEndian.Uint32(e[10:]))})
		}
		i += n
	}
}

// catalog reads the entries that can be booted. A section header names the
// platform of those behind it.
func (c *CD) catalog(b []byte) error {
	var sum uint16
	for i := 0; i < 32; i += 2 {
		sum += binary.LittleEndian.Uint16(b[i:])
	}
	if b[0] != 1 || sum != 0 || b[30] != 0x55 || b[31] != 0xaa {
		return fmt.Errorf("boot catalog: the validation entry is not valid")
	}
	platform := b[1]
	for e := b[32:]; len(e) >= 32; e = e[32:] {
		switch e[0] {
		case 0x90, 0x91:
			platform = e[1]
		case 0x88:
			boot := Boot{Platform: platform, Off: int64(binary.LittleEndian.Uint32(e[8:])) * Sector, Size: int64(binary.LittleEndian.Uint16(e[6:])) * 512}
			if platform == platformEFI && boot.Size <= 512 {
				boot.Size = c.Size - boot.Off
			}
			if boot.Size < 0 || boot.Off+boot.Size > c.Size {
				return fmt.Errorf("boot catalog: an image of %d bytes at offset %d is not within the volume", boot.Size, boot.Off)
			}
			c.Boot = append(c.Boot, boot)
		}
	}
	return nil
}
