package squashfs

import (
	"encoding/binary"
	"io"
)

// blob is the content of a file inside a filesystem.
type blob struct {
	fs *FS
	i  *rawInode
}

// Size implements tree.Blob.
func (b *blob) Size() int64 { return int64(b.i.size) }

// Open implements tree.Blob.
func (b *blob) Open() (io.ReadCloser, error) {
	return &fileReader{fs: b.fs, i: b.i, sizes: b.i.blocks, pos: b.i.start, left: b.i.size}, nil
}

// fileReader reads a file block by block; the list of blocks is read along with it.
type fileReader struct {
	fs    *FS
	i     *rawInode
	sizes cursor
	pos   uint64 // of the next block on disk
	left  uint64 // bytes that are not in buf yet
	buf   []byte
}

// Read implements io.Reader.
func (r *fileReader) Read(p []byte) (int, error) {
	if len(r.buf) == 0 {
		if r.left == 0 {
			return 0, io.EOF
		}
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.buf)
	r.buf = r.buf[n:]
	return n, nil
}

// Close implements io.Closer.
func (r *fileReader) Close() error { return nil }

func (r *fileReader) fill() error {
	want := min(r.left, uint64(r.fs.sb.BlockSize))
	if want < uint64(r.fs.sb.BlockSize) && r.i.fragment != none {
		return r.fillTail(want)
	}
	var word uint32
	if err := r.sizes.decode(&word); err != nil {
		return err
	}
	if word == 0 {
		r.buf, r.left = zeros[:want], r.left-want
		return nil
	}
	b, err := r.fs.data(r.pos, word)
	if err != nil {
		return err
	}
	if uint64(len(b)) != want {
		return bad(r.pos, "data block", "%d bytes, want %d", len(b), want)
	}
	r.pos += uint64(word &^ dataPlain)
	r.buf, r.left = b, r.left-want
	return nil
}

func (r *fileReader) fillTail(want uint64) error {
	if r.i.fragment >= r.fs.sb.Fragments {
		return bad(r.fs.sb.FragmentTable, "fragment", "%d of %d", r.i.fragment, r.fs.sb.Fragments)
	}
	c, err := r.fs.listed(r.fs.sb.FragmentTable, uint64(r.i.fragment), 16, "fragment table")
	if err != nil {
		return err
	}
	var f fragmentEntry
	if err := c.decode(&f); err != nil {
		return err
	}
	b, err := r.fs.tails(f)
	if err != nil {
		return err
	}
	if uint64(r.i.offset)+want > uint64(len(b)) {
		return bad(f.Start, "fragment", "%d bytes from %d on, it has %d", want, r.i.offset, len(b))
	}
	r.buf, r.left = b[r.i.offset:uint64(r.i.offset)+want], 0
	return nil
}

// tails reads a fragment block. Neighbours in a tree share one, so the last is kept.
func (f *FS) tails(e fragmentEntry) ([]byte, error) {
	f.mu.Lock()
	last, b := f.lastTails, f.lastTailsData
	f.mu.Unlock()
	if b != nil && last == e {
		return b, nil
	}
	b, err := f.data(e.Start, e.Size)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.lastTails, f.lastTailsData = e, b
	f.mu.Unlock()
	return b, nil
}

// data reads one data or fragment block.
func (f *FS) data(off uint64, word uint32) ([]byte, error) {
	n := word &^ dataPlain
	if n == 0 || n > f.sb.BlockSize {
		return nil, bad(off, "data block", "%d bytes on disk, blocks are %d", n, f.sb.BlockSize)
	}
	b := make([]byte, n)
	if err := f.readAt(b, off, "data block"); err != nil {
		return nil, err
	}
	if word&dataPlain != 0 {
		return b, nil
	}
	out, err := f.decompress(b, int(f.sb.BlockSize))
	if err != nil {
		return nil, bad(off, "data block", "%v", err)
	}
	return out, nil
}

// unmarshal reads a structure that b is long enough for.
func unmarshal(b []byte, v any) {
	if _, err := binary.Decode(b, binary.LittleEndian, v); err != nil {
		panic(err)
	}
}
