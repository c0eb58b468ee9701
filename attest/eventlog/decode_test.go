package eventlog

import (
	"errors"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/partition/gpt"
)

func variable(guid gpt.GUID, name string, data []byte) []byte {
	b := append([]byte(nil), guid[:]...)
	b = le.AppendUint64(b, uint64(len(name)))
	b = le.AppendUint64(b, uint64(len(data)))
	for _, c := range name {
		b = le.AppendUint16(b, uint16(c))
	}
	return append(b, data...)
}

func image(t testing.TB, path efivar.DevicePath) []byte {
	t.Helper()
	p, err := path.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	b := le.AppendUint64(nil, 0x1000)
	b = le.AppendUint64(b, 0x2000)
	b = le.AppendUint64(b, 0)
	return append(le.AppendUint64(b, uint64(len(p))), p...)
}

func table(names ...string) []byte {
	b := make([]byte, gptHeadSize)
	copy(b, "EFI PART")
	b[56] = 7
	b = le.AppendUint64(b, uint64(len(names)))
	for i, name := range names {
		e := make([]byte, gptEntrySize)
		e[0], e[16], e[32], e[40] = 1, byte(i+2), 34, 99
		for j, c := range name {
			e[56+2*j] = byte(c)
		}
		b = append(b, e...)
	}
	return b
}

func TestDecode(t *testing.T) {
	path := efivar.DevicePath{efivar.FileNode("EFI/BOOT/BOOTX64.EFI")}
	cert := append(make([]byte, 16), "DER"...)
	l := mustParse(t, agile(t,
		entry{7, VariableAuthority, variable(efivar.ImageSecurity, "db", cert), nil},
		entry{4, BootServicesApp, image(t, path), []byte("image")},
		entry{5, GPT, table("esp", "slot-a"), nil},
		entry{9, EventTag, append(le.AppendUint32(le.AppendUint32(nil, TagInitrd), 4), "abcd"...), []byte("initrd")},
		entry{11, IPL, []byte(".\x00l\x00\x00\x00"), []byte("content")},
		entry{8, IPL, []byte("grub_cmd: set\x00"), nil},
		separator))
	v, err := l.Events[1].Variable()
	a, ok := v.Authority()
	if err != nil || v.Name != "db" || !ok || string(a.Certificate) != "DER" {
		t.Errorf("%+v, %v", v, err)
	}
	m, err := l.Events[2].Image()
	if err != nil || m.Base != 0x1000 || m.Length != 0x2000 || m.Path.File() != `\EFI\BOOT\BOOTX64.EFI` {
		t.Errorf("%+v, %v", m, err)
	}
	g, err := l.Events[3].Table()
	if err != nil || len(g.Partitions) != 2 || g.Partitions[1].Name != "slot-a" || g.Disk != (gpt.GUID{7}) || g.Partitions[0].Last != 99 {
		t.Errorf("%+v, %v", g, err)
	}
	tag, err := l.Events[4].Tag()
	if err != nil || tag.ID != TagInitrd || string(tag.Data) != "abcd" {
		t.Errorf("%+v, %v", tag, err)
	}
	if got := l.Events[5].Text() + " " + l.Events[6].Text(); got != ".l grub_cmd: set" {
		t.Error(got)
	}
	if n, err := l.Events[7].Separator(); n != SeparatorOK || err != nil {
		t.Error(n, err)
	}
	for i, want := range []Coverage{Covered, NotCovered, Covered, NotCovered, NotCovered, NotCovered, Covered} {
		if got := l.Events[i+1].Covered(pcr.SHA256); got != want {
			t.Errorf("event %d (%s): coverage %d, want %d", i+1, l.Events[i+1].Type, got, want)
		}
	}
}

// TestCovered: data that was changed while its digest stayed is seen; the
// digest of a boot variable may be of its content alone.
func TestCovered(t *testing.T) {
	boot := variable(efivar.Global, "BootOrder", []byte{1, 0})
	l := mustParse(t, agile(t, entry{4, Separator, []byte{1, 0, 0, 0}, make([]byte, 4)},
		entry{1, VariableBoot, boot, []byte{1, 0}}, entry{1, VariableBoot, boot, boot}, entry{1, VariableBoot, boot, []byte{2, 0}},
		entry{7, VariableAuthority, variable(gpt.GUID{1}, "MokList", nil), []byte("x")}, entry{7, VariableAuthority, variable(efivar.ImageSecurity, "db", nil), []byte("x")}))
	for i, want := range []Coverage{Altered, Covered, Covered, Altered, NotCovered, Altered} {
		if got := l.Events[i+1].Covered(pcr.SHA1); got != want {
			t.Errorf("event %d: coverage %d, want %d", i+1, got, want)
		}
	}
	if got := l.Events[1].Covered(pcr.SHA512); got != NotCovered {
		t.Errorf("a bank that is not there: %d", got)
	}
}

// TestDecodeRefuses names the offset of what is malformed inside an event.
func TestDecodeRefuses(t *testing.T) {
	long := func(b []byte, at int) []byte { return set(b, at, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff) }
	path := image(t, efivar.DevicePath{efivar.FileNode("x")})
	for name, c := range map[string]struct {
		data   []byte
		decode func(*Event) error
		want   string
	}{
		"variable cut":     {make([]byte, 31), variableOf, "UEFI_VARIABLE_DATA"},
		"name too long":    {long(variable(efivar.Global, "PK", nil), 16), variableOf, "UnicodeNameLength"},
		"data too long":    {long(variable(efivar.Global, "PK", nil), 24), variableOf, "VariableDataLength"},
		"image cut":        {make([]byte, 31), imageOf, "UEFI_IMAGE_LOAD_EVENT"},
		"path too long":    {long(path, 24), imageOf, "LengthOfDevicePath"},
		"path without end": {set(path, 32, 0, 0, 0, 0), imageOf, "DevicePath"},
		"no table":         {make([]byte, 200), tableOf, "UEFI_GPT_DATA"},
		"many partitions":  {long(table("a"), gptHeadSize), tableOf, "NumberOfPartitions"},
		"few partitions":   {set(table("a"), gptHeadSize, 0), tableOf, "NumberOfPartitions"},
		"separator":        {make([]byte, 5), separatorOf, "EV_SEPARATOR"},
		"tag cut":          {make([]byte, 7), tagOf, "TCG_PCClientTaggedEvent"},
		"tag too long":     {set(make([]byte, 8), 4, 1), tagOf, "taggedEventDataSize"},
	} {
		l := mustParse(t, agile(t, entry{4, PostCode, c.data, nil}))
		var f *FormatError
		if err := c.decode(&l.Events[1]); !errors.As(err, &f) || f.Field != c.want || f.Off < headerSize+72 {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

func variableOf(e *Event) error  { _, err := e.Variable(); return err }
func imageOf(e *Event) error     { _, err := e.Image(); return err }
func tableOf(e *Event) error     { _, err := e.Table(); return err }
func separatorOf(e *Event) error { _, err := e.Separator(); return err }
func tagOf(e *Event) error       { _, err := e.Tag(); return err }

func TestTypeText(t *testing.T) {
	for typ, name := range typeNames {
		var back Type
		if err := back.UnmarshalText([]byte(name)); err != nil || back != typ || !strings.HasPrefix(name, "EV_") {
			t.Errorf("%s: %v, %v", name, back, err)
		}
	}
	if got := Type(0x1234).String(); got != "event type 0x00001234" {
		t.Error(got)
	}
}

// TestStructSizes holds the sizes against PFP sections 10.2 and 10.4.5 and UEFI
// section 5.3.
func TestStructSizes(t *testing.T) {
	if sha1HeadSize != 4+4+20+4 || agileHeadSize != 4+4+4 || specHeadSize != 16+4+4*1+4 || algSize != 2+2 ||
		variableHeadSize != 16+8+8 || imageHeadSize != 4*8 || gptHeadSize != 92 || gptEntrySize != 128 || tagHeadSize != 4+4 {
		t.Error("a size is not the specification's")
	}
}
