package initramfs

import (
	"bufio"
	"fmt"
	"io"
	"time"

	"github.com/cavaliergopher/cpio"
)

const (
	headerSize = 110 // newc header: 6 bytes of magic and 13 fields of 8 hex digits
	align      = 4   // header with name, and content, are padded to 4 bytes
)

func padded(n int64) int64 { return (n + align - 1) &^ (align - 1) }

func (e *entry) encodedSize() int64 {
	return padded(headerSize+int64(len(e.node.Path))+1) + padded(e.size)
}

// archiveSize is the length of one archive with its trailer.
func archiveSize(entries []entry) int64 {
	n := padded(headerSize + int64(len(trailer)) + 1)
	for i := range entries {
		n += entries[i].encodedSize()
	}
	return n
}

// writeArchive writes one complete archive.
func writeArchive(w io.Writer, entries []entry, epoch int64) error {
	buf := bufio.NewWriterSize(w, 1<<20)
	cw := cpio.NewWriter(buf)
	for i := range entries {
		if err := writeEntry(cw, &entries[i], epoch); err != nil {
			return fmt.Errorf("path %q: %w", entries[i].node.Path, err)
		}
	}
	if err := cw.Close(); err != nil {
		return err
	}
	return buf.Flush()
}

// writeEntry sets every field of the header: v1.0.1 of the library writes 0
// links for setuid files when Links is unset, and a single non-zero Checksum
// would switch the magic number of every later archive of the process.
func writeEntry(cw *cpio.Writer, e *entry, epoch int64) error {
	mode, err := posixMode(e.node.Mode)
	if err != nil {
		return err
	}
	err = cw.WriteHeader(&cpio.Header{
		Name: e.node.Path, Mode: cpio.FileMode(mode),
		Uid: int(e.node.UID), Guid: int(e.node.GID),
		Inode: int64(e.ino), Links: e.links,
		Size: e.size, ModTime: time.Unix(epoch, 0),
	})
	if err != nil || e.size == 0 {
		return err
	}
	return copyContent(cw, e)
}

func copyContent(w io.Writer, e *entry) error {
	if e.node.Target != "" {
		_, err := io.WriteString(w, e.node.Target)
		return err
	}
	r, err := e.from.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	n, err := io.Copy(w, io.LimitReader(r, e.size))
	if err != nil {
		return err
	}
	if n < e.size {
		return fmt.Errorf("%w: %d bytes of %d", errContent, n, e.size)
	}
	var one [1]byte
	if k, _ := io.ReadFull(r, one[:]); k > 0 {
		return fmt.Errorf("%w: more than %d bytes", errContent, e.size)
	}
	return nil
}
