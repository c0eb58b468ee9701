package pe_test

import (
	"bytes"
	stdpe "debug/pe"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ingot-os/ingot/boot/pe"
)

// TestParse compares with the standard library's reader.
func TestParse(t *testing.T) {
	images := map[string][]byte{
		"synthetic": buildStub(stubSpec{}),
		"pe32":      buildStub(stubSpec{pe32: true}),
		"trailer":   buildStub(stubSpec{trailer: 777}),
		"debian":    debianStub(t),
	}
	for name, b := range images {
		t.Run(name, func(t *testing.T) {
			got := mustParse(t, b)
			want, err := stdpe.NewFile(bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(fromStd(want, int64(len(b))), got, cmpopts.IgnoreUnexported(pe.File{})); diff != "" {
				t.Errorf("headers (-debug/pe +got):\n%s", diff)
			}
			for i, s := range got.Sections {
				data, err := io.ReadAll(s.Data(bytes.NewReader(b)))
				wantData, _ := want.Sections[i].Data()
				if err != nil || !bytes.Equal(data, wantData[:len(data)]) || int64(len(data)) != s.DataSize() {
					t.Errorf("%s: %d bytes differ from debug/pe, %v", s.Name, len(data), err)
				}
			}
		})
	}
}

func fromStd(f *stdpe.File, size int64) *pe.File {
	out := &pe.File{Size: size, Machine: f.Machine, TimeDateStamp: f.TimeDateStamp, Characteristics: f.Characteristics}
	var dirs []stdpe.DataDirectory
	switch o := f.OptionalHeader.(type) {
	case *stdpe.OptionalHeader64:
		out.Magic, out.EntryPoint, out.ImageBase = o.Magic, o.AddressOfEntryPoint, o.ImageBase
		out.SectionAlignment, out.FileAlignment, out.SizeOfImage = o.SectionAlignment, o.FileAlignment, o.SizeOfImage
		out.SizeOfHeaders, out.CheckSum, out.Subsystem = o.SizeOfHeaders, o.CheckSum, o.Subsystem
		dirs = o.DataDirectory[:o.NumberOfRvaAndSizes]
	case *stdpe.OptionalHeader32:
		out.Magic, out.EntryPoint, out.ImageBase = o.Magic, o.AddressOfEntryPoint, uint64(o.ImageBase)
		out.SectionAlignment, out.FileAlignment, out.SizeOfImage = o.SectionAlignment, o.FileAlignment, o.SizeOfImage
		out.SizeOfHeaders, out.CheckSum, out.Subsystem = o.SizeOfHeaders, o.CheckSum, o.Subsystem
		dirs = o.DataDirectory[:o.NumberOfRvaAndSizes]
	}
	for _, d := range dirs {
		out.Directories = append(out.Directories, pe.Directory(d))
	}
	for _, s := range f.Sections {
		out.Sections = append(out.Sections, pe.SectionHeader{Name: s.Name, VirtualAddress: s.VirtualAddress, VirtualSize: s.VirtualSize,
			Offset: s.Offset, RawSize: s.Size, Characteristics: s.Characteristics})
	}
	return out
}

// Offsets in the first section header of a synthetic stub.
const (
	atTable    = atOptional + 240
	atSecond   = atTable + 40
	secVSize   = 8
	secVMA     = 12
	secRawSize = 16
	secOffset  = 20
)

// TestParseRefuses damages one field at a time.
func TestParseRefuses(t *testing.T) {
	put := func(off int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte { le.PutUint32(b[off:], v); return b }
	}
	put16 := func(off int, v uint16) func([]byte) []byte {
		return func(b []byte) []byte { le.PutUint16(b[off:], v); return b }
	}
	for _, c := range []struct {
		name, field string
		damage      func([]byte) []byte
	}{
		{"empty", "e_magic", func(b []byte) []byte { return nil }},
		{"no MZ", "e_magic", put16(0, 0x1234)},
		{"header far away", "e_lfanew", put(0x3c, 0xfffffff0)},
		{"header in the DOS header", "e_lfanew", put(0x3c, 4)},
		{"no PE", "Signature", put(0x40, 0)},
		{"no sections", "NumberOfSections", put16(atCOFF+2, 0)},
		{"many sections", "NumberOfSections", put16(atCOFF+2, 0xffff)},
		{"unknown magic", "Magic", put16(atOptional, 0x107)},
		{"small optional header", "SizeOfOptionalHeader", put16(atCOFF+16, 100)},
		{"large optional header", "SizeOfHeaders", put16(atCOFF+16, 0x380)},
		{"section alignment", "SectionAlignment", put(atOptional+32, 3)},
		{"file alignment", "FileAlignment", put(atOptional+36, 0)},
		{"file alignment above 64 KiB", "FileAlignment", put(atOptional+36, 1<<30)},
		{"headers larger than the file", "SizeOfHeaders", put(atOptional+60, 1<<30)},
		{"directories", "NumberOfRvaAndSizes", put(atOptional+108, 17)},
		{"name with a tail", "Name", put(atTable+4, 0x41004100)},
		{"data in the headers", "PointerToRawData", put(atTable+secOffset, 0x10)},
		{"data behind the end", "SizeOfRawData", put(atTable+secRawSize, 0xffffff00)},
		{"address in the headers", "VirtualAddress", put(atTable+secVMA, 0)},
		{"address behind the image", "VirtualSize", put(atTable+secVSize, 0xffffffff)},
		{"data of two sections", "PointerToRawData", put(atSecond+secOffset, 0x500)},
		{"addresses of two sections", "VirtualAddress", put(atSecond+secVMA, 0x1100)},
		{"certificates behind the end", "Certificate Table", func(b []byte) []byte {
			le.PutUint32(b[atOptional+144:], uint32(len(b)))
			le.PutUint32(b[atOptional+148:], 8)
			return b
		}},
		{"certificates in the headers", "Certificate Table", put(atOptional+148, 8)},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := c.damage(buildStub(stubSpec{}))
			_, err := pe.Parse(bytes.NewReader(b), int64(len(b)))
			var fe *pe.FormatError
			if !errors.As(err, &fe) || fe.Field != c.field {
				t.Fatalf("error %v, want one about %s", err, c.field)
			}
		})
	}
}

// TestParseTruncated cuts an image everywhere in its headers and at its end.
func TestParseTruncated(t *testing.T) {
	b := buildStub(stubSpec{})
	for n := range b {
		if _, err := pe.Parse(bytes.NewReader(b[:n]), int64(n)); err == nil {
			t.Fatalf("an image of %d of %d bytes was read", n, len(b))
		}
		if _, err := pe.Parse(bytes.NewReader(b[:n]), int64(len(b))); err == nil {
			t.Fatalf("a reader of %d of %d bytes was read", n, len(b))
		}
		if n == 0x400 {
			break
		}
	}
}

func TestCheckUKI(t *testing.T) {
	for _, c := range []struct {
		sections []string
		want     string
	}{
		{[]string{".text", ".linux"}, ""},
		{[]string{".text"}, "no .linux"},
		{[]string{".linux", ".cmdline", ".cmdline"}, `second section named ".cmdline"`},
		{[]string{".linux", ".profile"}, "profiles"},
	} {
		err := mustParse(t, buildStub(stubSpec{sections: c.sections})).CheckUKI()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q: %v, want %q", c.sections, err, c.want)
		}
	}
	b := buildStub(stubSpec{sections: []string{".linux"}})
	b[atOptional+68] = 3
	if err := mustParse(t, b).CheckUKI(); err == nil || !strings.Contains(err.Error(), "EFI application") {
		t.Errorf("a console program: %v", err)
	}
}
