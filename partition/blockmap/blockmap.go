// Package blockmap writes and reads the map that says which blocks of a disk
// image have to be written, and what their SHA-256 is: the bmap format 2.0 of
// bmap-tools, which users of Yocto, Tizen and mkosi know and `bmaptool copy`
// takes. A format of ingot's own would say the same and be known to nobody.
//
// A block that is not in a map stays on the medium as it was. That is safe only
// where nobody reads it, and zeros are not nothing: free entries of a FAT, an
// empty state partition, the place where a file system is looked for. So New
// maps what is not zero and, besides, all ranges that the caller wants kept.
// Readers of this package go further and write zeros to the rest.
//
// No range crosses a multiple of Step, so a reader that has decompressed a part
// of the disk can check it before it writes the first byte of it.
package blockmap

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ingot-os/ingot/partition/blocks"
)

// BlockSize is the unit of the maps that New makes, in bytes.
const BlockSize = 4096

// Step is what no range of a map of New crosses, in bytes.
const Step = 4 << 20

// ErrMismatch is wrapped by the error of Check for bytes that are not those of
// the map.
var ErrMismatch = errors.New("the image differs from its block map")

// Map says which blocks of an image matter.
type Map struct {
	Size      int64 // of the image in bytes
	BlockSize int64
	Ranges    []Range // in order, without overlap
}

// Range is a run of mapped blocks.
type Range struct {
	First, Last int64  // blocks
	SHA256      string // of their bytes, in hex; the image's last block may be short
}

// New maps a disk: the blocks that are not zero, and those in keep.
func New(d blocks.Disk, keep []blocks.Range) (*Map, error) {
	m := &Map{Size: d.Size, BlockSize: BlockSize}
	next, empty := int64(0), make([]byte, Step)
	upTo := func(i int64) {
		for ; next < i; next++ {
			m.add(next*Step, empty[:min(Step, d.Size-next*Step)], keep)
		}
	}
	err := d.Each(Step, func(i int64, b []byte) error {
		upTo(i)
		m.add(i*Step, b[:min(Step, d.Size-i*Step)], keep)
		next++
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("map blocks: %w", err)
	}
	upTo((d.Size + Step - 1) / Step)
	return m, nil
}

// add maps what must be of the bytes at off.
func (m *Map) add(off int64, b []byte, keep []blocks.Range) {
	end := off + int64(len(b))
	keep = slices.DeleteFunc(slices.Clone(keep), func(r blocks.Range) bool { return r.End <= off || r.Off >= end })
	from := -1
	flush := func(to int) {
		if from >= 0 {
			sum := sha256.Sum256(b[from:to])
			m.Ranges = append(m.Ranges, Range{(off + int64(from)) / BlockSize, (off + int64(to) - 1) / BlockSize, hex.EncodeToString(sum[:])})
		}
		from = -1
	}
	for at := 0; at < len(b); at += BlockSize {
		to := min(at+BlockSize, len(b))
		kept := slices.ContainsFunc(keep, func(r blocks.Range) bool { return r.Off < off+int64(to) && r.End > off+int64(at) })
		switch mapped := kept || !blocks.IsZero(b[at:to]); {
		case mapped && from < 0:
			from = at
		case !mapped:
			flush(at)
		}
	}
	flush(len(b))
}

// Check compares bytes of the image at off, a multiple of Step, with the map:
// every range within them has its digest and the rest is zero. The error wraps
// ErrMismatch and names the place.
func (m *Map) Check(off int64, b []byte) error {
	end, at := off+int64(len(b)), off
	i, _ := slices.BinarySearchFunc(m.Ranges, off, func(r Range, off int64) int {
		if (r.Last+1)*m.BlockSize <= off {
			return -1
		}
		return 1
	})
	for ; i < len(m.Ranges) && m.Ranges[i].First*m.BlockSize < end; i++ {
		r := m.Ranges[i]
		from, to := r.First*m.BlockSize, min((r.Last+1)*m.BlockSize, m.Size)
		if from < at || to > end {
			return fmt.Errorf("block map: blocks %d to %d cross a multiple of %d bytes: the map was not made for this image", r.First, r.Last, len(b))
		}
		if !blocks.IsZero(b[at-off : from-off]) {
			return fmt.Errorf("%w: bytes %d to %d are not mapped and not zero", ErrMismatch, at, from)
		}
		sum := sha256.Sum256(b[from-off : to-off])
		if got := hex.EncodeToString(sum[:]); got != r.SHA256 {
			return fmt.Errorf("%w: bytes %d to %d have sha256 %s, want %s", ErrMismatch, from, to, got, r.SHA256)
		}
		at = to
	}
	if !blocks.IsZero(b[at-off:]) {
		return fmt.Errorf("%w: bytes %d to %d are not mapped and not zero", ErrMismatch, at, end)
	}
	return nil
}

// Empty says whether no block of the n bytes at off is mapped.
func (m *Map) Empty(off, n int64) bool {
	i, _ := slices.BinarySearchFunc(m.Ranges, off, func(r Range, off int64) int {
		if (r.Last+1)*m.BlockSize <= off {
			return -1
		}
		return 1
	})
	return i == len(m.Ranges) || m.Ranges[i].First*m.BlockSize >= off+n
}

// Mapped is the number of blocks in the map.
func (m *Map) Mapped() int64 {
	n := int64(0)
	for _, r := range m.Ranges {
		n += r.Last - r.First + 1
	}
	return n
}

func (m *Map) blocks() int64 { return (m.Size + m.BlockSize - 1) / m.BlockSize }

// Marshal gives the file. Its own checksum is that of the file with zeros in
// the checksum's place.
func (m *Map) Marshal() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `<?xml version="1.0" ?>
<!-- Which blocks of a disk image have to be written, for bmaptool copy and ingot flash. -->
<bmap version="2.0">
    <ImageSize> %d </ImageSize>
    <BlockSize> %d </BlockSize>
    <BlocksCount> %d </BlocksCount>
    <MappedBlocksCount> %d </MappedBlocksCount>
    <ChecksumType> sha256 </ChecksumType>
    <BmapFileChecksum> %s </BmapFileChecksum>
    <BlockMap>
`, m.Size, m.BlockSize, m.blocks(), m.Mapped(), noSum)
	for _, r := range m.Ranges {
		place := strconv.FormatInt(r.First, 10)
		if r.Last > r.First {
			place += "-" + strconv.FormatInt(r.Last, 10)
		}
		fmt.Fprintf(&b, "        <Range chksum=\"%s\"> %s </Range>\n", r.SHA256, place)
	}
	b.WriteString("    </BlockMap>\n</bmap>\n")
	sum := sha256.Sum256(b.Bytes())
	return bytes.Replace(b.Bytes(), []byte(noSum), []byte(hex.EncodeToString(sum[:])), 1)
}

// noSum stands for the checksum while it is computed.
const noSum = "0000000000000000000000000000000000000000000000000000000000000000"

// file is the document.
type file struct {
	XMLName           xml.Name `xml:"bmap"`
	Version           string   `xml:"version,attr"`
	ImageSize         string
	BlockSize         string
	BlocksCount       string
	MappedBlocksCount string
	ChecksumType      string
	BmapFileChecksum  string
	Ranges            []struct {
		Sum   string `xml:"chksum,attr"`
		Place string `xml:",chardata"`
	} `xml:"BlockMap>Range"`
}

// MaxFile bounds a map in bytes: the one of a disk of 1 TiB has 32 MB.
const MaxFile = 64 << 20

// Parse reads a map of version 2 with SHA-256, and checks its own checksum.
func Parse(data []byte) (*Map, error) {
	if len(data) > MaxFile {
		return nil, fmt.Errorf("parse block map: %d bytes are more than %d", len(data), MaxFile)
	}
	var f file
	if err := xml.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("parse block map: %w", err)
	}
	m, err := f.read(data)
	if err != nil {
		return nil, fmt.Errorf("parse block map: %w", err)
	}
	return m, nil
}

func (f *file) read(data []byte) (*Map, error) {
	sum := strings.TrimSpace(f.BmapFileChecksum)
	switch {
	case !strings.HasPrefix(f.Version, "2."):
		return nil, fmt.Errorf("version %q, this reader knows 2", f.Version)
	case strings.TrimSpace(f.ChecksumType) != "sha256":
		return nil, fmt.Errorf("ChecksumType is %q, this reader knows sha256", f.ChecksumType)
	case len(sum) != len(noSum):
		return nil, fmt.Errorf("BmapFileChecksum %q is not 64 hexadecimal digits", sum)
	}
	got := sha256.Sum256(bytes.Replace(data, []byte(sum), []byte(noSum), 1))
	if hex.EncodeToString(got[:]) != strings.ToLower(sum) {
		return nil, fmt.Errorf("%w: BmapFileChecksum is %s, the file has %x", ErrMismatch, sum, got)
	}
	m := new(Map)
	var err error
	if m.Size, err = number(f.ImageSize); err != nil || m.Size == 0 {
		return nil, fmt.Errorf("ImageSize %q is not a number of bytes", f.ImageSize)
	}
	if m.BlockSize, err = number(f.BlockSize); err != nil || m.BlockSize < 512 || m.BlockSize > Step || m.BlockSize&(m.BlockSize-1) != 0 {
		return nil, fmt.Errorf("BlockSize %q is not a power of two from 512 to 4194304", f.BlockSize)
	}
	if n, err := number(f.BlocksCount); err != nil || n != m.blocks() {
		return nil, fmt.Errorf("BlocksCount is %q, the image has %d blocks", f.BlocksCount, m.blocks())
	}
	if err := f.ranges(m); err != nil {
		return nil, err
	}
	if n, err := number(f.MappedBlocksCount); err != nil || n != m.Mapped() {
		return nil, fmt.Errorf("MappedBlocksCount is %q, the map has %d", f.MappedBlocksCount, m.Mapped())
	}
	return m, nil
}

func (f *file) ranges(m *Map) error {
	next := int64(0)
	for i, r := range f.Ranges {
		first, last, pair := strings.Cut(strings.TrimSpace(r.Place), "-")
		if !pair {
			last = first
		}
		a, err1 := number(first)
		z, err2 := number(last)
		sum, err3 := hex.DecodeString(r.Sum)
		switch {
		case err1 != nil || err2 != nil || a < next || z < a || z >= m.blocks():
			return fmt.Errorf("range %d: %q is not a run of blocks behind the ones before it", i+1, strings.TrimSpace(r.Place))
		case err3 != nil || len(sum) != sha256.Size:
			return fmt.Errorf("range %d: chksum %q is not 64 hexadecimal digits", i+1, r.Sum)
		}
		m.Ranges = append(m.Ranges, Range{a, z, hex.EncodeToString(sum)})
		next = z + 1
	}
	return nil
}

// number reads a whole number that fits in 62 bits, so that sums of two do not
// overflow.
func number(s string) (int64, error) {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 62)
	return int64(n), err
}
