package eventlog

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/partition/gpt"
)

var banks = []pcr.Bank{pcr.SHA1, pcr.SHA256}

// entry is an event whose digest is of its data, or of of.
type entry struct {
	register uint32
	typ      Type
	data     []byte
	of       []byte
}

// agile writes a log of the banks.
func agile(t testing.TB, entries ...entry) []byte {
	t.Helper()
	b := AppendHeader(nil, banks...)
	for _, e := range entries {
		if e.of == nil {
			e.of = e.data
		}
		digests := map[pcr.Bank]pcr.Digest{}
		for _, bank := range banks {
			digests[bank] = bank.Sum(e.of)
		}
		var err error
		if b, err = AppendEvent(b, e.register, e.typ, e.data, banks, digests); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// plain writes a log in the SHA-1 format.
func plain(entries ...entry) []byte {
	var b []byte
	for _, e := range entries {
		b = le.AppendUint32(b, e.register)
		b = le.AppendUint32(b, uint32(e.typ))
		b = append(b, pcr.SHA1.Sum(e.data)...)
		b = le.AppendUint32(b, uint32(len(e.data)))
		b = append(b, e.data...)
	}
	return b
}

func startup(locality byte) entry {
	return entry{0, NoAction, append([]byte("StartupLocality\x00"), locality), nil}
}

var separator = entry{4, Separator, make([]byte, 4), nil}

func mustParse(t *testing.T, b []byte) *Log {
	t.Helper()
	l, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestParseAgile(t *testing.T) {
	b := agile(t, startup(3), entry{0, SCRTMVersion, []byte("v1"), nil}, separator)
	l := mustParse(t, b)
	if !l.Agile || l.Locality != 3 || len(l.Events) != 4 || l.Padding != 0 || !cmp.Equal(l.Banks, banks) {
		t.Fatalf("%+v", l)
	}
	e := l.Events[3]
	if e.PCR != 4 || e.Type != Separator || !bytes.Equal(e.Data, make([]byte, 4)) || e.Off != int64(len(b)-12-2-20-2-32-4-4) {
		t.Errorf("%+v", e)
	}
	for _, bank := range banks {
		if got, want := e.Digest(bank), bank.Sum(make([]byte, 4)); !bytes.Equal(got, want) {
			t.Errorf("%s: %s, want %s", bank, got, want)
		}
		s, err := l.Replay(bank)
		if err != nil {
			t.Fatal(err)
		}
		want := pcr.Start(bank, 3)
		want.Extend(0, bank.Sum([]byte("v1")))
		if !bytes.Equal(s.Value(0), want.Value(0)) || s.Extends(0) != 1 || s.Extends(4) != 1 || s.Extends(5) != 0 {
			t.Errorf("%s: PCR 0 is %s after %d extends", bank, s.Value(0), s.Extends(0))
		}
	}
	if e.Digest(pcr.SHA384) != nil {
		t.Error("a digest of a bank that is not there")
	}
	if _, err := l.Replay(pcr.SHA384); err == nil {
		t.Error("a bank that is not there replays")
	}
}

func TestParseSHA1(t *testing.T) {
	l := mustParse(t, plain(entry{0, SCRTMVersion, []byte("v1"), nil}, startupAt(0xffffffff, "Win"), separator))
	if l.Agile || len(l.Events) != 3 || !cmp.Equal(l.Banks, []pcr.Bank{pcr.SHA1}) {
		t.Fatalf("%+v", l)
	}
	s, err := l.Replay(pcr.SHA1)
	if err != nil || s.Compare(4, s.Value(4)) != pcr.Match {
		t.Error(err)
	}
	if _, err := l.Replay(pcr.SHA256); err == nil {
		t.Error("SHA-256 replays")
	}
	only := mustParse(t, plain(startup(3))) // a log of nothing else was seen in the field
	if only.Locality != 3 {
		t.Errorf("locality %d", only.Locality)
	}
}

func startupAt(register uint32, text string) entry {
	return entry{register, NoAction, []byte(text), nil}
}

// TestPadding: firmware hands over its buffer, of zeros or of erased flash.
func TestPadding(t *testing.T) {
	b := agile(t, separator)
	for _, fill := range []byte{0, 0xff} {
		for _, n := range []int{1, 11, 12, 972} {
			l := mustParse(t, append(bytes.Clone(b), bytes.Repeat([]byte{fill}, n)...))
			if l.Padding != n || len(l.Events) != 2 {
				t.Errorf("%d times %#x: %d events, %d bytes of padding", n, fill, len(l.Events), l.Padding)
			}
		}
	}
	if _, err := Parse(append(bytes.Clone(b), 0, 0, 0, 1)); err == nil {
		t.Error("padding with something in it was taken")
	}
}

// set overwrites bytes.
func set(b []byte, off int, with ...byte) []byte {
	b = bytes.Clone(b)
	copy(b[off:], with)
	return b
}

// headerSize is that of the log's first event with two banks.
const headerSize = sha1HeadSize + specHeadSize + 2*algSize + 1

func TestParseRefuses(t *testing.T) {
	good := agile(t, separator)
	huge := []byte{0xff, 0xff, 0xff, 0xff}
	for name, c := range map[string]struct {
		log   []byte
		off   int64
		field string
	}{
		"empty":                 {nil, 0, "log"},
		"too large":             {make([]byte, MaxSize+1), MaxSize, "log"},
		"no header":             {good[:31], 0, "TCG_PCClientPCREvent"},
		"huge header":           {set(good, 28, huge...), 28, "eventSize"},
		"no algorithms":         {set(good, 56, 0, 0, 0, 0), 56, "numberOfAlgorithms"},
		"2^28 algorithms":       {set(good, 56, 0, 0, 0, 0x10), 56, "numberOfAlgorithms"},
		"more algorithms":       {set(good, 56, 3), 60, "digestSizes"},
		"digest size":           {set(good, 62, 21), 62, "digestSize"},
		"digest size 0":         {set(good, 60, 0x12, 0, 0, 0), 62, "digestSize"},
		"algorithm twice":       {set(good, 64, 4, 0, 20, 0), 64, "algorithmId"},
		"cut in an event":       {good[:len(good)-1], int64(len(good) - 8), "eventSize"},
		"cut before the size":   {good[:len(good)-5], int64(len(good) - 8), "eventSize"},
		"cut in a digest":       {good[:headerSize+20], headerSize + 14, "digests.digest"},
		"cut in an algorithm":   {good[:headerSize+13], headerSize + 12, "digests.hashAlg"},
		"cut in a head":         {good[:headerSize+9], headerSize, "TCG_PCR_EVENT2"},
		"huge event":            {set(good, len(good)-8, huge...), int64(len(good) - 8), "eventSize"},
		"PCR 24":                {set(good, headerSize, 24), headerSize, "pcrIndex"},
		"PCR -1 extended":       {set(good, headerSize, huge...), headerSize, "pcrIndex"},
		"digest missing":        {set(good, headerSize+8, 1), headerSize + 8, "digests.count"},
		"huge digest count":     {set(good, headerSize+8, huge...), headerSize + 8, "digests.count"},
		"other bank":            {set(good, headerSize+12, 0x0c), headerSize + 12, "digests.hashAlg"},
		"digest twice":          {set(good, headerSize+34, 4), headerSize + 34, "digests.hashAlg"},
		"locality late":         {agile(t, entry{0, SCRTMVersion, nil, nil}, startup(3)), headerSize + 72, "StartupLocality"},
		"locality twice":        {agile(t, startup(3), startup(3)), headerSize + 89, "StartupLocality"},
		"locality 7":            {agile(t, startup(7)), headerSize, "StartupLocality"},
		"locality of PCR 1":     {agile(t, entry{1, NoAction, startup(3).data, nil}), headerSize, "StartupLocality"},
		"locality without data": {agile(t, entry{0, NoAction, []byte("StartupLocality\x00"), nil}), headerSize, "StartupLocality"},
		"short spec":            {plain(entry{0, NoAction, []byte("Spec ID Event03\x00"), nil}), 32, "TCG_EfiSpecIdEvent"},
	} {
		_, err := Parse(c.log)
		var f *FormatError
		if !errors.As(err, &f) || f.Off != c.off || f.Field != c.field {
			t.Errorf("%s: %v, want offset %#x, %s", name, err, c.off, c.field)
		}
	}
}

// TestAnyCutIsRefused: a log that ends in the middle of an event is never taken.
func TestAnyCutIsRefused(t *testing.T) {
	b := agile(t, startup(0), entry{4, EFIAction, []byte("Calling"), nil}, separator)
	whole := map[int]bool{}
	for _, e := range mustParse(t, b).Events {
		whole[int(e.Off)] = true
	}
	for n := 1; n < len(b); n++ {
		l, err := Parse(b[:n])
		if err == nil && !whole[n] && l.Padding == 0 {
			t.Errorf("%d of %d bytes were taken", n, len(b))
		}
	}
}

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

func FuzzParse(f *testing.F) {
	path := image(f, efivar.DevicePath{efivar.FileNode("x")})
	f.Add(agile(f, startup(3), separator, entry{4, BootServicesApp, path, nil}, entry{5, GPT, table("esp"), nil}))
	f.Add(agile(f, entry{7, VariableDriver, variable(efivar.Global, "PK", []byte("x")), nil}, entry{9, EventTag, make([]byte, 8), nil}))
	f.Add(plain(entry{0, SCRTMVersion, []byte("v"), nil}, startupAt(0xffffffff, "x"), separator))
	f.Add(append(agile(f, separator), make([]byte, 64)...))
	f.Add(plain(startup(3)))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := Parse(b)
		if err != nil {
			var e *FormatError
			if !errors.As(err, &e) || e.Off < 0 || e.Off > int64(max(len(b), MaxSize)) {
				t.Fatalf("error without a place: %v", err)
			}
			return
		}
		check(t, l, len(b))
	})
}

// check decodes everything and replays every bank.
func check(t *testing.T, l *Log, size int) {
	t.Helper()
	if len(l.Events)*sha1HeadSize/2 > size+sha1HeadSize {
		t.Fatalf("%d events of %d bytes", len(l.Events), size)
	}
	for i := range l.Events {
		e := &l.Events[i]
		for _, f := range []func(*Event) error{variableOf, imageOf, tableOf, separatorOf, tagOf} {
			f(e)
		}
		_ = e.Text()
		for _, b := range l.Banks {
			if b.Known() {
				e.Covered(b)
			}
		}
	}
	for _, b := range l.Banks {
		if _, err := l.Replay(b); err != nil && b.Known() {
			t.Fatal(err)
		}
	}
}
