package pe_test

import (
	"bytes"
	"crypto/sha256"
	stdpe "debug/pe"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/boot/pe"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/partition/tree"
)

// newSections makes n sections of growing odd sizes.
func newSections(n int) (out []pe.Section) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		b := make([]byte, 1+i*777)
		for j := range b {
			b[j] = byte(r.Uint32())
		}
		out = append(out, pe.Section{Name: fmt.Sprintf(".s%d", i), Data: tree.Bytes(b)})
	}
	return out
}

func writePlan(t *testing.T, stub []byte, add []pe.Section) []byte {
	t.Helper()
	p, err := pe.AppendSections(stub, add)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if n, err := p.WriteTo(&b); err != nil || n != p.Size() || int64(b.Len()) != n {
		t.Fatalf("WriteTo = %d, %v, wrote %d; Size = %d", n, err, b.Len(), p.Size())
	}
	return b.Bytes()
}

// TestAppend puts sections behind stubs with and without room in the header
// and reads the result with the standard library and objdump.
func TestAppend(t *testing.T) {
	stubs := map[string][]byte{
		"synthetic":  buildStub(stubSpec{firstVMA: 0x2000}),
		"tight":      buildStub(stubSpec{firstVMA: 0x2000, headers: 0x200, fileAlign: 0x20}),
		"pe32":       buildStub(stubSpec{firstVMA: 0x2000, pe32: true}),
		"trailer":    buildStub(stubSpec{firstVMA: 0x2000, trailer: 12800}),
		"subpage":    buildStub(stubSpec{firstVMA: 0x2000, sectionAlign: 0x20}),
		"large page": buildStub(stubSpec{firstVMA: 0x10000, sectionAlign: 0x10000}),
		"debian":     debianStub(t),
	}
	for name, stub := range stubs {
		for _, n := range []int{1, 7, 8, 30} {
			t.Run(fmt.Sprintf("%s/%d", name, n), func(t *testing.T) {
				add := newSections(n)
				out := writePlan(t, stub, add)
				checkHeaders(t, stub, out)
				checkSections(t, stub, out, add)
				checkObjdump(t, out)
			})
		}
	}
}

// TestAppendOverNops takes a stub whose header is filled up with instructions.
func TestAppendOverNops(t *testing.T) {
	stub := buildStub(stubSpec{})
	nops := bytes.Repeat([]byte{0x1f, 0x20, 0x03, 0xd5}, (0x400-atTable-80)/4)
	copy(stub[atTable+80:], nops)
	out := writePlan(t, stub, newSections(3))
	checkSections(t, stub, out, newSections(3))
	if left := out[atTable+5*40 : 0x400]; !bytes.Equal(left, nops[:len(left)]) {
		t.Error("padding behind the section table changed")
	}
}

// checkHeaders compares what must be gone and what must be kept.
func checkHeaders(t *testing.T, stub, out []byte) {
	t.Helper()
	old, f := mustParse(t, stub), mustParse(t, out)
	if f.TimeDateStamp != 0 || f.CheckSum != 0 || f.Signed() || len(out)%8 != 0 {
		t.Errorf("time %#x, checksum %#x, signed %v, %d bytes", f.TimeDateStamp, f.CheckSum, f.Signed(), len(out))
	}
	coff := out[le.Uint32(out[0x3c:])+4:]
	if le.Uint32(coff[8:]) != 0 || le.Uint32(coff[12:]) != 0 {
		t.Errorf("symbol table %#x, %d symbols", le.Uint32(coff[8:]), le.Uint32(coff[12:]))
	}
	if f.Machine != old.Machine || f.EntryPoint != old.EntryPoint || f.ImageBase != old.ImageBase || f.Subsystem != old.Subsystem {
		t.Errorf("header %+v does not agree with the stub's %+v", f, old)
	}
	last := f.Sections[len(f.Sections)-1]
	if end := uint64(last.VirtualAddress) + uint64(last.VirtualSize); uint64(f.SizeOfImage) < end || f.SizeOfImage%f.SectionAlignment != 0 {
		t.Errorf("SizeOfImage %#x, last section ends at %#x, alignment %#x", f.SizeOfImage, end, f.SectionAlignment)
	}
	if f.SizeOfHeaders%f.FileAlignment != 0 {
		t.Errorf("SizeOfHeaders %#x is not a multiple of %#x", f.SizeOfHeaders, f.FileAlignment)
	}
}

func checkSections(t *testing.T, stub, out []byte, add []pe.Section) {
	t.Helper()
	old, err := stdpe.NewFile(bytes.NewReader(stub))
	if err != nil {
		t.Fatal(err)
	}
	got, err := stdpe.NewFile(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Sections) != len(old.Sections)+len(add) {
		t.Fatalf("%d sections, want %d", len(got.Sections), len(old.Sections)+len(add))
	}
	for i, s := range old.Sections {
		want, _ := s.Data()
		data, _ := got.Sections[i].Data()
		if g := got.Sections[i]; !bytes.Equal(data, want) || g.VirtualAddress != s.VirtualAddress || g.VirtualSize != s.VirtualSize || g.Characteristics != s.Characteristics {
			t.Errorf("stub's section %s changed", s.Name)
		}
	}
	f := mustParse(t, out)
	for i, want := range add {
		s := got.Sections[len(old.Sections)+i]
		data, err := s.Data()
		if err != nil || int64(s.VirtualSize) != want.Data.Size() || !bytes.Equal(data[:s.VirtualSize], want.Data.(tree.Bytes)) {
			t.Errorf("section %s: content differs, %v", s.Name, err)
		}
		if tail := data[s.VirtualSize:]; len(bytes.Trim(tail, "\x00")) != 0 {
			t.Errorf("section %s: padding is not zero", s.Name)
		}
		if s.Name != want.Name || s.VirtualAddress%4096 != 0 || s.VirtualAddress%f.SectionAlignment != 0 || s.Offset%f.FileAlignment != 0 || s.Characteristics != 0x40000040 {
			t.Errorf("section header %+v", s.SectionHeader)
		}
	}
}

// checkObjdump reads the section table with binutils.
func checkObjdump(t *testing.T, image []byte) {
	t.Helper()
	f := mustParse(t, image)
	if f.Magic == 0x10b {
		return // binutils takes PE32 for i386 only
	}
	path := filepath.Join(t.TempDir(), "image.efi")
	if err := os.WriteFile(path, image, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(oracle.Need(t, "binutils", "objdump"), "-h", path).CombinedOutput()
	if err != nil {
		t.Fatalf("objdump: %v\n%s", err, out)
	}
	var want []string
	for i, s := range f.Sections {
		want = append(want, fmt.Sprintf("%d %s %08x %016x %08x", i, s.Name, s.VirtualSize, f.ImageBase+uint64(s.VirtualAddress), s.Offset))
	}
	var got []string
	for _, line := range strings.Split(string(out), "\n") {
		if w := strings.Fields(line); len(w) == 7 && strings.HasPrefix(w[6], "2**") {
			got = append(got, fmt.Sprintf("%s %s %s %s %s", w[0], w[1], w[2], w[3], w[5]))
		}
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("objdump -h says\n%s\nwant\n%s", g, w)
	}
}

// TestAppendGolden holds the layout of one image as text: a change here
// changes every image that is built.
func TestAppendGolden(t *testing.T) {
	p, err := pe.AppendSections(buildStub(stubSpec{trailer: 99}), newSections(9))
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	if _, err := p.WriteTo(h); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, s := range p.Sections {
		fmt.Fprintf(&got, "%-9s %#06x+%#06x file %#06x+%#06x %#x\n", s.Name, s.VirtualAddress, s.VirtualSize, s.Offset, s.RawSize, s.Characteristics)
	}
	fmt.Fprintf(&got, "%d bytes, sha256 %x\n", p.Size(), h.Sum(nil))
	want, err := os.ReadFile("testdata/append.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("layout is\n%swant\n%s", got.String(), want)
	}
}

func TestAppendRefuses(t *testing.T) {
	one := []pe.Section{{Name: ".x", Data: tree.Bytes("x")}}
	for _, c := range []struct {
		name, want string
		stub       []byte
		add        []pe.Section
	}{
		{"no stub", "e_magic", nil, one},
		{"long name", "1 to 8 bytes", buildStub(stubSpec{}), []pe.Section{{Name: ".ninechar", Data: tree.Bytes("x")}}},
		{"empty section", "0 bytes", buildStub(stubSpec{}), []pe.Section{{Name: ".x", Data: tree.Bytes("")}}},
		{"huge section", "not within", buildStub(stubSpec{}), []pe.Section{{Name: ".x", Data: sized{n: 1 << 40}}}},
		{"image of 4 GiB", "4 GiB", buildStub(stubSpec{}), []pe.Section{{Name: ".x", Data: sized{n: 1<<31 - 1}}, {Name: ".y", Data: sized{n: 1<<31 - 1}}}},
		{"too many", "96", buildStub(stubSpec{}), newSections(96)},
		{"string table", "string table", buildStub(stubSpec{sections: []string{"/4"}}), one},
		{"used header", "in use", func() []byte { b := buildStub(stubSpec{}); b[atTable+80] = 1; return b }(), one},
		{"no room before the first section", "leaves no room", buildStub(stubSpec{firstVMA: 0x400, sectionAlign: 0x20}), newSections(30)},
		{"debug directory", "Debug", func() []byte { b := buildStub(stubSpec{firstVMA: 0x2000}); b[atOptional+112+6*8+4] = 1; return b }(), newSections(30)},
	} {
		_, err := pe.AppendSections(c.stub, c.add)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
}

// sized is a blob whose content is as long as actual, whatever it says.
type sized struct{ n, actual int64 }

func (s sized) Size() int64 { return s.n }
func (s sized) Open() (io.ReadCloser, error) {
	return io.NopCloser(io.LimitReader(endless{}, s.actual)), nil
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

// TestWriteLies gives content of another length than was planned.
func TestWriteLies(t *testing.T) {
	for _, c := range []struct {
		blob sized
		want string
	}{
		{sized{100, 99}, `section ".x": content ends after 99 of 100 bytes`},
		{sized{100, 101}, `section ".x": content is longer than 100 bytes`},
	} {
		p, err := pe.AppendSections(buildStub(stubSpec{}), []pe.Section{{Name: ".x", Data: c.blob}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.WriteTo(io.Discard); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
}

var errFull = errors.New("disk full")

// limited fails once n bytes are written.
type limited struct{ n int }

func (l *limited) Write(b []byte) (int, error) {
	k := min(len(b), l.n)
	l.n -= k
	if k < len(b) {
		return k, errFull
	}
	return k, nil
}

// TestWriteFails fills the disk at many places; the count says how far it got.
func TestWriteFails(t *testing.T) {
	p, err := pe.AppendSections(buildStub(stubSpec{}), newSections(3))
	if err != nil {
		t.Fatal(err)
	}
	for n := int64(0); n < p.Size(); n += 97 {
		got, err := p.WriteTo(&limited{int(n)})
		if !errors.Is(err, errFull) || got != n {
			t.Fatalf("room for %d bytes: wrote %d, %v", n, got, err)
		}
	}
}

// TestPlanIsBlob reads a plan as a file, twice, and closes it half read.
func TestPlanIsBlob(t *testing.T) {
	stub, add := buildStub(stubSpec{}), newSections(5)
	want := writePlan(t, stub, add)
	p, err := pe.AppendSections(stub, add)
	if err != nil {
		t.Fatal(err)
	}
	var blob tree.Blob = p
	for range 2 {
		r, err := blob.Open()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("blob of %d bytes differs from WriteTo, %v", len(got), err)
		}
		r.Close()
	}
	r, _ := blob.Open()
	io.CopyN(io.Discard, r, 10)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}
