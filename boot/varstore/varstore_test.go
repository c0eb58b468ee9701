package varstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/partition/gpt"
)

var (
	vendorA = gpt.MustGUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
	vendorB = gpt.MustGUID("4a67b082-0a4c-41cf-b6c7-440b29bb8c4f")
)

// TestSizes holds the structs against the PI specification 1.7 volume 3 and
// EDK2's VariableFormat.h, which is packed.
func TestSizes(t *testing.T) {
	for name, c := range map[string]struct{ got, want int }{
		"volumeHeader":   {binary.Size(volumeHeader{}), 56},
		"storeHeader":    {binary.Size(storeHeader{}), 28},
		"variableHeader": {binary.Size(variableHeader{}), 60},
	} {
		if c.got != c.want {
			t.Errorf("%s is %d bytes, want %d", name, c.got, c.want)
		}
	}
}

// small is an image with room for size bytes of records, in bytes of its own.
func small(size int, records ...[]byte) []byte {
	b := blankArmVirt(1 << 20)[:72+storeHeaderSize]
	le.PutUint64(b[32:], uint64(72+storeHeaderSize+size))
	le.PutUint16(b[50:], 0)
	le.PutUint16(b[50:], -sum16(b[:72]))
	le.PutUint32(b[72+16:], uint32(storeHeaderSize+size))
	b = append(b, bytes.Repeat([]byte{0xff}, size)...)
	at := 72 + storeHeaderSize
	for _, r := range records {
		copy(b[at:], r)
		at = alignUp(at + len(r))
	}
	return append(b, "behind the volume"...)
}

// raw is one record with a state of the test's choice.
func raw(state byte, name, data string) []byte {
	v := Variable{Name: name, GUID: vendorA, Attributes: 7, Data: []byte(data)}
	b := record{v: v, name: encodeName(name)}.encode()
	b[2] = state
	return b
}

func mustOpen(t *testing.T, image []byte) *Store {
	t.Helper()
	s, err := Open(image)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestRecordBytes spells out one record.
func TestRecordBytes(t *testing.T) {
	want := []byte{0xaa, 0x55, 0x3f, 0, 7, 0, 0, 0}
	want = append(want, make([]byte, 8+16+4)...)             // MonotonicCount, TimeStamp, PubKeyIndex
	want = append(want, 6, 0, 0, 0, 3, 0, 0, 0)              // NameSize, DataSize
	want = append(want, vendorA[:]...)                       // VendorGuid
	want = append(want, 'A', 0, 'b', 0, 0, 0, 'x', 'y', 'z') // name and data
	if diff := cmp.Diff(want, raw(stateAdded, "Ab", "xyz")); diff != "" {
		t.Error(diff)
	}
}

func TestEdit(t *testing.T) {
	image := small(1024, raw(stateAdded, "Keep", "k"), raw(stateAdded, "Change", "old"), raw(stateAdded, "Remove", "r"))
	before := bytes.Clone(image)
	s := mustOpen(t, image)
	for _, v := range []Variable{
		{Name: "Change", GUID: vendorA, Attributes: 3, Data: []byte("new and longer")},
		{Name: "Change", GUID: vendorB, Attributes: 7, Data: []byte("another vendor's")},
		{Name: "Grüße", GUID: vendorB, Attributes: 7, Data: []byte{0}},
	} {
		if err := s.Set(v); err != nil {
			t.Fatal(err)
		}
	}
	if !s.Delete("Remove", vendorA) || s.Delete("Remove", vendorA) || s.Delete("Keep", vendorB) {
		t.Error("Delete does not say what it did")
	}
	want := []Variable{
		{"Keep", vendorA, 7, []byte("k")},
		{"Change", vendorA, 3, []byte("new and longer")},
		{"Change", vendorB, 7, []byte("another vendor's")},
		{"Grüße", vendorB, 7, []byte{0}},
	}
	out := s.Bytes()
	if diff := cmp.Diff(want, mustOpen(t, out).List()); diff != "" {
		t.Errorf("variables (-want +got):\n%s", diff)
	}
	if !bytes.Equal(image, before) {
		t.Error("the opened image was changed")
	}
	if len(out) != len(image) || !bytes.Equal(out[:s.start], image[:s.start]) || !bytes.Equal(out[s.end:], image[s.end:]) {
		t.Error("something outside of the records was changed")
	}
	if !bytes.Equal(out, mustOpen(t, out).Bytes()) {
		t.Error("an unchanged store is written back otherwise")
	}
	if v, ok := s.Get("Change", vendorB); !ok || string(v.Data) != "another vendor's" {
		t.Errorf("Get = %v, %v", v, ok)
	}
	if _, ok := s.Get("Nothing", vendorB); ok {
		t.Error("Get found what is not there")
	}
}

// TestKeepsHeaders keeps what Variable does not carry: the time stamp and
// counter by which firmware refuses replayed updates of keys.
func TestKeepsHeaders(t *testing.T) {
	r := raw(stateAdded, "db", "key")
	for i := 8; i < 36; i++ {
		r[i] = byte(i)
	}
	s := mustOpen(t, small(512, r))
	if err := s.Set(Variable{Name: "x", GUID: vendorB, Data: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if out := s.Bytes(); !bytes.Equal(out[s.start:s.start+len(r)], r) {
		t.Errorf("record is\n%x, was\n%x", out[s.start:s.start+len(r)], r)
	}
}

// TestStates reads stores as power cuts leave them.
func TestStates(t *testing.T) {
	const transition = stateAdded & stateInTransition
	half := raw(0x7f, "Half", "header only")
	bare := bytes.Repeat([]byte{0xff}, variableHeaderSize)
	copy(bare, []byte{0xaa, 0x55})
	for _, c := range []struct {
		name    string
		records [][]byte
		want    string
	}{
		{"deleted", [][]byte{raw(stateAdded&0xfd, "A", "1"), raw(stateAdded, "B", "2")}, "B=2 "},
		{"deleted in transition", [][]byte{raw(transition&0xfd, "A", "1"), raw(stateAdded, "A", "2")}, "A=2 "},
		{"replaced", [][]byte{raw(transition, "A", "1"), raw(stateAdded, "A", "2")}, "A=2 "},
		{"replacement not written", [][]byte{raw(transition, "A", "1")}, "A=1 "},
		{"replacement half written", [][]byte{raw(transition, "A", "1"), raw(0x7f, "A", "2")}, "A=1 "},
		{"header only", [][]byte{half, raw(stateAdded, "B", "2")}, "B=2 "},
		{"start of a header", [][]byte{bare, raw(stateAdded, "B", "2")}, "B=2 "},
	} {
		got := ""
		for _, v := range mustOpen(t, small(1024, c.records...)).List() {
			got += fmt.Sprintf("%s=%s ", v.Name, v.Data)
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestSetRefuses(t *testing.T) {
	s := mustOpen(t, small(3*alignUp(variableHeaderSize+4+1)))
	set := func(name, data string) error {
		return s.Set(Variable{Name: name, GUID: vendorA, Data: []byte(data)})
	}
	if set("", "x") == nil || set("x", "") == nil {
		t.Error("no error for an empty name or empty data")
	}
	for _, n := range []string{"a", "b", "c"} {
		if err := set(n, "1"); err != nil {
			t.Fatal(err)
		}
	}
	before := s.Bytes()
	if err := set("d", "1"); !errors.Is(err, ErrNoSpace) {
		t.Errorf("fourth variable: %v, want ErrNoSpace", err)
	}
	if err := set("a", "12345678"); !errors.Is(err, ErrNoSpace) {
		t.Errorf("longer variable: %v, want ErrNoSpace", err)
	}
	if !bytes.Equal(s.Bytes(), before) {
		t.Error("a refused Set changed the store")
	}
	if s.Delete("b", vendorA); set("d", "1") != nil {
		t.Error("no room after a Delete")
	}
}

// TestSetCopies changes the caller's bytes after Set.
func TestSetCopies(t *testing.T) {
	s, data := mustOpen(t, small(512)), []byte("one")
	if err := s.Set(Variable{Name: "x", GUID: vendorA, Data: data}); err != nil {
		t.Fatal(err)
	}
	data[0] = 'X'
	if v, _ := s.Get("x", vendorA); string(v.Data) != "one" {
		t.Errorf("variable is %q", v.Data)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, c := range []struct {
		name, field string
		damage      func([]byte) []byte
	}{
		{"empty", "EFI_FIRMWARE_VOLUME_HEADER", func(b []byte) []byte { return nil }},
		{"no volume", "Signature", func(b []byte) []byte { b[40] = 'x'; return b }},
		{"other volume", "FileSystemGuid", func(b []byte) []byte { b[16]++; return b }},
		{"volume behind the end", "FvLength", func(b []byte) []byte { b[39] = 1; return b }},
		{"header too short", "HeaderLength", func(b []byte) []byte { b[48] = 8; return b }},
		{"header too long", "HeaderLength", func(b []byte) []byte { b[49] = 0xff; return b }},
		{"checksum", "Checksum", func(b []byte) []byte { b[44]++; return b }},
		{"plain variables", "Signature", func(b []byte) []byte { copy(b[72:], plainStore[:]); return b }},
		{"other store", "Signature", func(b []byte) []byte { b[72]++; return b }},
		{"unhealthy", "Format, State", func(b []byte) []byte { b[72+21] = 0xff; return b }},
		{"store behind the end", "Size", func(b []byte) []byte { b[72+19] = 1; return b }},
		{"store of nothing", "Size", func(b []byte) []byte { copy(b[72+16:], []byte{0, 0, 0, 0}); return b }},
		{"record behind the end", "NameSize, DataSize", func(b []byte) []byte { b[100+43] = 0xff; return b }},
		{"one variable twice", "Name", func(b []byte) []byte { return small(512, raw(stateAdded, "A", "1"), raw(stateAdded, "A", "2")) }},
	} {
		_, err := Open(c.damage(small(512, raw(stateAdded, "A", "1"))))
		var fe *FormatError
		if !errors.As(err, &fe) || fe.Field != c.field {
			t.Errorf("%s: %v, want an error about %s", c.name, err, c.field)
		}
	}
}

// TestBlank opens the flash that Debian ships empty.
func TestBlank(t *testing.T) {
	for _, fillWith := range []byte{0, 0xff} {
		image := bytes.Repeat([]byte{fillWith}, 64<<20)
		s := mustOpen(t, image)
		if len(s.List()) != 0 {
			t.Errorf("variables in a blank image: %v", s.List())
		}
		out := s.Bytes()
		if len(out) != len(image) || !bytes.Equal(out[armVirtVolume:], image[armVirtVolume:]) {
			t.Error("bytes behind the volume were changed")
		}
		if diff := cmp.Diff(wantBlank, out[:100]); diff != "" {
			t.Errorf("headers (-firmware +ours):\n%s", diff)
		}
	}
}

// wantBlank is the first 100 bytes of Debian's AAVMF_VARS.snakeoil.fd
// (2022.11), which the firmware formatted.
var wantBlank = []byte("" +
	"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x8d\x2b\xf1\xff\x96\x76\x8b\x4c\xa9\x85\x27\x47\x07\x5b\x4f\x50" +
	"\x00\x00\x0c\x00\x00\x00\x00\x00_FVH\x36\x0e\x00\x00\x48\x00\xf8\xf8\x00\x00\x00\x02\x00\x01\x00\x00\x00\x00\x04\x00" +
	"\x00\x00\x00\x00\x00\x00\x00\x00\x78\x2c\xf3\xaa\x7b\x94\x9a\x43\xa1\x80\x2e\x14\x4e\xc3\x77\x92\xb8\xff\x03\x00\x5a\xfe\x00\x00\x00\x00\x00\x00")

// TestDebianImages reads the stores of Debian's firmware packages.
func TestDebianImages(t *testing.T) {
	for _, c := range []struct {
		pkg, path string
		has       string // a variable of vendor Global; "" for an empty store
	}{
		{"ovmf", "/usr/share/OVMF/OVMF_VARS_4M.fd", ""},
		{"ovmf", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd", "PK"},
		{"qemu-efi-aarch64", "/usr/share/AAVMF/AAVMF_VARS.fd", ""},
		{"qemu-efi-aarch64", "/usr/share/AAVMF/AAVMF_VARS.ms.fd", "PK"},
	} {
		image, err := os.ReadFile(c.path)
		if err != nil {
			oracle.Missing(t, "%v: install the package %s", err, c.pkg)
		}
		s := mustOpen(t, image)
		if c.has == "" {
			if len(s.List()) != 0 {
				t.Errorf("%s: %d variables, want none", c.path, len(s.List()))
			}
			continue
		}
		if _, ok := s.Get(c.has, vendorA); !ok || len(s.List()) < 10 {
			t.Errorf("%s: %d variables and no %s", c.path, len(s.List()), c.has)
		}
		if diff := cmp.Diff(s.List(), mustOpen(t, s.Bytes()).List()); diff != "" {
			t.Errorf("%s: written and read again (-first +second):\n%s", c.path, diff)
		}
	}
}

// FuzzOpen: what is read can be changed, written, and read again.
func FuzzOpen(f *testing.F) {
	f.Add(small(512))
	f.Add(small(512, raw(stateAdded, "A", "1"), raw(stateAdded&stateInTransition, "B", "2"), raw(0x7f, "C", "3")))
	f.Add(small(70, raw(stateAdded, "A", "1")))
	f.Fuzz(func(t *testing.T, image []byte) {
		if len(image) >= 72 {
			image = bytes.Clone(image)
			le.PutUint16(image[50:], 0)
			le.PutUint16(image[50:], -sum16(image[:72])) // so that damage gets past the checksum
		}
		s, err := Open(image)
		if err != nil {
			return
		}
		set := s.Set(Variable{Name: "Added", GUID: vendorB, Attributes: 7, Data: []byte("by the test")})
		if len(s.List()) > 1 {
			s.Delete(s.List()[0].Name, s.List()[0].GUID)
		}
		out := s.Bytes()
		if len(out) != len(image) {
			t.Fatalf("image of %d bytes became %d", len(image), len(out))
		}
		again, err := Open(out)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s.List(), again.List()); diff != "" {
			t.Errorf("set: %v; written and read again (-first +second):\n%s", set, diff)
		}
	})
}
