// Package unpack decompresses gzip (RFC 1952), zstd (RFC 8878) and xz streams
// in bounded memory. Decompression is a stream; how much may come out of it is
// the caller's to limit.
package unpack

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

// Form is a compression format.
type Form string

// The forms, named as files end.
const (
	Plain Form = ""
	Gzip  Form = "gz"
	XZ    Form = "xz"
	Zstd  Form = "zst"
)

// maxWindow bounds the dictionary of a stream in bytes: 64 MiB is what xz -9
// uses, 128 MiB what zstd --ultra -22 --long=27 does.
const maxWindow = 128 << 20

var magics = []struct {
	form  Form
	magic []byte
}{
	{Gzip, []byte{0x1f, 0x8b}},
	{XZ, []byte("\xfd7zXZ\x00")},
	{Zstd, []byte{0x28, 0xb5, 0x2f, 0xfd}},
}

// Detect names the form of a stream by its first bytes.
func Detect(head []byte) Form {
	for _, m := range magics {
		if bytes.HasPrefix(head, m.magic) {
			return m.form
		}
	}
	return Plain
}

// Auto decompresses a stream of whichever form it is; see Reader.
func Auto(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	head, _ := b.Peek(8)
	return Reader(b, Detect(head))
}

// Reader decompresses a stream. Closing it frees memory and leaves r open.
func Reader(r io.Reader, form Form) (io.ReadCloser, error) {
	b, ok := r.(*bufio.Reader)
	if !ok {
		b = bufio.NewReaderSize(r, 64<<10)
	}
	switch form {
	case Plain:
		return io.NopCloser(b), nil
	case Gzip:
		return gzip.NewReader(b)
	case XZ:
		return newXZ(b)
	case Zstd:
		z, err := zstd.NewReader(b, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return nil, fmt.Errorf("decompress: form %q is not supported", form)
}

func newXZ(b *bufio.Reader) (io.ReadCloser, error) {
	if err := checkDictionary(b); err != nil {
		return nil, fmt.Errorf("decompress xz: %w", err)
	}
	t := &tail{r: b}
	z, err := xz.ReaderConfig{DictCap: lzma.MinDictCap}.NewReader(bufio.NewReaderSize(t, 64<<10))
	if err != nil {
		return nil, err
	}
	return io.NopCloser(&wholeXZ{z, t}), nil
}

// wholeXZ turns the end of the input into an error when it is not the end of a
// stream: the library (0.5.17) takes a file that is cut between two blocks for
// a whole one.
type wholeXZ struct {
	z io.Reader
	t *tail
}

func (w *wholeXZ) Read(p []byte) (int, error) {
	n, err := w.z.Read(p)
	if err == io.EOF && w.t.last != [2]byte{'Y', 'Z'} {
		err = fmt.Errorf("decompress xz: the footer is missing: %w", io.ErrUnexpectedEOF)
	}
	return n, err
}

// tail remembers the last two bytes that passed and are not stream padding,
// which is zeros.
type tail struct {
	r    io.Reader
	last [2]byte
}

func (t *tail) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	if end := bytes.TrimRight(p[:n], "\x00"); len(end) > 1 {
		copy(t.last[:], end[len(end)-2:])
	} else if len(end) == 1 {
		t.last = [2]byte{t.last[1], end[0]}
	}
	return n, err
}

// checkDictionary reads the dictionary size of the first block (the .xz file
// format, sections 3.1 and 5.3.1), because the library allocates whatever up to
// 4 GiB a stream asks for. Further blocks of one file are always written with
// the same filter settings; a crafted file can still differ there.
func checkDictionary(b *bufio.Reader) error {
	const streamHeader = 12
	h, _ := b.Peek(streamHeader + 2 + 2*binary.MaxVarintLen64 + 3)
	if len(h) < streamHeader+5 || h[streamHeader] == 0 {
		return nil // no block at all: the library says what is wrong
	}
	flags := h[streamHeader+1]
	rest := h[streamHeader+2:]
	for _, present := range []byte{0x40, 0x80} { // compressed and uncompressed size, as varints
		if flags&present != 0 {
			_, n := binary.Uvarint(rest)
			if n <= 0 {
				return errors.New("block header: malformed size")
			}
			rest = rest[n:]
		}
	}
	const lzma2 = 0x21
	if len(rest) < 3 || rest[0] != lzma2 || rest[1] != 1 {
		return nil // another filter: the library says that it has no such
	}
	n, err := lzma.DecodeDictCap(rest[2])
	if err != nil {
		return err
	}
	if n > maxWindow {
		return fmt.Errorf("dictionary of %d bytes, the limit is %d", n, maxWindow)
	}
	return nil
}
