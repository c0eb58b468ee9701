package unpack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"runtime"
	"slices"
)

// ReaderAt decompresses a file of size bytes. An xz file of several blocks, as
// xz -T and dpkg-deb write them, is decompressed on all processors: Debian's
// linux-image-amd64 (108 MB, 5 blocks) is the slowest input of a build.
func ReaderAt(r io.ReaderAt, size int64, form Form) (io.ReadCloser, error) {
	if form == XZ {
		if x, err := readIndex(r, size); err == nil {
			if workers := x.workers(); workers > 1 {
				return newParallel(r, x, workers), nil
			}
		}
	}
	return Reader(io.NewSectionReader(r, 0, size), form)
}

// The .xz file format, version 1.2.0, section 2.1.
const (
	headerSize = 12 // magic 6, flags 2, CRC32 4
	footerSize = 12 // CRC32 4, backward size 4, flags 2, magic 2
	maxBlocks  = 1 << 16
	maxMemory  = 256 << 20 // bytes of decompressed blocks held at once
)

// block is one record of an index.
type block struct {
	off      int64 // of the block header in the file
	unpadded int64 // bytes up to the padding
	plain    int64 // bytes of content
}

func (b block) padded() int64 { return (b.unpadded + 3) &^ 3 }

// xzIndex is what a file's end says about it.
type xzIndex struct {
	header [headerSize]byte
	blocks []block
}

var errNotParallel = errors.New("not one xz stream with an index")

// readIndex reads the index of a file that is one stream. Any other file, a
// malformed one included, is errNotParallel, so that the sequential reader says
// what is wrong. Sizes are only hints here: every block is checked while it is
// read.
func readIndex(r io.ReaderAt, size int64) (*xzIndex, error) {
	x := &xzIndex{}
	var footer [footerSize]byte
	if size < headerSize+footerSize {
		return nil, errNotParallel
	}
	if _, err := r.ReadAt(x.header[:], 0); err != nil {
		return nil, err
	}
	if _, err := r.ReadAt(footer[:], size-footerSize); err != nil {
		return nil, err
	}
	backward := (int64(binary.LittleEndian.Uint32(footer[4:])) + 1) * 4
	if string(footer[10:]) != "YZ" || !bytes.Equal(footer[8:10], x.header[6:8]) || backward > maxBlocks*20 || backward > size-headerSize-footerSize {
		return nil, errNotParallel
	}
	index := make([]byte, backward)
	if _, err := r.ReadAt(index, size-footerSize-backward); err != nil {
		return nil, err
	}
	end, err := x.parse(index)
	if err != nil || end != size-footerSize-backward {
		return nil, errNotParallel
	}
	return x, nil
}

// parse returns where the blocks end, section 4.
func (x *xzIndex) parse(index []byte) (end int64, err error) {
	end = headerSize
	rest := index[1:]
	count, n := binary.Uvarint(rest)
	if index[0] != 0 || n <= 0 || count > maxBlocks {
		return 0, errNotParallel
	}
	rest = rest[n:]
	for range count {
		unpadded, n := binary.Uvarint(rest)
		if n <= 0 {
			return 0, errNotParallel
		}
		plain, m := binary.Uvarint(rest[n:])
		if m <= 0 || unpadded == 0 || unpadded > 1<<40 || plain > 1<<40 {
			return 0, errNotParallel
		}
		rest = rest[n+m:]
		b := block{end, int64(unpadded), int64(plain)}
		x.blocks = append(x.blocks, b)
		end += b.padded()
	}
	return end, nil
}

// workers says how many blocks to decompress at once: one more is held while it is read.
func (x *xzIndex) workers() int {
	largest := int64(1)
	for _, b := range x.blocks {
		largest = max(largest, b.plain)
	}
	return min(runtime.GOMAXPROCS(0), len(x.blocks), int(maxMemory/largest)-1)
}

// stream makes a whole xz file of one block.
func (x *xzIndex) stream(r io.ReaderAt, b block) io.Reader {
	index := []byte{0, 1}
	index = binary.AppendUvarint(index, uint64(b.unpadded))
	index = binary.AppendUvarint(index, uint64(b.plain))
	for len(index)%4 != 0 {
		index = append(index, 0)
	}
	index = binary.LittleEndian.AppendUint32(index, crc32.ChecksumIEEE(index))
	tail := binary.LittleEndian.AppendUint32(nil, uint32(len(index)/4-1))
	tail = append(tail, x.header[6:8]...)
	footer := binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(tail))
	footer = append(append(footer, tail...), "YZ"...)
	return io.MultiReader(bytes.NewReader(x.header[:]), io.NewSectionReader(r, b.off, b.padded()), bytes.NewReader(slices.Concat(index, footer)))
}

func (x *xzIndex) decode(r io.ReaderAt, b block) ([]byte, error) {
	in, err := Reader(x.stream(r, b), XZ)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, b.plain)
	if _, err := io.ReadFull(in, plain); err != nil {
		return nil, fmt.Errorf("block at %d: %w", b.off, err)
	}
	// The library compares check and sizes when it meets the end.
	if n, err := in.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		return nil, fmt.Errorf("block at %d: longer than the index says, or: %w", b.off, err)
	}
	return plain, nil
}

// result is one decoded block.
type result struct {
	plain []byte
	err   error
}

// parallel reads decoded blocks in order. The order of the queue is that of
// the file, so the output never depends on the number of workers.
type parallel struct {
	queue chan chan result
	stop  chan struct{}
	now   []byte
	err   error
}

func newParallel(r io.ReaderAt, x *xzIndex, workers int) *parallel {
	p := &parallel{queue: make(chan chan result, workers-1), stop: make(chan struct{})}
	go func() {
		defer close(p.queue)
		for _, b := range x.blocks {
			one := make(chan result, 1)
			select {
			case p.queue <- one: // blocks while workers results wait to be read
			case <-p.stop:
				return
			}
			go func() {
				plain, err := x.decode(r, b)
				one <- result{plain, err}
			}()
		}
	}()
	return p
}

// Read implements io.Reader.
func (p *parallel) Read(b []byte) (int, error) {
	for len(p.now) == 0 {
		if p.err != nil {
			return 0, p.err
		}
		one, ok := <-p.queue
		if !ok {
			p.err = io.EOF
			continue
		}
		next := <-one
		p.now, p.err = next.plain, next.err
	}
	n := copy(b, p.now)
	p.now = p.now[n:]
	return n, nil
}

// Close stops decoding; blocks that are being decoded are finished and dropped.
func (p *parallel) Close() error {
	select {
	case <-p.stop:
	default:
		close(p.stop)
	}
	p.now, p.err = nil, io.ErrClosedPipe
	return nil
}
