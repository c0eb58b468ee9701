package initramfs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/compress/zstd"

	"github.com/ingot-os/ingot/partition/tree"
)

// MaxUnpacked bounds the memory that Read and Open take for contents: the
// input of Read, and all zstd frames unpacked. Contents of uncompressed
// archives stay in the reader that Open was given.
const MaxUnpacked = 512 << 20

// maxWindow is the largest window the kernel's decoder accepts (ZSTD_WINDOWLOG_LIMIT_DEFAULT, 27).
const maxWindow = 1 << 27

// maxEntries bounds the number of names.
const maxEntries = 1 << 20

// Info describes an initramfs file beside its tree.
type Info struct {
	Archives []ArchiveInfo
	Headers  []HeaderInfo // in the order of the file; a name that occurs again has two
}

// HeaderInfo is what a header says of an entry beside its node, and where the
// entry lies: offsets in the file, or in the unpacked frame that holds it.
type HeaderInfo struct {
	Path    string
	Inode   uint32
	Time    int64 // modification time, Unix seconds
	Offset  int64 // of the header; the name follows
	NameEnd int64 // end of the name with its NUL, padded with zeros to Data
	Data    int64 // start of the content
	DataEnd int64 // end of the content, padded with zeros to the next header
}

// ArchiveInfo is one plain archive, or one zstd frame.
type ArchiveInfo struct {
	Offset     int64  // first byte in the file
	Size       int64  // bytes in the file, without zero padding after it
	Compress   string // None or Zstd
	Unpacked   int64  // bytes of the cpio archive itself
	Entries    int    // names, without the trailer
	MinTime    int64  // oldest and newest modification time of its entries, Unix
	MaxTime    int64  // seconds; equal in a reproducible archive
	Descending string // first name that is not after the one before it, "" when sorted
}

// Read reads a whole initramfs into memory, at most MaxUnpacked bytes.
func Read(r io.Reader) (*tree.Tree, *Info, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxUnpacked+1))
	if err != nil {
		return nil, nil, fmt.Errorf("read initramfs: %w", err)
	}
	if len(b) > MaxUnpacked {
		return nil, nil, &FormatError{Off: MaxUnpacked, Frame: -1, Field: "file", Msg: "larger than the limit"}
	}
	return Open(bytes.NewReader(b), int64(len(b)))
}

// Open reads the initramfs in the first size bytes of r: archives one after
// another, each plain or one zstd frame, with zero bytes between them, as the
// kernel takes them. A name that occurs again replaces the earlier one. The
// contents of plain archives are read from r when asked for, so r must outlive
// the tree.
func Open(r io.ReaderAt, size int64) (*tree.Tree, *Info, error) {
	o := opener{parser: parser{r: r, size: size, frame: -1}, nodes: map[string]*tree.Node{}, budget: MaxUnpacked}
	for off := int64(0); ; {
		at, err := o.skipZeros(off)
		if err != nil {
			return nil, nil, err
		}
		if at >= size {
			break
		}
		if off, err = o.archive(at); err != nil {
			return nil, nil, err
		}
	}
	t, err := o.tree()
	return t, &o.info, err
}

type opener struct {
	parser
	info    Info
	nodes   map[string]*tree.Node
	budget  int64
	entries int
}

// skipZeros finds the next archive.
func (p *parser) skipZeros(off int64) (int64, error) {
	buf := make([]byte, 4096)
	for off < p.size {
		b := buf[:min(int64(len(buf)), p.size-off)]
		if err := p.readAt(b, off); err != nil {
			return 0, err
		}
		if i := slices.IndexFunc(b, func(c byte) bool { return c != 0 }); i >= 0 {
			return off + int64(i), nil
		}
		off += int64(len(b))
	}
	return p.size, nil
}

// archive reads the archive at off and returns the offset after it.
func (o *opener) archive(off int64) (int64, error) {
	var magic [4]byte
	if err := o.readAt(magic[:min(4, o.size-off)], off); err != nil {
		return 0, err
	}
	if binary.LittleEndian.Uint32(magic[:]) == zstdMagic {
		return o.frameAt(off)
	}
	if off%align != 0 {
		return 0, o.errorf(off, "c_magic", "an uncompressed archive starts on a 4-byte boundary")
	}
	info := ArchiveInfo{Offset: off, Compress: None}
	end, err := o.cpio(&o.parser, off, &info)
	if err != nil {
		return 0, err
	}
	info.Size, info.Unpacked = end-off, end-off
	o.info.Archives = append(o.info.Archives, info)
	return end, nil
}

// frameAt unpacks the zstd frame at off, which holds one or more complete archives.
func (o *opener) frameAt(off int64) (int64, error) {
	end, err := frameEnd(&o.parser, off)
	if err != nil {
		return 0, err
	}
	raw, err := o.unpack(off, end)
	if err != nil {
		return 0, err
	}
	info := ArchiveInfo{Offset: off, Size: end - off, Compress: Zstd, Unpacked: int64(len(raw))}
	p := &parser{r: bytes.NewReader(raw), size: int64(len(raw)), frame: off}
	for at := int64(0); at < p.size; {
		if at, err = o.cpio(p, at, &info); err != nil {
			return 0, err
		}
		if at, err = p.skipZeros(at); err != nil {
			return 0, err
		}
		if at < p.size && at%align != 0 {
			return 0, p.errorf(at, "c_magic", "an archive starts on a 4-byte boundary")
		}
	}
	o.info.Archives = append(o.info.Archives, info)
	return end, nil
}

func (o *opener) unpack(off, end int64) ([]byte, error) {
	dec, err := zstd.NewReader(io.NewSectionReader(o.r, off, end-off),
		zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, o.errorf(off, "zstd", "%v", err)
	}
	defer dec.Close()
	raw, err := io.ReadAll(io.LimitReader(dec, o.budget+1))
	if err != nil {
		return nil, o.errorf(off, "zstd", "%v", err)
	}
	if o.budget -= int64(len(raw)); o.budget < 0 {
		return nil, o.errorf(off, "zstd", "frames unpack to more than %d bytes", int64(MaxUnpacked))
	}
	return raw, nil
}

// cpio reads entries up to the trailer and returns the offset after it.
func (o *opener) cpio(p *parser, off int64, info *ArchiveInfo) (int64, error) {
	links := map[[3]uint32]*tree.Node{}
	for last := ""; ; {
		h, err := p.header(off)
		if err != nil {
			return 0, err
		}
		if h.name == trailer {
			return min(h.next, p.size), nil
		}
		if o.entries++; o.entries > maxEntries {
			return 0, p.errorf(off, "name", "more than %d entries", maxEntries)
		}
		n, err := p.node(h, off)
		if err != nil {
			return 0, err
		}
		o.put(p, n, h, links)
		info.note(h, n.Path, last)
		o.info.Headers = append(o.info.Headers, HeaderInfo{
			Path: n.Path, Inode: h.ino, Time: int64(h.mtime), Offset: off, NameEnd: off + headerSize + int64(h.namesize),
			Data: h.data, DataEnd: h.data + int64(h.size),
		})
		off, last = h.next, n.Path
	}
}

func (i *ArchiveInfo) note(h *header, name, last string) {
	t := int64(h.mtime)
	if i.Entries == 0 {
		i.MinTime, i.MaxTime = t, t
	}
	i.MinTime, i.MaxTime = min(i.MinTime, t), max(i.MaxTime, t)
	if i.Entries > 0 && i.Descending == "" && slices.Compare(components(last), components(name)) >= 0 {
		i.Descending = name
	}
	i.Entries++
}

// node makes the tree node of an entry; hard links are resolved by put.
func (p *parser) node(h *header, off int64) (*tree.Node, error) {
	name, ok := cleanName(h.name)
	if !ok {
		return nil, p.errorf(off+headerSize, "name", "%q leaves the root", h.name)
	}
	mode, ok := fileMode(h.mode)
	if !ok {
		return nil, p.errorf(off+14, "c_mode", "%q has unknown type %#o", h.name, h.mode)
	}
	n := &tree.Node{Path: name, Mode: mode, UID: h.uid, GID: h.gid}
	switch {
	case name == "." && !mode.IsDir():
		return nil, p.errorf(off+14, "c_mode", "the root is no directory")
	case mode.IsRegular():
		n.Content = tree.Section{R: p.r, Off: h.data, N: int64(h.size)}
	case h.mode&0o170000 == 0o120000:
		if h.size == 0 || h.size > maxPath {
			return nil, p.errorf(off+54, "c_filesize", "symlink %q has a target of %d bytes", h.name, h.size)
		}
		b := make([]byte, h.size)
		if err := p.readAt(b, h.data); err != nil {
			return nil, err
		}
		n.Target = string(b)
	default:
		n.Major, n.Minor = h.rmaj, h.rmin
		if n.Mode.IsDir() {
			n.Major, n.Minor = 0, 0
		}
	}
	return n, nil
}

// put records a node; a later one of the same name wins, as it does in the
// kernel. Of several names of one file, GNU cpio stores the content with the
// last, we and the kernel's own tool with the first: either is accepted.
func (o *opener) put(p *parser, n *tree.Node, h *header, links map[[3]uint32]*tree.Node) {
	if n.Mode.IsRegular() && h.nlink > 1 {
		key := [3]uint32{h.maj, h.min, h.ino}
		if first := links[key]; first != nil && first.Path != n.Path && o.nodes[first.Path] == first {
			if h.size > 0 {
				first.Content = n.Content
			}
			n.Content, n.Link = nil, first.Path
		} else {
			links[key] = n
		}
	}
	o.nodes[n.Path] = n
}

// tree builds the result once all archives are known.
func (o *opener) tree() (*tree.Tree, error) {
	t := &tree.Tree{}
	paths := make([]string, 0, len(o.nodes))
	for p := range o.nodes {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	for _, p := range paths {
		n := o.nodes[p]
		if n.Link != "" && (o.nodes[n.Link] == nil || !o.nodes[n.Link].Mode.IsRegular() || o.nodes[n.Link].Link != "") {
			return nil, &FormatError{Frame: -1, Field: "c_ino", Msg: fmt.Sprintf("%q is a hard link to %q, which a later entry replaced", n.Path, n.Link)}
		}
		if err := t.Add(*n); err != nil {
			return nil, &FormatError{Frame: -1, Field: "name", Msg: err.Error()}
		}
	}
	return t, nil
}
