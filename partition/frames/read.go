package frames

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/ingot-os/ingot/partition/blocks"
)

// ErrNoTable is wrapped by the error of Open for a file that does not end in a
// table of frames: another kind of zstd file, or one that was cut.
var ErrNoTable = errors.New("no table of frames at the end")

// ErrDamaged is wrapped by the error of ReadAt for a frame that does not
// decompress to what it was.
var ErrDamaged = errors.New("the frame is damaged")

// Options say how to read.
type Options struct {
	Workers int // that decompress ahead; 0 = one per processor, at most 8
	// Check, if not nil, sees every frame that is decompressed before anybody
	// gets a byte of it; off is its place on the disk. It runs on several
	// goroutines.
	Check func(off int64, frame []byte) error
}

// Image is an open file. It may be read by several goroutines; it is made for
// reading from one end to the other. It keeps Workers+1 frames in memory.
type Image struct {
	r       io.ReaderAt
	o       Options
	size    int64   // of the disk
	frame   int64   // bytes of the disk in each frame but the last
	offsets []int64 // of the frames in the file, and the end of the last
	decoder *zstd.Decoder
	empty   []byte // a whole frame of zeros, as Write writes it

	mu   sync.Mutex
	open map[int64]*future
}

// future is a frame that is being decompressed.
type future struct {
	done chan struct{}
	data []byte
	err  error
}

// maxFrame bounds a frame, in bytes of the disk.
const maxFrame = 16 << 20

// maxWorkers bounds the memory on machines with many processors: no medium
// keeps up with more.
const maxWorkers = 8

// Open reads the table of a file of size bytes. Its frames must be of one size,
// at most 16 MiB, the last one excepted.
func Open(r io.ReaderAt, size int64, o Options) (*Image, error) {
	if o.Workers <= 0 {
		o.Workers = min(runtime.GOMAXPROCS(0), maxWorkers)
	}
	m := &Image{r: r, o: o, open: map[int64]*future{}}
	if err := m.readTable(size); err != nil {
		return nil, fmt.Errorf("open zstd frames: %w", err)
	}
	var err error
	if m.decoder, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(o.Workers), zstd.WithDecoderMaxMemory(maxFrame)); err != nil {
		return nil, fmt.Errorf("open zstd frames: %w", err)
	}
	z, err := encoder()
	if err != nil {
		return nil, fmt.Errorf("open zstd frames: %w", err)
	}
	m.empty = z.EncodeAll(make([]byte, m.frame), nil)
	return m, nil
}

func (m *Image) readTable(size int64) error {
	foot := make([]byte, footerSize)
	if size < footerSize+8 {
		return ErrNoTable
	}
	if n, err := m.r.ReadAt(foot, size-footerSize); n < footerSize {
		return fmt.Errorf("footer: %w", err)
	}
	count := int64(binary.LittleEndian.Uint32(foot))
	if binary.LittleEndian.Uint32(foot[5:]) != seekable {
		return ErrNoTable
	}
	entry := int64(entrySize)
	if foot[4]&0x80 != 0 {
		entry += 4 // checksums, which are not looked at
	}
	whole := 8 + count*entry + footerSize
	if count == 0 || count > maxFrames || whole > size {
		return fmt.Errorf("offset %d: %d frames in a file of %d bytes", size-footerSize, count, size)
	}
	b := make([]byte, whole)
	if n, err := m.r.ReadAt(b, size-whole); n < len(b) {
		return fmt.Errorf("table: %w", err)
	}
	if binary.LittleEndian.Uint32(b) != skippable || int64(binary.LittleEndian.Uint32(b[4:])) != whole-8 {
		return fmt.Errorf("offset %d: the table is not in a skippable frame of its size", size-whole)
	}
	return m.layOut(b[8:], count, entry, size-whole)
}

// layOut turns sizes into offsets; the last frame ends where the table begins.
func (m *Image) layOut(b []byte, count, entry, end int64) error {
	m.offsets = make([]int64, count+1)
	for i := range count {
		packed, plain := int64(binary.LittleEndian.Uint32(b[i*entry:])), int64(binary.LittleEndian.Uint32(b[i*entry+4:]))
		if i == 0 {
			m.frame = plain
		}
		if plain == 0 || plain > maxFrame || plain > m.frame || plain < m.frame && i < count-1 {
			return fmt.Errorf("frame %d has %d bytes, the first has %d", i, plain, m.frame)
		}
		if packed > plain+plain/128+1024 {
			return fmt.Errorf("frame %d of %d bytes is compressed to %d", i, plain, packed)
		}
		m.offsets[i+1] = m.offsets[i] + packed
		m.size += plain
	}
	if m.offsets[count] != end {
		return fmt.Errorf("the frames end at offset %d, the table begins at %d", m.offsets[count], end)
	}
	return nil
}

// Size is the size of the disk in bytes.
func (m *Image) Size() int64 { return m.size }

// FrameSize is how much of the disk is in each frame but the last, in bytes.
func (m *Image) FrameSize() int64 { return m.frame }

// Frames is the number of frames.
func (m *Image) Frames() int64 { return int64(len(m.offsets) - 1) }

// Hole says whether the frame at off is known to be zeros without being
// decompressed, and where it ends on the disk. There is none where there is no
// disk.
func (m *Image) Hole(off int64) (hole bool, until int64) {
	if off < 0 || off >= m.size {
		return false, max(off, m.size)
	}
	i := off / m.frame
	until = min((i+1)*m.frame, m.size)
	if m.offsets[i+1]-m.offsets[i] != int64(len(m.empty)) || until-i*m.frame != m.frame {
		return false, until
	}
	b := make([]byte, len(m.empty))
	n, _ := m.r.ReadAt(b, m.offsets[i])
	return n == len(b) && bytes.Equal(b, m.empty), until
}

// ReadAt implements io.ReaderAt for the disk.
func (m *Image) ReadAt(b []byte, off int64) (int, error) {
	return blocks.ReadAt(b, off, m.size, m.frame, func(i, within int64, b []byte) error {
		f := m.get(i)
		<-f.done
		if f.err != nil {
			return fmt.Errorf("read zstd frame %d at offset %d: %w", i, m.offsets[i], f.err)
		}
		copy(b, f.data[within:])
		return nil
	})
}

// get asks for a frame and those behind it, and forgets all others.
func (m *Image) get(i int64) *future {
	last := min(i+int64(m.o.Workers), m.Frames()-1)
	m.mu.Lock()
	defer m.mu.Unlock()
	for k := range m.open {
		if k < i || k > last {
			delete(m.open, k)
		}
	}
	for k := i; k <= last; k++ {
		if m.open[k] == nil {
			f := &future{done: make(chan struct{})}
			m.open[k] = f
			go m.decompress(k, f)
		}
	}
	return m.open[i]
}

func (m *Image) decompress(i int64, f *future) {
	defer close(f.done)
	want := min(m.frame, m.size-i*m.frame)
	packed := make([]byte, m.offsets[i+1]-m.offsets[i])
	if n, err := m.r.ReadAt(packed, m.offsets[i]); n < len(packed) {
		f.err = err
		return
	}
	data, err := m.decoder.DecodeAll(packed, make([]byte, 0, want))
	switch {
	case err != nil:
		f.err = fmt.Errorf("%w: %v", ErrDamaged, err)
	case int64(len(data)) != want:
		f.err = fmt.Errorf("%w: %d bytes, the table says %d", ErrDamaged, len(data), want)
	case m.o.Check != nil:
		f.err = m.o.Check(i*m.frame, data)
	}
	f.data = data
}
