package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// part is a state partition in memory; it keeps the writes and can damage them.
type part struct {
	b      []byte
	writes []write
	syncs  int
	badAt  int64 // reads that touch this offset fail; 0 = none
	lose   bool  // writes do not arrive
}

type write struct {
	off  int64
	data []byte
}

func newPart() *part { return &part{b: make([]byte, Size)} }

var errBadSector = errors.New("bad sector")

func (p *part) ReadAt(b []byte, off int64) (int, error) {
	if p.badAt > 0 && off <= p.badAt && p.badAt < off+int64(len(b)) {
		return 0, errBadSector
	}
	if off >= int64(len(p.b)) {
		return 0, io.EOF
	}
	n := copy(b, p.b[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (p *part) WriteAt(b []byte, off int64) (int, error) {
	p.writes = append(p.writes, write{off, bytes.Clone(b)})
	if p.lose {
		return len(b), nil
	}
	return copy(p.b[off:], b), nil
}

func (p *part) Sync() error { p.syncs++; return nil }

func mustStore(t *testing.T, p *part, r Region, payload string) {
	t.Helper()
	if err := Store(p, r, []byte(payload)); err != nil {
		t.Fatal(err)
	}
}

func TestStructSizes(t *testing.T) {
	if got := binary.Size(header{}); got != headerSize {
		t.Errorf("header has %d bytes, its documentation says %d", got, headerSize)
	}
}

// The map is part of the on-disk format: installed machines depend on it.
func TestMap(t *testing.T) {
	var got []string
	for _, e := range Map() {
		got = append(got, fmt.Sprintf("%s %#x %#x %d", e.Name, e.Offsets[0], e.Offsets[1], e.Capacity))
	}
	want := []string{
		"journal 0x0 0x100000 4032", "machine 0x200000 0x300000 65536", "evidence 0x400000 0x500000 65536",
		"clock 0x600000 0x700000 4032", "rejected 0x800000 0x900000 65536", "trust 0xa00000 0xb00000 524288",
		"update 0xc00000 0xd00000 65536",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Map (-want +got):\n%s", d)
	}
	for _, e := range Map() {
		if end := e.Offsets[1] + headerSize + int64(e.Capacity); end > Size || headerSize+int64(e.Capacity) > stride {
			t.Errorf("%s does not fit: ends at %d", e.Name, end)
		}
	}
}

func TestRecordBytes(t *testing.T) {
	p := newPart()
	mustStore(t, p, Clock, "2026-11-22")
	got := p.b[Clock.offset(0):][:block]
	want := make([]byte, block)
	copy(want, "INGOTST1\x03\x00\x00\x00\x0a\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00")
	// sha256 of the 32 bytes above and the payload, by sha256sum
	copy(want[32:], "\x20\xc3\x2f\x20\x30\x81\x37\x15\x77\xbb\xd4\xb6\xb0\xdc\x10\xaa\x42\x0d\xab\x2c\x4f\x63\x37\xd3\x43\x9f\x53\x0d\xe9\x81\xff\xaa")
	copy(want[64:], "2026-11-22")
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("record (-want +got):\n%s", d)
	}
}

func TestZerosAreEmpty(t *testing.T) {
	p := newPart()
	for _, e := range Map() {
		_, _, err := Load(p, e.Region)
		if !errors.Is(err, ErrEmpty) || errors.Is(err, ErrDamaged) {
			t.Errorf("Load(%s) of zeros = %v, want ErrEmpty alone", e.Name, err)
		}
	}
	for _, s := range Scan(p) {
		if !errors.Is(s.Err, ErrEmpty) || s.Current {
			t.Errorf("Scan of zeros: %+v", s)
		}
	}
}

func TestStoreAlternatesCopies(t *testing.T) {
	p := newPart()
	for i := 1; i <= 5; i++ {
		mustStore(t, p, Journal, fmt.Sprintf("record %d", i))
		got, seq, err := Load(p, Journal)
		if err != nil || string(got) != fmt.Sprintf("record %d", i) || seq != uint64(i) {
			t.Fatalf("Load = %q, %d, %v after record %d", got, seq, err, i)
		}
	}
	var offs []int64
	for _, w := range p.writes {
		offs = append(offs, w.off)
		if len(w.data) != 4096 {
			t.Errorf("journal record of %d bytes, want one write of 4096", len(w.data))
		}
	}
	if d := cmp.Diff([]int64{0, stride, 0, stride, 0}, offs); d != "" || p.syncs != 5 {
		t.Errorf("writes (-want +got), %d syncs:\n%s", p.syncs, d)
	}
}

func TestRegionsAreApart(t *testing.T) {
	p := newPart()
	payload := func(e Entry, round byte) []byte { return bytes.Repeat([]byte{byte(e.Region) + 1 + round}, e.Capacity) }
	for round := range byte(3) {
		for _, e := range Map() {
			if err := Store(p, e.Region, payload(e, round)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, e := range Map() {
		if got, seq, err := Load(p, e.Region); err != nil || seq != 3 || !bytes.Equal(got, payload(e, 2)) {
			t.Errorf("Load(%s) = %d bytes, %d, %v", e.Name, len(got), seq, err)
		}
		if err := Store(p, e.Region, make([]byte, e.Capacity+1)); err == nil || !strings.Contains(err.Error(), "more than the") {
			t.Errorf("Store(%s) of too much = %v", e.Name, err)
		}
	}
	if n := bytes.Count(p.b[14*stride:], []byte{0}); n != 2*stride {
		t.Errorf("%d of %d reserved bytes are zero", n, 2*stride)
	}
}

// Whatever part of a write reaches the disk, Load gives the record before it or the new one.
func TestTornWrite(t *testing.T) {
	long := strings.Repeat("a line of machine.yaml\n", 2000)
	tests := []struct {
		region  Region
		records []string // stored before; the last one is the one that is torn
	}{
		{Journal, []string{"first"}},
		{Journal, []string{"good=a", "good=b"}},
		{Journal, []string{"good=a", "good=b", strings.Repeat("c", 4032)}},
		{Machine, []string{long, long + "x", long + "yy"}},
		{Machine, []string{long, "short", "shorter"}},
		{Machine, []string{"short", "shorter", long}},
	}
	for _, tt := range tests {
		p := newPart()
		n := len(tt.records) - 1
		for _, r := range tt.records[:n] {
			mustStore(t, p, tt.region, r)
		}
		before := bytes.Clone(p.b)
		mustStore(t, p, tt.region, tt.records[n])
		last := p.writes[len(p.writes)-1]
		check := func(what string, b []byte) {
			got, _, err := Load(&part{b: b}, tt.region)
			switch {
			case err == nil && string(got) == tt.records[n]:
			case err == nil && n > 0 && string(got) == tt.records[n-1]:
			case errors.Is(err, ErrEmpty) && n == 0:
			default:
				t.Fatalf("%s of %s: Load = %.20q..., %v", what, tt.region, got, err)
			}
		}
		tear(last, before, check)
	}
}

// tear applies w to before in every way that check must survive.
func tear(w write, before []byte, check func(string, []byte)) {
	b := bytes.Clone(before)
	for cut := 0; cut <= len(w.data); cut += 512 {
		copy(b[w.off:], w.data[:cut])
		check(fmt.Sprintf("prefix %d", cut), b)
	}
	for cut := 0; cut < len(w.data); cut += 512 { // sectors of one write may arrive in any order
		for _, sector := range [][]byte{before[w.off:][cut : cut+512], bytes.Repeat([]byte{0xa5}, 512)} {
			b := bytes.Clone(before[w.off:][:len(w.data)])
			copy(b, w.data)
			copy(b[cut:], sector)
			whole := bytes.Clone(before)
			copy(whole[w.off:], b)
			check(fmt.Sprintf("all but sector %d", cut), whole)
		}
	}
}

func TestLoadAfterDamage(t *testing.T) {
	good := func() *part {
		p := newPart()
		mustStore(t, p, Machine, "old")
		mustStore(t, p, Machine, "new")
		return p
	}
	newer := Machine.offset(1)
	reseal := func(b []byte) { s := sum(b[:headerSize+3]); copy(b[32:], s[:]) }
	tests := []struct {
		name   string
		damage func(b []byte)
		want   string
	}{
		{"payload", func(b []byte) { b[64] ^= 1 }, "old"},
		{"checksum", func(b []byte) { b[63] ^= 1 }, "old"},
		{"magic", func(b []byte) { b[0] ^= 1; reseal(b) }, "old"},
		{"region", func(b []byte) { b[8] = byte(Trust); reseal(b) }, "old"},
		{"region that does not exist", func(b []byte) { b[8] = 99; reseal(b) }, "old"},
		{"length", func(b []byte) { b[15] = 0xff; reseal(b) }, "old"},
		{"length over capacity", func(b []byte) { binary.LittleEndian.PutUint32(b[12:], 65537); reseal(b) }, "old"},
		{"sequence 0", func(b []byte) { clear(b[16:24]); reseal(b) }, "old"},
		{"sequence of all ones", func(b []byte) { binary.LittleEndian.PutUint64(b[16:], 1<<64-1); reseal(b) }, "old"},
		{"reserved", func(b []byte) { b[24] = 1; reseal(b) }, "old"},
		{"padding does not count", func(b []byte) { b[67] = 1 }, "new"},
		{"nothing", func(b []byte) {}, "new"},
	}
	for _, tt := range tests {
		p := good()
		tt.damage(p.b[newer : newer+block])
		got, _, err := Load(p, Machine)
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: Load = %q, %v, want %q", tt.name, got, err, tt.want)
		}
		mustStore(t, p, Machine, "next")
		if got, _, err := Load(p, Machine); err != nil || string(got) != "next" {
			t.Errorf("%s: Load after Store = %q, %v", tt.name, got, err)
		}
		clear(p.b[newer : newer+block])
		p.b[newer] = 1
		p.b[Machine.offset(0)+40] ^= 1
		if _, _, err := Load(p, Machine); !errors.Is(err, ErrEmpty) || !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: Load of two bad copies = %v", tt.name, err)
		}
	}
}

func TestBadSectors(t *testing.T) {
	p := newPart()
	mustStore(t, p, Machine, "old")
	p.badAt = Machine.offset(1) + 100 // the empty copy
	if got, _, err := Load(p, Machine); err != nil || string(got) != "old" {
		t.Errorf("Load beside a bad sector = %q, %v", got, err)
	}
	p.badAt = Machine.offset(0) + 100 // the only record
	if _, _, err := Load(p, Machine); !errors.Is(err, errBadSector) || errors.Is(err, ErrEmpty) {
		t.Errorf("Load of a bad sector = %v, want the reader's error", err)
	}
	if _, _, err := Load(&part{b: make([]byte, 100)}, Journal); !errors.Is(err, io.EOF) {
		t.Errorf("Load of a cut partition = %v", err)
	}
}

func TestStoreNoticesALyingDisk(t *testing.T) {
	p := newPart()
	mustStore(t, p, Journal, "old")
	p.lose = true
	if err := Store(p, Journal, []byte("new")); err == nil || !strings.Contains(err.Error(), "read back journal, copy 1") {
		t.Errorf("Store on a disk that loses writes = %v", err)
	}
	if got, _, err := Load(p, Journal); err != nil || string(got) != "old" {
		t.Errorf("Load = %q, %v", got, err)
	}
}

func TestScan(t *testing.T) {
	p := newPart()
	mustStore(t, p, Trust, "one")
	mustStore(t, p, Trust, "two")
	p.b[Rejected.offset(0)] = 1
	var got []string
	for _, s := range Scan(p) {
		if !errors.Is(s.Err, ErrEmpty) {
			got = append(got, fmt.Sprintf("%s/%d %d %q %v %v", s.Name, s.Copy, s.Seq, s.Payload, s.Current, s.Err))
		}
	}
	want := []string{`rejected/0 0 "" false record is damaged: magic differs`, `trust/0 1 "one" false <nil>`, `trust/1 2 "two" true <nil>`}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Scan (-want +got):\n%s", d)
	}
}

func TestNoSuchRegion(t *testing.T) {
	if err := Store(newPart(), regions, nil); err == nil {
		t.Error("Store in a region that does not exist gives no error")
	}
	if _, _, err := Load(newPart(), regions); err == nil || !strings.Contains(err.Error(), "region 7 does not exist") {
		t.Errorf("Load = %v", err)
	}
}

func TestSequenceEnds(t *testing.T) {
	p := newPart()
	copy(p.b[Journal.offset(0):], encode(Journal, maxSeq, []byte("last")))
	if err := Store(p, Journal, []byte("more")); err == nil || !strings.Contains(err.Error(), "exhausted") {
		t.Errorf("Store after the last sequence = %v", err)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(uint32(0), encode(Journal, 7, []byte("good=a")), encode(Journal, 8, []byte("good=b")))
	f.Add(uint32(1), encode(Machine, 1, []byte("hostname: x\n")), []byte{})
	f.Add(uint32(5), []byte("INGOTST1"), bytes.Repeat([]byte{0xff}, 100))
	p := newPart()
	f.Fuzz(func(t *testing.T, region uint32, a, b []byte) {
		p.writes = nil
		r := Region(region)
		if r < regions { // one buffer for all rounds: 16 MiB each time would be most of the work
			clear(p.b[r.offset(0) : r.offset(1)+stride])
			copy(p.b[r.offset(0):r.offset(1)], a)
			copy(p.b[r.offset(1):r.offset(1)+stride], b)
		}
		payload, seq, err := Load(p, r)
		if err == nil && (len(payload) > r.Capacity() || seq == 0) {
			t.Fatalf("Load = %d bytes, %d", len(payload), seq)
		}
		if r >= regions || seq == maxSeq {
			return
		}
		if err := Store(p, r, []byte("next")); err != nil {
			t.Fatal(err)
		}
		if got, next, err := Load(p, r); err != nil || string(got) != "next" || next != seq+1 {
			t.Fatalf("Load after Store = %q, %d, %v", got, next, err)
		}
	})
}
