package erofs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	lib "github.com/erofs/go-erofs"

	"github.com/ingot-os/ingot/partition/tree"
)

const (
	blockSize     = 4096
	maxName       = 255
	maxPath       = 4095
	maxTarget     = 4095
	maxXattrValue = 1<<16 - 1
	maxXattrs     = 200 << 10 // the inode counts its attributes in units of 4 bytes with 16 bits
)

// Options are the inputs of a filesystem besides its tree.
type Options struct {
	Epoch     int64 // seconds since 1970 UTC, every time in the filesystem
	CopyLinks bool  // store hard links as copies instead of refusing them
}

// Write writes a filesystem to w from offset 0 on and returns its size in
// bytes, a multiple of 4096. Every byte up to there is written. After an error
// what w holds is of no use.
func Write(w io.WriterAt, t *tree.Tree, o Options) (int64, error) {
	if o.Epoch < 0 {
		return 0, fmt.Errorf("write erofs: epoch %d: before 1970", o.Epoch)
	}
	src, err := newSource(t, o)
	if err != nil {
		return 0, fmt.Errorf("write erofs: %w", err)
	}
	out := newSink(w)
	img := lib.Create(out, lib.WithBuildTime(uint64(o.Epoch), 0), lib.WithBlockSize(blockSize))
	if err := img.CopyFrom(src); err != nil {
		return 0, fmt.Errorf("write erofs: %w", err)
	}
	if err := errors.Join(img.Close(), out.buf.Flush()); err != nil {
		return 0, fmt.Errorf("write erofs: %w", err)
	}
	if err := out.pad(); err != nil {
		return 0, fmt.Errorf("write erofs: %w", err)
	}
	return out.end, nil
}

// check refuses what the library or the format would not keep.
func check(n *tree.Node) error {
	switch n.Mode.Type() {
	case 0, fs.ModeDir, fs.ModeSymlink, fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice, fs.ModeNamedPipe, fs.ModeSocket:
	default:
		return fmt.Errorf("mode %v is no file that erofs knows", n.Mode)
	}
	switch {
	case len(n.Path) > maxPath || len(path.Base(n.Path)) > maxName:
		return fmt.Errorf("a name ends at %d bytes and a path at %d", maxName, maxPath)
	case n.Mode&fs.ModeSymlink != 0 && (n.Target == "" || len(n.Target) > maxTarget):
		return fmt.Errorf("a link target of %d bytes, want 1 to %d", len(n.Target), maxTarget)
	}
	return checkXattrs(n.Xattrs)
}

func checkXattrs(set map[string][]byte) error {
	total := 0
	for name, value := range set {
		class, rest, _ := strings.Cut(name, ".")
		if class != "user" && class != "trusted" && class != "security" {
			return fmt.Errorf("extended attribute %q: want the class user, trusted or security", name)
		}
		if rest == "" || len(name) > maxName || len(value) > maxXattrValue {
			return fmt.Errorf("extended attribute %q: a name has up to %d bytes and a value up to %d", name, maxName, maxXattrValue)
		}
		total += len(rest) + len(value) + 8
	}
	if total > maxXattrs {
		return fmt.Errorf("extended attributes of %d bytes, want at most %d", total, maxXattrs)
	}
	return nil
}

// sink makes the library's many small writes few, and knows where they end.
type sink struct {
	at  *io.OffsetWriter
	buf *bufio.Writer
	pos int64
	end int64
}

func newSink(w io.WriterAt) *sink {
	at := io.NewOffsetWriter(w, 0)
	return &sink{at: at, buf: bufio.NewWriterSize(at, 256<<10)}
}

// Write implements io.Writer.
func (s *sink) Write(p []byte) (int, error) {
	n, err := s.buf.Write(p)
	s.pos += int64(n)
	s.end = max(s.end, s.pos)
	return n, err
}

// Seek implements io.Seeker; the library goes back to write the superblock.
func (s *sink) Seek(off int64, whence int) (int64, error) {
	if err := s.buf.Flush(); err != nil {
		return s.pos, err
	}
	var err error
	s.pos, err = s.at.Seek(off, whence)
	return s.pos, err
}

// pad fills the last block.
func (s *sink) pad() error {
	n := -s.end & (blockSize - 1)
	if _, err := s.at.WriteAt(make([]byte, n), s.end); err != nil {
		return err
	}
	s.end += n
	return nil
}
