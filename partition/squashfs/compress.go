package squashfs

import (
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// newEncoder makes an encoder for blocks of up to size bytes. The window is the
// block, because that is what the kernel gives its decoder; a checksum would
// only cost space, dm-verity does that better.
func newEncoder(level, size int) (*zstd.Encoder, error) {
	e, err := zstd.NewWriter(nil,
		zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)),
		zstd.WithEncoderCRC(false),
		zstd.WithWindowSize(size),
		zstd.WithSingleSegment(true),
		zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	return e, nil
}
