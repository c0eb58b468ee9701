// Package initramfs writes and reads the archive that the kernel unpacks into
// its first root file system: newc cpio as the kernel documents it in
// Documentation/driver-api/early-userspace/buffer-format.rst.
//
// Plan takes segments (base, commands, modules, user files), checks that they
// fit together and lays the archive out; the Archive then streams as often as
// wanted. The same trees and epoch give the same bytes, whatever the number of
// workers.
//
//   - Uncompressed (the default): one archive over all segments, sorted by path.
//   - "zstd": every segment becomes one or more complete archives of its own,
//     each one zstd frame. The kernel refuses several frames inside one archive
//     ("junk at the end of compressed archive") but unpacks archive after
//     archive, and that is also what makes compression parallel.
//
// Limits, all checked by Plan: a file has at most 4 GiB - 1 bytes and a path at
// most 4095 (the kernel skips longer ones without a word); no device nodes,
// because cavaliergopher/cpio v1.0.1 writes device number 0:0 for all of them
// and devtmpfs makes the real ones; no sockets; no extended attributes, which
// newc cannot carry.
//
//	a, err := initramfs.Plan([]initramfs.Segment{{Name: "base", Tree: t}}, initramfs.Options{Epoch: epoch})
//	_, err = a.WriteTo(w)
package initramfs

import (
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/ingot-os/ingot/partition/tree"
)

// The values of Options.Compress.
const (
	None = "none"
	Zstd = "zstd"
)

// Segment is a named part of the initramfs. The name appears in errors only.
type Segment struct {
	Name string
	Tree *tree.Tree
}

// Options are the inputs of Plan that are not files.
type Options struct {
	Epoch    int64  // modification time of every entry, Unix seconds, 0 to 2^32-1
	Compress string // None (also when empty) or Zstd
	Workers  int    // goroutines that compress; 0 means one per CPU; never changes the bytes
}

func (o *Options) validate() error {
	if o.Epoch < 0 || o.Epoch > maxField {
		return fmt.Errorf("epoch %d is outside 0 to %d, the range of a newc time field", o.Epoch, int64(maxField))
	}
	switch o.Compress {
	case "":
		o.Compress = None
	case None, Zstd:
	default:
		return fmt.Errorf("unknown compression %q: want %q or %q", o.Compress, None, Zstd)
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	return nil
}

// Archive is a planned initramfs. It is safe for use by several goroutines.
type Archive struct {
	epoch    int64
	entries  []entry  // uncompressed form
	frames   [][]byte // compressed form, each padded to 4 bytes
	size     int64
	unpacked int64
}

// Plan checks the segments and lays out the archive. A path in two segments is
// an error that names both, except directories, of which the first one counts.
// A hard link and its target belong to one segment. With Zstd the contents are
// read and compressed here; otherwise only sizes are asked for.
func Plan(segments []Segment, o Options) (*Archive, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("plan initramfs: %w", err)
	}
	parts, err := collect(segments)
	if err != nil {
		return nil, fmt.Errorf("plan initramfs: %w", err)
	}
	number(parts)
	a := &Archive{epoch: o.Epoch}
	if o.Compress == None {
		a.entries = merge(parts)
		a.size = archiveSize(a.entries)
		a.unpacked = a.size
		return a, nil
	}
	if err := a.compress(parts, o.Workers); err != nil {
		return nil, fmt.Errorf("plan initramfs: %w", err)
	}
	return a, nil
}

// Size returns the length of the archive in bytes as WriteTo writes it.
func (a *Archive) Size() int64 { return a.size }

// Unpacked returns the length in bytes of all archives before compression: the
// memory that the kernel fills at boot, headers included.
func (a *Archive) Unpacked() int64 { return a.unpacked }

// WriteTo writes the archive. A file whose content is longer or shorter than
// its blob said is an error that names it.
func (a *Archive) WriteTo(w io.Writer) (int64, error) {
	c := &counter{w: w}
	var err error
	if a.frames == nil {
		err = writeArchive(c, a.entries, a.epoch)
	}
	for _, f := range a.frames {
		if err == nil {
			_, err = c.Write(f)
		}
	}
	if err == nil && c.n != a.size {
		err = fmt.Errorf("wrote %d bytes, planned %d", c.n, a.size)
	}
	if err != nil {
		return c.n, fmt.Errorf("write initramfs: %w", err)
	}
	return c.n, nil
}

// Blob returns the archive as file content. Reads stream: nothing but a
// buffer is held in memory for the uncompressed form.
func (a *Archive) Blob() tree.Blob { return blob{a} }

type blob struct{ a *Archive }

func (b blob) Size() int64 { return b.a.size }

func (b blob) Open() (io.ReadCloser, error) {
	r, w := io.Pipe()
	go func() {
		_, err := b.a.WriteTo(w)
		w.CloseWithError(err) // nil gives the reader io.EOF
	}()
	return r, nil
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// errContent reports a blob that does not hold what it announced.
var errContent = errors.New("content differs from its announced size")
