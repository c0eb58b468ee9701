package efivar

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/partition/gpt"
)

var slotGUID = gpt.MustGUID("5b4a1c4e-9f0d-8c4e-9a51-0c2f4be5a002")

func exampleOption() LoadOption {
	return SlotEntry(HDPartition{Number: 2, Start: 0x40800, Size: 0x80000, GUID: slotGUID}, "EFI/BOOT/BOOTX64.EFI", "ingot A", nil)
}

// TestLoadOptionBytes spells out every byte of an option, by UEFI 2.10 sections
// 3.1.3, 10.3.5.1 and 10.3.5.4.
func TestLoadOptionBytes(t *testing.T) {
	want := strings.Join([]string{
		"01000000",                             // Attributes: active
		"5e00",                                 // FilePathListLength: 42 + 48 + 4
		"69006e0067006f00740020004100", "0000", // Description, NUL
		"0401", "2a00", // media, hard drive, 42 bytes
		"02000000",                             // PartitionNumber
		"0008040000000000", "0000080000000000", // PartitionStart, PartitionSize
		"4e1c4a5b0d9f4e8c9a510c2f4be5a002", // PartitionSignature, as the GUID is on disk
		"02", "02",                         // PartitionFormat GPT, SignatureType GUID
		"0404", "3000", // media, file path, 4 + 2*22 bytes
		"5c004500460049005c0042004f004f0054005c00",             // \EFI\BOOT\
		"42004f004f0054005800360034002e00450046004900", "0000", // BOOTX64.EFI, NUL
		"7fff0400", // end of the entire path
	}, "")
	got, err := exampleOption().MarshalBinary()
	if err != nil || hex.EncodeToString(got) != want {
		t.Errorf("option is\n%x, %v\nwant\n%s", got, err, want)
	}
}

// TestSizes holds node sizes against UEFI 2.10.
func TestSizes(t *testing.T) {
	hd, _ := DevicePath{HDPartition{}.Node()}.AppendBinary(nil)
	if want := hardDriveSize + nodeHeaderSize; len(hd) != want || le.Uint16(hd[2:]) != 42 {
		t.Errorf("hard drive path of %d bytes, node length %d; want %d and 42", len(hd), le.Uint16(hd[2:]), want)
	}
	o, _ := LoadOption{}.MarshalBinary()
	if len(o) != loadOptionHeaderSize+2 {
		t.Errorf("empty option of %d bytes, want %d", len(o), loadOptionHeaderSize+2)
	}
}

func TestLoadOptionRoundTrip(t *testing.T) {
	for _, o := range []LoadOption{
		{},
		exampleOption(),
		{Attributes: Active | Hidden, Description: "grüße 🧱", Paths: []DevicePath{nil, {FileNode(`\a`)}}, Optional: []byte{0, 1, 2}},
		{Paths: []DevicePath{{{Type: 3, SubType: 18, Data: []byte{9}}, {Type: 4, SubType: 1, Data: []byte("MBR, not decoded")}}}},
	} {
		b, err := o.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseLoadOption(b)
		if diff := cmp.Diff(o, got); err != nil || diff != "" {
			t.Errorf("%v: %v (-want +got):\n%s", o, err, diff)
		}
	}
}

// TestFirmwareOption reads Boot0001 of Debian's OVMF_VARS_4M.ms.fd (2022.11),
// which the firmware made for a hard disk.
func TestFirmwareOption(t *testing.T) {
	b, err := hex.DecodeString("010000002000" +
		"55004500460049002000510045004d005500200048004100520044004400490053004b00200051004d00300030003000300031002000" + "0000" +
		"02010c00d041030a00000000" + "01010600021f" + "03120a000000ffff0000" + "7fff0400" + "4eac0881119f594d850ee21a522c59b2")
	if err != nil {
		t.Fatal(err)
	}
	o, err := ParseLoadOption(b)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := o.String(), "UEFI QEMU HARDDISK QM00001  PciRoot(0x0)/Pci(0x1F,0x2)/Path(3,18,0000FFFF0000)"; got != want {
		t.Errorf("text %q, want %q", got, want)
	}
	if len(o.Optional) != 16 {
		t.Errorf("optional data of %d bytes, want 16", len(o.Optional))
	}
}

func TestSlotEntry(t *testing.T) {
	o := exampleOption()
	if got, want := o.String(), `ingot A HD(2,GPT,5B4A1C4E-9F0D-8C4E-9A51-0C2F4BE5A002,0x40800,0x80000)/\EFI\BOOT\BOOTX64.EFI`; got != want {
		t.Errorf("text\n%s\nwant\n%s", got, want)
	}
	hd, ok := o.Path().Partition()
	if want := (HDPartition{2, 0x40800, 0x80000, slotGUID}); !ok || hd != want {
		t.Errorf("partition %+v, %v; want %+v", hd, ok, want)
	}
	if got := o.Path().File(); got != `\EFI\BOOT\BOOTX64.EFI` {
		t.Errorf("file %q", got)
	}
	o.Attributes = 0
	if !strings.HasSuffix(o.String(), "(inactive)") {
		t.Errorf("text of an inactive option: %q", o)
	}
}

func TestParseRefuses(t *testing.T) {
	good, err := exampleOption().MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	change := func(off int, v ...byte) []byte {
		b := bytes.Clone(good)
		copy(b[off:], v)
		return b
	}
	const path = loadOptionHeaderSize + 16
	for _, c := range []struct {
		name, field string
		b           []byte
	}{
		{"short", "EFI_LOAD_OPTION", good[:5]},
		{"endless title", "Description", good[:12]},
		{"list behind the end", "FilePathListLength", good[:len(good)-1]},
		{"node behind the end", "FilePathList: Length", change(path+2, 0xff, 0xff)},
		{"node of no length", "FilePathList: Length", change(path+2, 0, 0)},
		{"no end node", "FilePathList: device path node", change(len(good)-4, 4, 4)},
	} {
		_, err := ParseLoadOption(c.b)
		var fe *FormatError
		if !errors.As(err, &fe) || fe.Field != c.field {
			t.Errorf("%s: %v, want an error about %s", c.name, err, c.field)
		}
	}
	for n := range good {
		if _, err := ParseLoadOption(good[:n]); err == nil {
			t.Errorf("an option cut at %d of %d bytes was read", n, len(good))
		}
	}
}

func TestMarshalRefuses(t *testing.T) {
	long := LoadOption{Description: "x", Paths: []DevicePath{{{Type: 1, Data: make([]byte, 0xffff)}}}}
	list := LoadOption{Description: "x", Paths: []DevicePath{{{Data: make([]byte, 0x9000)}, {Data: make([]byte, 0x9000)}}}}
	for _, o := range []LoadOption{long, list} {
		if _, err := o.MarshalBinary(); err == nil {
			t.Error("an option too long for its length fields was written")
		}
	}
}

func TestNumbers(t *testing.T) {
	if got := BootName(0x1a); got != "Boot001A" {
		t.Errorf("BootName = %s", got)
	}
	for s, want := range map[string]int{"Boot001A": 0x1a, "BootFFFF": 0xffff, "Boot001a": -1, "BootOrder": -1, "Boot12345": -1, "boot0001": -1, "Boot+001": -1, "BootNext": -1} {
		n, ok := ParseBootName(s)
		if ok != (want >= 0) || ok && int(n) != want {
			t.Errorf("ParseBootName(%s) = %#x, %v", s, n, ok)
		}
	}
	b := MarshalOrder(1, 0x1234)
	if got, err := ParseOrder(b); err != nil || fmt.Sprint(got) != "[1 4660]" || hex.EncodeToString(b) != "01003412" {
		t.Errorf("order %x = %v, %v", b, got, err)
	}
	if n, err := ParseNumber([]byte{0x34, 0x12}); n != 0x1234 || err != nil {
		t.Errorf("number = %#x, %v", n, err)
	}
	if _, err := ParseOrder([]byte{1}); err == nil {
		t.Error("half a number in BootOrder: no error")
	}
	if _, err := ParseNumber(nil); err == nil {
		t.Error("empty BootNext: no error")
	}
}

func TestFile(t *testing.T) {
	name := FileName("BootOrder", Global)
	if name != "BootOrder-8be4df61-93ca-11d2-aa0d-00e098032b8c" {
		t.Errorf("file name %s", name)
	}
	if n, g, err := ParseFileName("A-B-" + Loader.String()); n != "A-B" || g != Loader || err != nil {
		t.Errorf("parsed %s, %v, %v", n, g, err)
	}
	for _, s := range []string{"", "BootOrder", "-" + Global.String(), "x" + Global.String(), "x-" + strings.Repeat("z", 36)} {
		if _, _, err := ParseFileName(s); err == nil {
			t.Errorf("file name %q: no error", s)
		}
	}
	b := MarshalFile(BootAttributes, []byte{1, 2})
	if hex.EncodeToString(b) != "070000000102" {
		t.Errorf("file %x", b)
	}
	if a, d, err := ParseFile(b); a != 7 || !bytes.Equal(d, []byte{1, 2}) || err != nil {
		t.Errorf("parsed %#x, %x, %v", a, d, err)
	}
	if _, _, err := ParseFile([]byte{7, 0, 0}); err == nil {
		t.Error("file of three bytes: no error")
	}
}

func TestText(t *testing.T) {
	if s, err := ParseText([]byte("a\x00b\x00\x00\x00junk")); s != "ab" || err != nil {
		t.Errorf("text %q, %v", s, err)
	}
	for _, s := range []string{"", "a", "a\x00", "a\x00\x00"} {
		if got, err := ParseText([]byte(s)); err == nil {
			t.Errorf("text %q without NUL = %q", s, got)
		}
	}
}

// FuzzLoadOption: an option that is read can be written, and is then the same.
func FuzzLoadOption(f *testing.F) {
	for _, o := range []LoadOption{{}, exampleOption(), {Description: "🧱", Optional: []byte("x")}} {
		b, err := o.MarshalBinary()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := ParseLoadOption(b)
		if err != nil {
			return
		}
		_ = o.String()
		out, err := o.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseLoadOption(out)
		if diff := cmp.Diff(o, again); err != nil || diff != "" {
			t.Errorf("%v (-first +second):\n%s", err, diff)
		}
	})
}

// FuzzNames reads variable file names and texts.
func FuzzNames(f *testing.F) {
	f.Add(FileName(BootName(1), Global), []byte("a\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, s string, b []byte) {
		if name, guid, err := ParseFileName(s); err == nil && !strings.EqualFold(FileName(name, guid), s) {
			t.Errorf("%q = %q, %v", s, name, guid)
		}
		ParseBootName(s)
		ParseText(b)
		ParseFile(b)
		ParseOrder(b)
		ParseNumber(b)
	})
}

func ExampleSlotEntry() {
	part := HDPartition{Number: 3, Start: 788480, Size: 524288, GUID: gpt.MustGUID("5b4a1c4e-9f0d-8c4e-9a51-0c2f4be5a003")}
	b, err := SlotEntry(part, "EFI/BOOT/BOOTX64.EFI", "ingot B", nil).MarshalBinary()
	if err != nil {
		fmt.Println(err)
	}
	o, err := ParseLoadOption(b)
	fmt.Println(o, err)
	// Output: ingot B HD(3,GPT,5B4A1C4E-9F0D-8C4E-9A51-0C2F4BE5A003,0xC0800,0x80000)/\EFI\BOOT\BOOTX64.EFI <nil>
}
