package kmod

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/ingot-os/ingot/partition/tree"
)

// ko writes a module: an ELF object with .modinfo, and with the symbols that
// depmod goes by. It exports f_NAME and uses f_D for each d of depends.
func ko(name string, depends []string, modinfo ...string) []byte {
	info := "license=GPL\x00depends=" + strings.Join(depends, ",") + "\x00name=" + name + "\x00"
	for _, m := range modinfo {
		info += m + "\x00"
	}
	strtab, symtab := "\x00", make([]byte, 24)
	for _, d := range depends {
		sym := make([]byte, 24) // Elf64_Sym: undefined, global
		binary.LittleEndian.PutUint32(sym, uint32(len(strtab)))
		sym[4] = 0x10
		strtab += "f_" + normal(d) + "\x00"
		symtab = append(symtab, sym...)
	}
	type sec struct {
		name string
		kind uint32
		data []byte
		link uint32
		ent  uint64
	}
	secs := []sec{
		{},
		{".modinfo", 1, []byte(info), 0, 0},
		{"__ksymtab_strings", 1, []byte("f_" + normal(name) + "\x00"), 0, 0},
		{".strtab", 3, []byte(strtab), 0, 0},
		{".symtab", 2, symtab, 3, 24},
		{".shstrtab", 3, nil, 0, 0},
	}
	names := "\x00"
	offs := make([]uint32, len(secs))
	for i := range secs[1:] {
		offs[i+1] = uint32(len(names))
		names += secs[i+1].name + "\x00"
	}
	secs[5].data = []byte(names)
	b := make([]byte, ehdrSize)
	copy(b, "\x7fELF\x02\x01\x01")
	le := binary.LittleEndian
	table := []byte{}
	for i, s := range secs {
		h := make([]byte, shdrSize)
		le.PutUint32(h, offs[i])
		le.PutUint32(h[4:], s.kind)
		le.PutUint64(h[24:], uint64(len(b)))
		le.PutUint64(h[32:], uint64(len(s.data)))
		le.PutUint32(h[40:], s.link)
		le.PutUint64(h[48:], 1)
		le.PutUint64(h[56:], s.ent)
		b = append(b, s.data...)
		for len(b)%8 != 0 {
			b = append(b, 0)
		}
		table = append(table, h...)
	}
	le.PutUint16(b[16:], 1)  // ET_REL
	le.PutUint16(b[18:], 62) // EM_X86_64
	le.PutUint32(b[20:], 1)  // EV_CURRENT
	le.PutUint64(b[40:], uint64(len(b)))
	le.PutUint16(b[52:], ehdrSize)
	le.PutUint16(b[58:], shdrSize)
	le.PutUint16(b[60:], uint16(len(secs)))
	le.PutUint16(b[62:], 5)
	return append(b, table...)
}

func packXZ(t testing.TB, b []byte) []byte {
	var out bytes.Buffer
	w, err := xz.WriterConfig{CheckSum: xz.CRC32, DictCap: 1 << 20}.NewWriter(&out)
	if err == nil {
		_, err = w.Write(b)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func packZstd(t testing.TB, b []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(b, nil)
}

// dirTree is a directory as a tree; prefix is put before each path.
func dirTree(t testing.TB, dir, prefix string) *tree.Tree {
	t.Helper()
	out := &tree.Tree{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		info, err := d.Info()
		if err != nil {
			return err
		}
		return out.Add(tree.Node{Path: prefix + filepath.ToSlash(rel), Mode: 0o644, Content: diskFile{p, info.Size()}})
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

type diskFile struct {
	path string
	size int64
}

func (f diskFile) Size() int64                  { return f.size }
func (f diskFile) Open() (io.ReadCloser, error) { return os.Open(f.path) }

func packGzip(t testing.TB, b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
