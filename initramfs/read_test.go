package initramfs

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func TestHeaderSize(t *testing.T) {
	// buffer-format.rst: c_magic of 6 bytes and 13 fields of 8.
	if want := 6 + 13*8; headerSize != want || len(fields) != 13 {
		t.Errorf("header of %d bytes and %d fields, want %d and 13", headerSize, len(fields), want)
	}
}

func TestConcatenated(t *testing.T) {
	one := encode(t, []Segment{{"a", mk(t, file("a", "1"), file("b", "old"))}}, Options{})
	two := encode(t, []Segment{{"b", mk(t, file("b", "newer"), file("c", "3"))}}, Options{Compress: Zstd})
	raw := bytes.Join([][]byte{one, make([]byte, 512), two, make([]byte, 5000), one[:0]}, nil)
	got, info, err := Open(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	if len(info.Archives) != 2 || info.Archives[1].Offset != int64(len(one)+512) || info.Archives[1].Compress != Zstd {
		t.Errorf("archives %+v", info.Archives)
	}
	if n := got.Get("b"); n.Size() != 5 {
		t.Errorf("b has %d bytes: the later archive must win", n.Size())
	}
	if got.Get("a") == nil || got.Get("c") == nil {
		t.Error("a or c is missing")
	}
}

func TestReadRefuses(t *testing.T) {
	good := encode(t, []Segment{{"s", mk(t, file("a", "content"))}}, Options{})
	entry := bytes.Index(good, []byte("a\x00")) - headerSize
	edit := func(off int, s string) []byte {
		b := bytes.Clone(good)
		copy(b[off:], s)
		return b
	}
	enc, _ := zstd.NewWriter(nil)
	bomb := enc.EncodeAll(bytes.Repeat([]byte{0}, 1<<20), nil)
	for _, tt := range []struct {
		name  string
		in    []byte
		field string
		off   int64
	}{
		{"magic", edit(entry, "070707"), "c_magic", int64(entry)},
		{"hex", edit(entry+6, "0000000G"), "c_ino", int64(entry + 6)},
		{"name size 0", edit(entry+94, "00000000"), "c_namesize", int64(entry + 94)},
		{"name size huge", edit(entry+94, "FFFFFFFF"), "c_namesize", int64(entry + 94)},
		{"name past end", edit(entry+94, "00000FFF"), "c_namesize", int64(entry + 94)},
		{"file size", edit(entry+54, "FFFFFFFF"), "c_filesize", int64(entry + 54)},
		{"type", edit(entry+14, "0000F1A4"), "c_mode", int64(entry + 14)},
		{"NUL", edit(entry+headerSize, "\x00"), "name", int64(entry + headerSize)},
		{"cut", good[:len(good)-60], "header", int64(len(good) - 124)},
		{"unaligned", append([]byte{0}, good...), "c_magic", 1},
		{"gzip", []byte("\x1f\x8b\x08 and more"), "header", 0},
		{"zstd of zeros", bomb, "c_magic", 0},
		{"half a frame", bomb[:9], "Block_Header", 9},
	} {
		_, _, err := Read(bytes.NewReader(tt.in))
		var fe *FormatError
		if !errors.As(err, &fe) || fe.Field != tt.field {
			t.Errorf("%s: error %v, want field %s", tt.name, err, tt.field)
		} else if tt.name != "half a frame" && tt.name != "zstd of zeros" && fe.Off != tt.off {
			t.Errorf("%s: offset %d, want %d", tt.name, fe.Off, tt.off)
		}
	}
}

func TestNamesAreFromTheRoot(t *testing.T) {
	good := encode(t, []Segment{{"s", mk(t, file("aa/b", "1"))}}, Options{})
	abs := bytes.Replace(good, []byte("aa/b\x00"), []byte("/a/b\x00"), 1)
	got, _, err := Read(bytes.NewReader(abs))
	if err != nil || got.Get("a/b") == nil {
		t.Errorf("/a/b: %v", err)
	}
	_, _, err = Read(bytes.NewReader(bytes.Replace(good, []byte("aa/b\x00"), []byte("../b\x00"), 1)))
	if err == nil || !strings.Contains(err.Error(), "leaves the root") {
		t.Errorf("../b: %v", err)
	}
}
