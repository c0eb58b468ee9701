package predict

import (
	"fmt"
	"hash"
	"io"
	"unicode/utf16"

	"github.com/ingot-os/ingot/attest/eventlog"
)

// extras are the sections that the stub puts into the initrd as files of
// .extra, in order.
var extras = []struct{ section, file string }{
	{".pcrsig", "tpm2-pcr-signature.json"},
	{".pcrpkey", "tpm2-pcr-public-key.pem"},
	{".osrel", "os-release"},
}

// part is one of the archives that the initrd is made of.
type part struct {
	section string // "" for what the stub packs
	size    int64
	write   func(io.Writer) error
}

type parts []part

// initrd lists what the stub makes the initrd of.
func (u *uki) initrd() (list parts, err error) {
	names := []string{".initrd"}
	if u.rules.microcode {
		names = []string{".ucode", ".initrd"}
	}
	for _, name := range names {
		if s := u.section(name); s != nil {
			list = append(list, part{name, int64(s.VirtualSize), u.content(s)})
		}
	}
	for _, x := range extras {
		s := u.section(x.section)
		if s == nil || x.section == ".osrel" && !u.rules.osRelease {
			continue
		}
		b, err := u.bytes(s)
		if err != nil {
			return nil, err
		}
		c := cpio(x.file, b)
		list = append(list, part{"", int64(len(c)), func(w io.Writer) error { _, err := w.Write(c); return err }})
	}
	return list, nil
}

// write gives the whole initrd: each part padded to 4 bytes. One part alone is
// handed over where it lies, as it is.
func (p parts) write(w io.Writer) error {
	if err := p[0].write(w); err != nil {
		return err
	}
	return p.writeRest(w)
}

// writeRest gives what follows the content of the first part.
func (p parts) writeRest(w io.Writer) error {
	for i, x := range p {
		if i > 0 {
			if err := x.write(w); err != nil {
				return err
			}
		}
		if pad := -x.size & 3; len(p) > 1 && pad > 0 {
			if _, err := w.Write(zeros[:pad]); err != nil {
				return err
			}
		}
	}
	return nil
}

// initrd measures the whole initrd. Where it begins with the section that is in
// PCR 11 as well, that one's hashes go on: nothing else is as large.
func (b *boot) initrd(list parts) error {
	const name = "Linux initrd"
	key := fmt.Sprint(9, name)
	if list[0].section == ".initrd" && b.known[key] == nil {
		if hashes := cloned(b.afterInitrd); hashes != nil {
			if err := hashAll(hashes, list.writeRest); err != nil {
				return fmt.Errorf("PCR 9, %s: %w", name, err)
			}
			b.known[key] = sums(b.banks, hashes)
		}
	}
	return b.add(9, eventlog.EventTag, name, list.write)
}

// cloned copies hashes in the middle of their work; nil where one cannot be.
func cloned(hashes []hash.Hash) []hash.Hash {
	var list []hash.Hash
	for _, h := range hashes {
		c, ok := h.(hash.Cloner)
		if !ok {
			return nil
		}
		copied, err := c.Clone()
		if err != nil {
			return nil
		}
		list = append(list, copied)
	}
	return list
}

// Modes in the stub's archives.
const (
	modeDir  = 0o040555
	modeFile = 0o100444
)

// cpio is the archive that the stub packs for one file of .extra: newc format,
// inodes from 1, no times, no owners.
func cpio(file string, data []byte) []byte {
	b := cpioHeader(nil, 1, modeDir, 0, ".extra")
	b = cpioHeader(b, 2, modeFile, len(data), ".extra/"+file)
	b = pad4(append(b, data...))
	return append(b, "070701"+
		"00000000"+"00000000"+"00000000"+"00000000"+ // inode, mode, owner, group
		"00000001"+"00000000"+"00000000"+ // links, time, size
		"00000000"+"00000000"+"00000000"+"00000000"+ // devices
		"0000000B"+"00000000"+ // length of the name, check
		"TRAILER!!!\x00\x00\x00\x00"...)
}

func cpioHeader(b []byte, inode, mode, size int, name string) []byte {
	b = fmt.Appendf(b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, len(name)+1, 0)
	return pad4(append(append(b, name...), 0))
}

// pad4 counts from the start of the archive, which is aligned itself.
func pad4(b []byte) []byte { return append(b, zeros[:-len(b)&3]...) }

// text16 is a text as EFI programs measure it: UTF-16 with its NUL.
func text16(s string) []byte {
	var b []byte
	for _, u := range append(utf16.Encode([]rune(s)), 0) {
		b = append(b, byte(u), byte(u>>8))
	}
	return b
}
