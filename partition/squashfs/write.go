package squashfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"

	"github.com/klauspost/compress/zstd"

	"github.com/ingot-os/ingot/partition/tree"
)

// Write writes a filesystem to w from offset 0 on and returns its size in
// bytes, a multiple of 4096. Every byte up to there is written. After an error
// what w holds is of no use.
func Write(w io.WriterAt, t *tree.Tree, o Options) (size int64, err error) {
	o, err = o.validate()
	if err != nil {
		return 0, fmt.Errorf("write squashfs: %w", err)
	}
	p, err := newPlan(t)
	if err != nil {
		return 0, fmt.Errorf("write squashfs: %w", err)
	}
	enc, err := newEncoder(o.Level, metaSize)
	if err != nil {
		return 0, fmt.Errorf("write squashfs: %w", err)
	}
	sb := newSuperblock(p, o)
	head := compressorOptions(o)
	d, err := writeData(w, p, uint64(binary.Size(sb)+len(head)), o)
	if err != nil {
		return 0, err
	}
	tail, err := layoutTables(&sb, p, d, enc, o)
	if err != nil {
		return 0, fmt.Errorf("write squashfs: %w", err)
	}
	if _, err := w.WriteAt(tail, int64(d.end)); err != nil {
		return 0, fmt.Errorf("write squashfs: tables: %w", err)
	}
	if _, err := w.WriteAt(append(marshal(nil, sb), head...), 0); err != nil {
		return 0, fmt.Errorf("write squashfs: superblock: %w", err)
	}
	return int64(d.end) + int64(len(tail)), nil
}

func newSuperblock(p *plan, o Options) superblock {
	flags := uint16(flagAlwaysFrags | flagExportable | flagCompressOpts)
	if len(p.xattrs.lists) == 0 {
		flags |= flagNoXattrs
	}
	return superblock{
		Magic: magic, Inodes: uint32(len(p.inodes)), Time: uint32(o.Epoch),
		BlockSize: uint32(o.BlockSize), BlockLog: uint16(bits.TrailingZeros(uint(o.BlockSize))),
		Compression: compZstd, Flags: flags, IDs: uint16(len(p.ids)), Major: 4,
	}
}

// compressorOptions is the plain metadata block after the superblock that
// tells the zstd level. Readers do not need it, people do.
func compressorOptions(o Options) []byte {
	b := marshal(nil, uint16(4|metaPlain))
	return marshal(b, uint32(o.Level))
}

// layoutTables makes everything after the data. The kernel insists on this
// order and on tables that touch each other.
func layoutTables(sb *superblock, p *plan, d *data, enc *zstd.Encoder, o Options) ([]byte, error) {
	t := &tables{inodes: metaWriter{enc: enc}, dirs: metaWriter{enc: enc}, epoch: uint32(o.Epoch), count: uint32(len(p.inodes))}
	if err := t.all(p.inodes); err != nil {
		return nil, err
	}
	if len(t.inodes.out) > math.MaxUint32 || len(t.dirs.out) > math.MaxUint32 {
		return nil, errors.New("more than 4 GiB of inodes or directories")
	}
	sb.Root = uint64(p.inodes[0].at)
	b := t.inodes.out
	here := func() uint64 { return d.end + uint64(len(b)) }
	sb.InodeTable, sb.DirTable = d.end, here()
	b = append(b, t.dirs.out...)
	table := func(entries []byte) uint64 {
		more, list := lookupTable(enc, entries, here())
		b = append(b, more...)
		return list
	}
	sb.Fragments, sb.FragmentTable = uint32(len(d.fragments)), table(fragmentEntries(d.fragments))
	sb.ExportTable = table(exportEntries(p.inodes))
	sb.IDTable = table(idEntries(p.ids))
	more, at := p.xattrs.layout(enc, here())
	b, sb.XattrTable = append(b, more...), at
	sb.BytesUsed = here()
	return append(b, make([]byte, -here()%padTo)...), nil
}

func fragmentEntries(list []*fragmentEntry) (b []byte) {
	for _, f := range list {
		b = marshal(b, f)
	}
	return b
}

func exportEntries(inodes []*inode) (b []byte) {
	for _, i := range inodes {
		b = binary.LittleEndian.AppendUint64(b, uint64(i.at))
	}
	return b
}

func idEntries(ids []uint32) (b []byte) {
	for _, id := range ids {
		b = binary.LittleEndian.AppendUint32(b, id)
	}
	return b
}

// data writes the contents of files.
type data struct {
	*pipeline
	size      int    // of a block
	tails     *block // the fragment block that is being filled
	fragments []*fragmentEntry
	end       uint64
}

func writeData(w io.WriterAt, p *plan, start uint64, o Options) (*data, error) {
	pipe, err := newPipeline(w, start, o)
	if err != nil {
		return nil, fmt.Errorf("write squashfs: %w", err)
	}
	d := &data{pipeline: pipe, size: o.BlockSize}
	for _, i := range p.inodes {
		if err = d.file(i); err != nil || d.fail.Load() {
			break
		}
	}
	d.flushTails()
	end, werr := d.close()
	d.end = end
	return d, errors.Join(err, werr)
}

// file reads one file and submits its blocks.
func (d *data) file(i *inode) error {
	size := i.node.Size()
	if !i.node.Mode.IsRegular() || size == 0 {
		return nil
	}
	r, err := i.node.Open()
	if err != nil {
		return fmt.Errorf("write squashfs: open %q: %w", i.node.Path, err)
	}
	defer r.Close()
	i.data.blocks = make([]uint32, size/int64(d.size))
	for k := range i.data.blocks {
		if d.fail.Load() {
			return nil
		}
		if err := d.block(i, r, k); err != nil {
			return err
		}
	}
	if tail := int(size % int64(d.size)); tail > 0 {
		if err := d.tail(i, r, tail); err != nil {
			return err
		}
	}
	var more [1]byte
	if n, _ := io.ReadFull(r, more[:]); n != 0 {
		return fmt.Errorf("write squashfs: read %q: more than the %d bytes it said", i.node.Path, size)
	}
	return nil
}

var zeros [maxBlock]byte

// block stores the k-th block of a file; the inode's data starts at the first that is no hole.
func (d *data) block(i *inode, r io.Reader, k int) error {
	b := d.get(d.size)
	b.raw = b.raw[:d.size]
	if err := readFull(i, r, b.raw); err != nil {
		d.put(b)
		return err
	}
	if bytes.Equal(b.raw, zeros[:d.size]) {
		i.data.sparse += uint64(d.size)
		d.put(b)
		return nil
	}
	f := &i.data
	d.submit(b, func(off uint64, word uint32) {
		if f.start == 0 {
			f.start = off
		}
		f.blocks[k] = word
	})
	return nil
}

// tail puts the end of a file into a fragment block.
func (d *data) tail(i *inode, r io.Reader, n int) error {
	if d.tails != nil && len(d.tails.raw)+n > d.size {
		d.flushTails()
	}
	if d.tails == nil {
		d.tails = d.get(d.size)
	}
	at := len(d.tails.raw)
	d.tails.raw = d.tails.raw[:at+n]
	i.data.fragment, i.data.offset = uint32(len(d.fragments)), uint32(at)
	return readFull(i, r, d.tails.raw[at:])
}

func (d *data) flushTails() {
	if d.tails == nil {
		return
	}
	f := new(fragmentEntry)
	d.fragments = append(d.fragments, f)
	d.submit(d.tails, func(off uint64, word uint32) { f.Start, f.Size = off, word })
	d.tails = nil
}

func readFull(i *inode, r io.Reader, b []byte) error {
	if _, err := io.ReadFull(r, b); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("write squashfs: read %q, %d bytes: %w", i.node.Path, i.node.Size(), err)
	}
	return nil
}
