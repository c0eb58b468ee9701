package kmod

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// Bounds for hostile packages; the largest module of Debian 13 is amdgpu with
// about 32 MiB, and kernels are compressed with dictionaries of 1 or 2 MiB.
const (
	maxModule     = 256 << 20 // bytes of a decompressed module
	maxDictionary = 64 << 20
)

// read decompresses and parses the module.
func (m *module) read() (*content, error) {
	raw, err := m.decompress()
	if err != nil {
		return nil, fmt.Errorf("module %s: decompress: %w", m.path, err)
	}
	in, err := parseInfo(raw)
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", m.path, err)
	}
	return &content{raw, in}, nil
}

func (m *module) decompress() ([]byte, error) {
	f, err := m.node.Open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	packed, err := io.ReadAll(io.LimitReader(f, maxModule+1))
	if err != nil {
		return nil, err
	}
	if len(packed) > maxModule {
		return nil, fmt.Errorf("larger than %d bytes", maxModule)
	}
	switch path.Ext(m.node.Path) {
	case ".xz":
		return unxz(packed)
	case ".zst":
		return unzstd(packed)
	case ".gz":
		r, err := gzip.NewReader(bytes.NewReader(packed))
		if err != nil {
			return nil, err
		}
		return readBounded(r)
	}
	return packed, nil
}

func unxz(packed []byte) ([]byte, error) {
	if err := checkDictionary(packed); err != nil {
		return nil, err
	}
	// v0.5.15 of the library takes the end of the file for the end of the
	// stream when it comes between two blocks: ask for the footer's magic.
	if !bytes.HasSuffix(packed, []byte("YZ")) {
		return nil, errors.New("xz: the file ends before its footer")
	}
	r, err := xz.ReaderConfig{SingleStream: true}.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	return readBounded(r)
}

// checkDictionary reads the LZMA2 dictionary size out of the first block
// header, because the decoder reserves what the file asks for, up to 4 GiB
// (The .xz File Format 3.1 and 5.3.1: after the 12-byte stream header come
// header size, flags, two optional sizes, and the filter 0x21 with one byte).
func checkDictionary(b []byte) error {
	const header = 12
	if len(b) < header+12 {
		return errors.New("xz: shorter than its headers")
	}
	flags, i := b[header+1], header+2
	for _, present := range []byte{0x40, 0x80} { // variable-length integers: the high bit says that more follows
		for more := flags&present != 0; more && i < len(b)-3; i++ {
			more = b[i]&0x80 != 0
		}
	}
	if i+3 > len(b) || b[i] != 0x21 || b[i+1] != 1 {
		return fmt.Errorf("xz: offset %d: filter is not LZMA2 alone, the only one the kernel's modules use", i)
	}
	bits := int(b[i+2])
	if bits > 40 || uint64(2|bits&1)<<(bits/2+11) > maxDictionary {
		return fmt.Errorf("xz: offset %d: dictionary code %d is larger than %d bytes", i+2, bits, maxDictionary)
	}
	return nil
}

func unzstd(packed []byte) ([]byte, error) {
	d, err := zstd.NewReader(bytes.NewReader(packed), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxDictionary))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return readBounded(d)
}

func readBounded(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxModule+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxModule {
		return nil, fmt.Errorf("unpacks to more than %d bytes", maxModule)
	}
	return b, nil
}
