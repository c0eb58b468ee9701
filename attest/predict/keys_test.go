package predict

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/attest/eventlog"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/boot/authenticode"
	"github.com/ingot-os/ingot/boot/esl"
	"github.com/ingot-os/ingot/internal/testkey"
	"github.com/ingot-os/ingot/partition/gpt"
)

var owner = gpt.MustGUID("11223344-5566-4788-99aa-bbccddeeff00")

// TestAuthority: the certificate of db that signed the image is measured once,
// as EFI_SIGNATURE_DATA.
func TestAuthority(t *testing.T) {
	db, other := testkey.New("db", nil), testkey.New("other", nil)
	plain := build(stubOf("257"), linux)
	var signed bytes.Buffer
	if err := authenticode.Sign(&signed, bytes.NewReader(plain), int64(len(plain)), db.Key, db.Cert); err != nil {
		t.Fatal(err)
	}
	list := func(s ...testkey.Identity) []byte {
		var lists []esl.List
		for _, x := range s {
			lists = append(lists, esl.Certificate(owner, x.Cert))
		}
		return esl.Marshal(lists)
	}
	entry := append(owner[:], db.Cert.Raw...)
	for name, c := range map[string]struct {
		image []byte
		db    []byte
		want  string // error
	}{
		"signed":               {signed.Bytes(), list(db), ""},
		"signed, second":       {signed.Bytes(), list(other, db), ""},
		"not signed yet":       {plain, list(db), ""},
		"not signed, two keys": {plain, list(other, db), "no certificate in db has signed it"},
		"foreign":              {signed.Bytes(), list(other), "no certificate in db has signed it"},
		"no keys":              {signed.Bytes(), nil, "no certificate in db has signed it"},
		"malformed":            {signed.Bytes(), []byte{1}, "db: signature list"},
	} {
		p, err := UKI(bytes.NewReader(c.image), int64(len(c.image)), with(func(o *Options) { o.SecureBoot, o.Keys = true, &Keys{DB: c.db} }))
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q", name, err, c.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		i := slices.IndexFunc(p.Events, func(e Event) bool { return e.Type == eventlog.VariableAuthority })
		want := pcr.SHA256.Sum(append([]byte("\xcb\xb2\x19\xd7\x3a\x3d\x96\x45\xa3\xbc\xda\xd0\x0e\x67\x65\x6f"+
			"\x02\x00\x00\x00\x00\x00\x00\x00"+string(le.AppendUint64(nil, uint64(len(entry))))+"d\x00b\x00"), entry...))
		if i < 0 || !bytes.Equal(p.Events[i].Digests[pcr.SHA256], want) {
			t.Errorf("%s: event %d, want %s", name, i, want)
		}
		if got := strings.Join(names(p, 7), " "); got != "SecureBoot PK KEK db dbx separator db" {
			t.Errorf("%s: PCR 7 is %s", name, got)
		}
	}
}

// TestNoKeys compares with the value that a machine with OVMF 2022.11 and no
// keys had.
func TestNoKeys(t *testing.T) {
	p := mustPredict(t, with(func(o *Options) { o.Keys = &Keys{} }), stubOf("257"), linux)
	const want = "65caf8dd1e0ea7a6347b635d2b379c93b9a1351edc2afc3ecda700e534eb3068"
	if got := p.PCRs[pcr.SHA256][7].String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// disk is memory as a target.
type disk []byte

func (d disk) WriteAt(b []byte, off int64) (int, error) { return copy(d[off:], b), nil }

// TestTable: the event decodes to the table that is on the disk, at both sizes
// of sectors.
func TestTable(t *testing.T) {
	for _, sector := range []int{512, 4096} {
		d := make(disk, 8<<20)
		table := gpt.Table{SectorSize: sector, Size: int64(len(d)), Disk: owner, Partitions: []gpt.Partition{
			{Index: 1, Name: "esp", Type: gpt.TypeESP, GUID: gpt.GUID{1}, Start: 1 << 20, Size: 2 << 20},
			{Index: 6, Name: "state", Type: gpt.TypeLinuxData, GUID: gpt.GUID{2}, Start: 3 << 20, Size: 1 << 20},
		}}
		if err := table.Write(d); err != nil {
			t.Fatal(err)
		}
		read, err := ReadTable(bytes.NewReader(d), int64(len(d)))
		if err != nil {
			t.Fatal(err)
		}
		got := logged(t, read.event())
		if got.Disk != owner || len(got.Partitions) != 2 || got.Partitions[1].Name != "state" ||
			got.Partitions[1].First != uint64(3<<20/sector) || got.Partitions[0].GUID != (gpt.GUID{1}) {
			t.Errorf("sectors of %d: %+v", sector, got)
		}
	}
	if _, err := ReadTable(bytes.NewReader(make([]byte, 1<<20)), 1<<20); err == nil {
		t.Error("zeros are a partition table")
	}
}

// logged sends a GPT event through a log.
func logged(t *testing.T, data []byte) eventlog.Table {
	t.Helper()
	banks := []pcr.Bank{pcr.SHA256}
	b, err := eventlog.AppendEvent(eventlog.AppendHeader(nil, banks...), 5, eventlog.GPT, data, banks, map[pcr.Bank]pcr.Digest{pcr.SHA256: pcr.SHA256.Sum(data)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := eventlog.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	table, err := l.Events[1].Table()
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func FuzzUKI(f *testing.F) {
	f.Add(build(stubOf("257"), linux, sec{name: ".initrd", data: "x"}))
	f.Add(build(everything("252")...))
	f.Add(build(stubOf("257"), sec{".linux", "x", 1 << 20}))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := UKI(bytes.NewReader(b), int64(len(b)), sha)
		if err == nil && len(p.PCRs[pcr.SHA256]) == 0 {
			t.Fatal("nothing is predicted")
		}
	})
}
