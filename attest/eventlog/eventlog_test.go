package eventlog

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/boot/efivar"
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
	for _, n := range []int{3, 7, 8, 30, 300} {
		if _, err := Parse(append(append(bytes.Clone(b), make([]byte, n)...), 1)); err == nil {
			t.Errorf("padding with something behind %d bytes was taken", n)
		}
	}
}

// TestHeaderDigest: the first event of any log is in the SHA-1 format, and what
// stands there as its digest is anybody's.
func TestHeaderDigest(t *testing.T) {
	for off := range sha1Size - 1 {
		e := &mustParse(t, set(agile(t, separator), 8+off, byte(pcr.SHA1), 0)).Events[0]
		if e.Digest(pcr.SHA256) != nil || len(e.Digest(pcr.SHA1)) != sha1Size || e.Covered(pcr.SHA1) != NotCovered {
			t.Errorf("offset %d: %s, %s", off, e.Digest(pcr.SHA1), e.Digest(pcr.SHA256))
		}
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

func FuzzParse(f *testing.F) {
	path := image(f, efivar.DevicePath{efivar.FileNode("x")})
	f.Add(agile(f, startup(3), separator, entry{4, BootServicesApp, path, nil}, entry{5, GPT, table("esp"), nil}))
	f.Add(agile(f, entry{7, VariableDriver, variable(efivar.Global, "PK", []byte("x")), nil}, entry{9, EventTag, make([]byte, 8), nil}))
	f.Add(plain(entry{0, SCRTMVersion, []byte("v"), nil}, startupAt(0xffffffff, "x"), separator))
	f.Add(append(agile(f, separator), make([]byte, 64)...))
	f.Add(plain(startup(3)))
	for _, name := range []string{"boot-257-secureboot", "boot-257-ipxe", "boot-252"} {
		f.Add(recorded(f, name).Log)
	}
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
