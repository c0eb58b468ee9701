package tree

import (
	"bytes"
	"io"
)

// Bytes is a Blob held in memory.
type Bytes []byte

// Size implements Blob.
func (b Bytes) Size() int64 { return int64(len(b)) }

// Open implements Blob.
func (b Bytes) Open() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }

// Section is a Blob that is N bytes at offset Off of a reader that outlives it.
type Section struct {
	R      io.ReaderAt
	Off, N int64
}

// Size implements Blob.
func (s Section) Size() int64 { return s.N }

// Open implements Blob.
func (s Section) Open() (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(s.R, s.Off, s.N)), nil
}
