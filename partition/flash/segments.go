package flash

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	chunk    = 4 << 20  // bytes per read and write
	granule  = 64 << 10 // zeros are found in blocks of this size, in bytes
	zeroStep = 64 << 20 // bytes per zeroing call, so that progress moves and a cancel is heard
)

// aligned returns a buffer that O_DIRECT accepts: its address is a multiple of 4096.
func aligned(n int) []byte {
	b := make([]byte, n+4095)
	skip := -int(uintptr(unsafe.Pointer(&b[0]))) & 4095
	return b[skip : skip+n : skip+n]
}

// segments calls data and zeros for consecutive runs of the piece, with
// offsets on the device, until one fails or ctx is done. Holes of a source
// file are not read. The bytes are valid until the next call.
func segments(ctx context.Context, p piece, buf []byte, data func(off int64, b []byte) error, zeros func(off, n int64) error) error {
	for off := p.off; off < p.end(); {
		if err := ctx.Err(); err != nil {
			return err
		}
		hole, until, err := p.extent(off)
		if err != nil {
			return fmt.Errorf("read image at offset %d: %w", off, err)
		}
		if hole {
			n := min(until-off, zeroStep)
			if err := zeros(off, n); err != nil {
				return err
			}
			off += n
			continue
		}
		b := buf[:min(until-off, int64(len(buf)))]
		if n, err := p.src.ReadAt(b, p.srcOff+off-p.off); n < len(b) {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("read image at offset %d: %w", off, err)
		}
		if err := split(off, b, data, zeros); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return nil
}

// split divides a chunk into runs of data and of zeros.
func split(off int64, b []byte, data func(int64, []byte) error, zeros func(off, n int64) error) error {
	for len(b) > 0 {
		zero, n := isZero(b[:min(granule, len(b))]), 0
		for n < len(b) && isZero(b[n:min(n+granule, len(b))]) == zero {
			n = min(n+granule, len(b))
		}
		var err error
		if zero {
			err = zeros(off, int64(n))
		} else {
			err = data(off, b[:n])
		}
		if err != nil {
			return err
		}
		off, b = off+int64(n), b[n:]
	}
	return nil
}

var zeroGranule [granule]byte

func isZero(b []byte) bool { return bytes.Equal(b, zeroGranule[:len(b)]) }

// extent says whether the piece has a hole at off, and where that ends, on
// device offsets. A file system that cannot tell has no holes.
func (p piece) extent(off int64) (hole bool, until int64, err error) {
	if p.image == nil {
		return false, p.end(), nil
	}
	shift := p.off - p.srcOff
	if p.image.packed != nil {
		hole, until, err := p.image.hole(off - shift)
		return hole, min(until+shift, p.end()), err
	}
	hole, until = p.fileExtent(off, shift, int(p.image.file.Fd()))
	return hole, until, nil
}

func (p piece) fileExtent(off, shift int64, fd int) (hole bool, until int64) {
	next, err := unix.Seek(fd, off-shift, unix.SEEK_DATA)
	if err == unix.ENXIO { // nothing but a hole up to the end of the file
		return true, p.end()
	}
	if err != nil {
		return false, p.end()
	}
	// Holes end on 4096 at least; whole granules keep every write aligned for O_DIRECT.
	if next = (next + shift) / granule * granule; next > off {
		return true, min(next, p.end())
	}
	end, err := unix.Seek(fd, off-shift, unix.SEEK_HOLE)
	if err != nil {
		return false, p.end()
	}
	end = (end + shift + granule - 1) / granule * granule
	return false, min(max(end, off+granule), p.end())
}
