package gpt

import (
	"fmt"
	"maps"
	"reflect"
	"testing"
)

// sector is the smallest write that a power cut leaves whole.
type sector struct {
	off  int64
	data []byte
}

// sectorsOf cuts the steps into single sectors in order.
func sectorsOf(steps []Step) []sector {
	var out []sector
	for _, st := range steps {
		for off := 0; off < len(st.Data); off += 512 {
			out = append(out, sector{st.Offset + int64(off), st.Data[off:min(off+512, len(st.Data))]})
		}
	}
	return out
}

// Rows P25 to P28: a cut after any sector of any step of the first-boot
// rewrite leaves a disk that reads as the old or the new table.
func TestCutAtEverySector(t *testing.T) {
	const small, large = 24 * mib, 40 * mib
	for _, ss := range []int{512, 4096} {
		old := testTable(ss, small)
		onLarge := old
		onLarge.Size = large
		grown, err := Grow(old, large, true)
		if err != nil {
			t.Fatal(err)
		}
		renamed, _ := Grow(old, small, false)
		renamed.Partitions[3].Name = "renamed"
		cases := []struct {
			name     string
			disk     Table // what was written before
			old, new Table // what may be read
			damage   int64 // byte to flip first; 0 = none
		}{
			{"backup in the middle moves to the end", old, onLarge, grown, 0},
			{"backup stays where it is", old, old, renamed, 0},
			{"primary damaged, backup stays where it is", old, old, renamed, int64(ss) + 60},
			{"primary array damaged", grown, grown, grown, 2*int64(ss) + 1},
		}
		for _, c := range cases {
			t.Run(fmt.Sprintf("%d/%s", ss, c.name), func(t *testing.T) {
				disk := memory{}
				if err := c.disk.Write(disk); err != nil {
					t.Fatal(err)
				}
				if c.damage > 0 {
					disk.WriteAt([]byte{0xaa}, c.damage)
				}
				checkCuts(t, disk, c.old, c.new)
			})
		}
	}
}

func checkCuts(t *testing.T, disk memory, old, next Table) {
	t.Helper()
	found, info, err := Read(disk, next.Size)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := Replace(found, info, next)
	if err != nil {
		t.Fatal(err)
	}
	writes, sawNew := sectorsOf(steps), false
	total := len(writes)
	for n := 0; n <= total; n++ {
		if n > 0 {
			disk.WriteAt(writes[n-1].data, writes[n-1].off)
		}
		got, info, err := Read(disk, next.Size)
		if err != nil {
			t.Fatalf("after %d of %d sectors: %v", n, total, err)
		}
		isNew := reflect.DeepEqual(got, next)
		if !isNew && (sawNew || !reflect.DeepEqual(got, old)) {
			t.Fatalf("after %d of %d sectors: neither old nor new, or old again:\n%+v", n, total, got)
		}
		sawNew = isNew
		if n == total && (info.Primary != nil || info.Backup != nil || !isNew) {
			t.Errorf("at the end: %+v, new is %v", info, isNew)
		}
	}
}

// The sectors of one unsynced step may reach the disk in any order.
func TestCutWithReorderedSectors(t *testing.T) {
	old := testTable(512, 24*mib)
	next, err := Grow(old, 40*mib, true)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := next.Plan()
	if err != nil {
		t.Fatal(err)
	}
	disk := memory{}
	if err := old.Write(disk); err != nil {
		t.Fatal(err)
	}
	for _, st := range steps {
		for s := 0; s+512 <= len(st.Data); s += 512 { // one sector alone, and all but that one
			alone, others := maps.Clone(disk), maps.Clone(disk)
			alone.WriteAt(st.Data[s:s+512], st.Offset+int64(s))
			others.WriteAt(st.Data[:s], st.Offset)
			others.WriteAt(st.Data[s+512:], st.Offset+int64(s)+512)
			for _, m := range []memory{alone, others} {
				got, _, err := Read(m, next.Size)
				if err != nil || len(got.Partitions) != 4 {
					t.Fatalf("%s, sector %d: %v", st.Name, s/512, err)
				}
			}
		}
		disk.WriteAt(st.Data, st.Offset)
	}
}

type syncLog struct {
	memory
	events []string
}

func (s *syncLog) Sync() error { s.events = append(s.events, "sync"); return nil }
func (s *syncLog) WriteAt(b []byte, off int64) (int, error) {
	s.events = append(s.events, fmt.Sprintf("%d+%d", off, len(b)))
	return s.memory.WriteAt(b, off)
}

func TestWriteOrder(t *testing.T) {
	log := &syncLog{memory: memory{}}
	if err := testTable(4096, 24*mib).Write(log); err != nil {
		t.Fatal(err)
	}
	want := []string{"25145344+16384", "sync", "25161728+4096", "sync", "446+66", "sync", "8192+16384", "sync", "4096+4096", "sync"}
	if !reflect.DeepEqual(log.events, want) {
		t.Errorf("writes = %v\nwant %v", log.events, want)
	}
}
