package initramfs

import (
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

// FormatError says where bytes stop being an initramfs.
type FormatError struct {
	Off   int64  // byte offset: in the file, or in the unpacked frame when Frame is set
	Frame int64  // byte offset of the zstd frame, or -1
	Field string // newc or zstd field
	Msg   string
}

// Error implements error.
func (e *FormatError) Error() string {
	if e.Frame >= 0 {
		return fmt.Sprintf("initramfs: zstd frame at %d: offset %d: %s: %s", e.Frame, e.Off, e.Field, e.Msg)
	}
	return fmt.Sprintf("initramfs: offset %d: %s: %s", e.Off, e.Field, e.Msg)
}

// fields are the numbers of a newc header in order (buffer-format.rst).
var fields = [13]string{
	"c_ino", "c_mode", "c_uid", "c_gid", "c_nlink", "c_mtime", "c_filesize",
	"c_maj", "c_min", "c_rmaj", "c_rmin", "c_namesize", "c_chksum",
}

type header struct {
	ino, mode, uid, gid, nlink, mtime, size uint32
	maj, min, rmaj, rmin, namesize, chksum  uint32

	name string
	data int64 // offset of the content
	next int64 // offset of the next header
}

// parser reads headers of one archive out of r.
type parser struct {
	r     io.ReaderAt
	size  int64
	frame int64 // for errors
}

func (p *parser) errorf(off int64, field, format string, args ...any) error {
	return &FormatError{Off: off, Frame: p.frame, Field: field, Msg: fmt.Sprintf(format, args...)}
}

// header parses the entry at off, which is a multiple of 4 from the archive's start.
func (p *parser) header(off int64) (*header, error) {
	var b [headerSize]byte
	if p.size-off < headerSize {
		return nil, p.errorf(off, "header", "%d bytes left of %d", p.size-off, headerSize)
	}
	if err := p.readAt(b[:], off); err != nil {
		return nil, err
	}
	if magic := string(b[:6]); magic != "070701" && magic != "070702" {
		return nil, p.errorf(off, "c_magic", "%q is not newc", magic)
	}
	h := &header{}
	for i, to := range []*uint32{&h.ino, &h.mode, &h.uid, &h.gid, &h.nlink, &h.mtime, &h.size, &h.maj, &h.min, &h.rmaj, &h.rmin, &h.namesize, &h.chksum} {
		v, ok := parseHex(b[6+8*i : 14+8*i])
		if !ok {
			return nil, p.errorf(off+6+8*int64(i), fields[i], "%q is not eight hex digits", b[6+8*i:14+8*i])
		}
		*to = v
	}
	return h, p.rest(h, off)
}

// rest reads the name and finds the content.
func (p *parser) rest(h *header, off int64) error {
	if h.namesize < 2 || h.namesize > maxPath+1 {
		return p.errorf(off+94, "c_namesize", "%d is outside 2 to %d", h.namesize, maxPath+1)
	}
	end := off + headerSize + int64(h.namesize)
	if end > p.size {
		return p.errorf(off+94, "c_namesize", "name ends at %d, the archive at %d", end, p.size)
	}
	name := make([]byte, h.namesize)
	if err := p.readAt(name, off+headerSize); err != nil {
		return err
	}
	h.name = string(name[:len(name)-1])
	if name[len(name)-1] != 0 || strings.ContainsRune(h.name, 0) {
		return p.errorf(off+headerSize, "name", "%q does not end at its NUL", name)
	}
	h.data = off + padded(headerSize+int64(h.namesize))
	h.next = h.data + padded(int64(h.size))
	if h.data+int64(h.size) > p.size {
		return p.errorf(off+54, "c_filesize", "%q ends at %d, the archive at %d", h.name, h.data+int64(h.size), p.size)
	}
	return nil
}

func (p *parser) readAt(b []byte, off int64) error {
	n, err := p.r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	return p.errorf(off, "read", "%v", err)
}

func parseHex(b []byte) (v uint32, ok bool) {
	for _, c := range b {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		v = v<<4 | uint32(c)
	}
	return v, true
}

// cleanName turns an archive name into a tree path as the kernel resolves it
// from the root: "./a", "/a" and "a/" are all "a".
func cleanName(name string) (string, bool) {
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", false
		}
	}
	p := path.Clean(strings.TrimLeft(name, "/"))
	return p, true
}

// fileMode is the inverse of posixMode, devices and sockets included.
func fileMode(mode uint32) (fs.FileMode, bool) {
	m := fs.FileMode(mode & 0o777)
	switch mode & 0o170000 {
	case 0o100000:
	case 0o040000:
		m |= fs.ModeDir
	case 0o120000:
		m |= fs.ModeSymlink
	case 0o010000:
		m |= fs.ModeNamedPipe
	case 0o020000:
		m |= fs.ModeDevice | fs.ModeCharDevice
	case 0o060000:
		m |= fs.ModeDevice
	case 0o140000:
		m |= fs.ModeSocket
	default:
		return 0, false
	}
	for posix, bit := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if mode&posix != 0 {
			m |= bit
		}
	}
	return m, true
}
