package powercut

import (
	"fmt"
	"io"
)

// Block is a block device in memory, sparse, that can record what is written to
// it. It reads and writes at any offset as a kernel's page cache lets a program
// do; what reaches the disk are the whole sectors that were touched.
type Block struct {
	size  int64
	store store
	log   *[]Op // records, when set
	row   string
}

// NewBlock returns a device of zeros.
func NewBlock(size int64) *Block { return &Block{size: size, store: newStore(size)} }

// clone returns a device with the same bytes that does not record.
func (b *Block) clone() *Block { return &Block{size: b.size, store: b.store.clone()} }

// ReadAt implements io.ReaderAt.
func (b *Block) ReadAt(p []byte, off int64) (int, error) {
	n := max(min(int64(len(p)), b.size-off), 0)
	b.store.read(p[:n], off)
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return len(p), nil
}

// WriteAt implements io.WriterAt.
func (b *Block) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > b.size {
		return 0, fmt.Errorf("write %d bytes at %d: past the end at %d", len(p), off, b.size)
	}
	if b.log != nil {
		from := off / sector * sector
		whole := make([]byte, (off-from+int64(len(p))+sector-1)/sector*sector)
		b.store.read(whole, from)
		copy(whole[off-from:], p)
		*b.log = append(*b.log, Op{Kind: Write, Row: b.row, Off: from, Data: whole})
	}
	b.store.write(p, off)
	return len(p), nil
}

// Sync implements gpt.Syncer and disk.Target.
func (b *Block) Sync() error {
	if b.log != nil {
		*b.log = append(*b.log, Op{Kind: Flush, Row: b.row})
	}
	return nil
}

// window is one partition of a Block as a disk.Target.
type window struct {
	b         *Block
	off, size int64
}

func (w window) ReadAt(p []byte, off int64) (int, error) {
	return io.NewSectionReader(w.b, w.off, w.size).ReadAt(p, off)
}

func (w window) WriteAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > w.size {
		return 0, fmt.Errorf("write %d bytes at %d: past the end of the partition at %d", len(p), off, w.size)
	}
	return w.b.WriteAt(p, w.off+off)
}

func (w window) Sync() error { return w.b.Sync() }

// Zero implements disk.Target as a device does that has no command for it.
func (w window) Zero(off, n int64) error {
	for n > 0 {
		k := min(n, pageSize)
		if _, err := w.WriteAt(zeroPage[:k], off); err != nil {
			return err
		}
		off, n = off+k, n-k
	}
	return nil
}

func (b *Block) put(s Op) {
	_, _ = b.WriteAt(s.Data, s.Off) // it was written there before: within the device
}
