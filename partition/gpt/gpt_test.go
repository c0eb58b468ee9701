package gpt

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const mib = 1 << 20

func testGUID(n byte) GUID {
	return GUID{n, 1, 2, 3, 4, 5, 6, 0x87, 0x98, 9, 10, 11, 12, 13, 14, 15}
}

// testTable is a small disk with a gap in the numbering, as ingot's own layout has.
func testTable(sectorSize int, size int64) Table {
	return Table{SectorSize: sectorSize, Size: size, Disk: testGUID(0xd0), Partitions: []Partition{
		{Index: 1, Name: "esp", Type: TypeESP, GUID: testGUID(1), Start: 1 * mib, Size: 4 * mib},
		{Index: 2, Name: "slot-a", Type: testGUID(0x70), GUID: testGUID(2), Start: 5 * mib, Size: 8 * mib, Attributes: 1<<60 | 1<<59},
		{Index: 3, Name: "slot-b", Type: testGUID(0x70), GUID: testGUID(3), Start: 13 * mib, Size: 8 * mib},
		{Index: 7, Name: "dätä 🧱", Type: TypeLinuxData, GUID: testGUID(7), Start: 21 * mib, Size: 2 * mib},
	}}
}

func TestStructSizes(t *testing.T) {
	if got := binary.Size(header{}); got != headerSize {
		t.Errorf("header has %d bytes, UEFI table 5.5 has %d", got, headerSize)
	}
	if got := binary.Size(entry{}); got != entrySize {
		t.Errorf("entry has %d bytes, UEFI table 5.6 has %d", got, entrySize)
	}
}

func TestGUIDText(t *testing.T) {
	// The ESP type as it lies on disk, from UEFI table 5.7 and appendix A.
	disk := GUID{0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b}
	if TypeESP != disk {
		t.Errorf("TypeESP = % x, want % x", TypeESP[:], disk[:])
	}
	if got, want := disk.String(), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"; got != want {
		t.Errorf("String() = %s, want %s", got, want)
	}
	if got, err := ParseGUID("C12A7328-F81F-11D2-BA4B-00A0C93EC93B"); err != nil || got != disk {
		t.Errorf("ParseGUID of upper case = %v, %v", got, err)
	}
	if got := FromUUID(disk.UUID()); got != disk {
		t.Errorf("FromUUID(UUID()) = %s, want %s", got, disk)
	}
	b, err := json.Marshal(disk)
	var back GUID
	if err == nil {
		err = json.Unmarshal(b, &back)
	}
	if err != nil || back != disk {
		t.Errorf("json %s gives %s, %v", b, back, err)
	}
	for _, bad := range []string{"", "c12a7328", "c12a7328-f81f-11d2-ba4b-00a0c93ec93", "g12a7328-f81f-11d2-ba4b-00a0c93ec93b",
		"c12a7328xf81f-11d2-ba4b-00a0c93ec93b", "c12a-7328f81f-11d2-ba4b-00a0c93ec93b", "{12a7328-f81f-11d2-ba4b-00a0c93ec93}"} {
		if _, err := ParseGUID(bad); err == nil {
			t.Errorf("ParseGUID(%q) gives no error", bad)
		}
	}
}

func TestValidate(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Table)
		want   []string // each must be in the error; empty = valid
	}{
		{"good", func(*Table) {}, nil},
		{"sector size", func(t *Table) { t.SectorSize = 520 }, []string{"sector size 520"}},
		{"sector size zero", func(t *Table) { t.SectorSize = 0 }, []string{"sector size 0"}},
		{"disk size", func(t *Table) { t.Size++ }, []string{"not a multiple of the sector size"}},
		{"tiny disk", func(t *Table) { t.Size = 32 << 10; t.Partitions = nil }, []string{"no room"}},
		{"negative disk", func(t *Table) { t.Size = -512; t.Partitions = nil }, []string{"no room"}},
		{"disk guid", func(t *Table) { t.Disk = GUID{} }, []string{"disk guid is zero"}},
		{"index 0", func(t *Table) { t.Partitions[0].Index = 0 }, []string{"partition 0 (esp): index"}},
		{"index 129", func(t *Table) { t.Partitions[0].Index = 129 }, []string{"index is not in 1..128"}},
		{"index twice", func(t *Table) { t.Partitions[1].Index = 1 }, []string{"partition 1 (slot-a): index is used twice"}},
		{"name twice", func(t *Table) { t.Partitions[2].Name = "esp" }, []string{"name is used twice"}},
		{"name empty", func(t *Table) { t.Partitions[2].Name = "" }, []string{"name is empty"}},
		{"name of 37 units", func(t *Table) { t.Partitions[2].Name = strings.Repeat("x", 37) }, []string{"longer than 36"}},
		{"name of 30 runes, 60 units", func(t *Table) { t.Partitions[2].Name = strings.Repeat("🧱", 30) }, []string{"longer than 36"}},
		{"name of 36 units", func(t *Table) { t.Partitions[2].Name = strings.Repeat("🧱", 18) }, nil},
		{"name with NUL", func(t *Table) { t.Partitions[2].Name = "a\x00b" }, []string{"not text"}},
		{"name not UTF-8", func(t *Table) { t.Partitions[2].Name = "a\xff" }, []string{"not text"}},
		{"type zero", func(t *Table) { t.Partitions[2].Type = GUID{} }, []string{"type guid is zero"}},
		{"guid zero", func(t *Table) { t.Partitions[2].GUID = GUID{} }, []string{"(slot-b): guid is zero"}},
		{"guid twice", func(t *Table) { t.Partitions[2].GUID = t.Partitions[0].GUID }, []string{"used twice"}},
		{"guid of the disk", func(t *Table) { t.Partitions[2].GUID = t.Disk }, []string{"used twice"}},
		{"unaligned", func(t *Table) { t.Partitions[0].Start += 4096; t.Partitions[0].Size -= 4096 }, []string{"multiple of 1 MiB"}},
		{"size 0", func(t *Table) { t.Partitions[0].Size = 0 }, []string{"positive multiple"}},
		{"size odd", func(t *Table) { t.Partitions[0].Size = 1000 }, []string{"positive multiple"}},
		{"start 0", func(t *Table) { t.Partitions[0].Start = 0 }, []string{"outside the usable area"}},
		{"start negative", func(t *Table) { t.Partitions[0].Start = -mib }, []string{"outside the usable area"}},
		{"past the end", func(t *Table) { t.Partitions[3].Size = 3 * mib }, []string{"outside the usable area"}},
		{"size overflows", func(t *Table) { t.Partitions[3].Size = 1<<63 - 512 }, []string{"outside the usable area"}},
		{"overlap", func(t *Table) { t.Partitions[0].Size = 5 * mib }, []string{"partition 2 (slot-a): starts at 5242880 inside partition 1 (esp)"}},
		{"overlap of one around two", func(t *Table) { t.Partitions[0].Size = 13 * mib },
			[]string{"2 (slot-a): starts at 5242880 inside partition 1 (esp)", "3 (slot-b): starts at 13631488 inside partition 1 (esp)"}},
		{"all at once", func(t *Table) { t.Disk = GUID{}; t.Partitions[0].Name = ""; t.Partitions[1].Start++ },
			[]string{"disk guid", "name is empty", "multiple of 1 MiB"}},
	}
	for _, ss := range []int{512, 4096} {
		for _, tt := range tests {
			tab := testTable(ss, 24*mib)
			tt.change(&tab)
			err := tab.Validate()
			if (err == nil) != (len(tt.want) == 0) {
				t.Errorf("%d, %s: Validate() = %v", ss, tt.name, err)
			}
			for _, w := range tt.want {
				if err != nil && !strings.Contains(err.Error(), w) {
					t.Errorf("%d, %s: error %q does not say %q", ss, tt.name, err, w)
				}
			}
			if err != nil && tab.Write(memory{}) == nil {
				t.Errorf("%d, %s: Write accepts what Validate refuses", ss, tt.name)
			}
		}
	}
}

// memory is a disk held sparsely: sectors of 512 bytes by number.
type memory map[int64][512]byte

func (m memory) WriteAt(b []byte, off int64) (int, error) {
	for n := 0; n < len(b); {
		at := off + int64(n)
		s := m[at/512]
		n += copy(s[at%512:], b[n:])
		m[at/512] = s
	}
	return len(b), nil
}

func (m memory) ReadAt(b []byte, off int64) (int, error) {
	for n := 0; n < len(b); {
		at := off + int64(n)
		s := m[at/512]
		n += copy(b[n:], s[at%512:])
	}
	return len(b), nil
}

func TestRoundTrip(t *testing.T) {
	for _, ss := range []int{512, 4096} {
		for _, size := range []int64{24 * mib, 24*mib + 4096, 3 << 40} {
			want, disk := testTable(ss, size), memory{}
			if err := want.Write(disk); err != nil {
				t.Fatal(err)
			}
			got, info, err := Read(disk, size)
			if err != nil || info.Primary != nil || info.Backup != nil || info.FromBackup {
				t.Fatalf("Read at %d, %d bytes: %+v, %v", ss, size, info, err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("at %d, %d bytes (-want +got):\n%s", ss, size, d)
			}
			if info.BackupOffset != size-int64(ss) {
				t.Errorf("backup at %d, want the last sector of %d", info.BackupOffset, size)
			}
		}
	}
}

// UEFI table 5.4: SizeInLBA is 0xFFFFFFFF where the disk is too large for the field.
func TestProtectiveMBROfLargeDisk(t *testing.T) {
	for _, tt := range []struct {
		size int64
		want uint32
	}{{24 * mib, 24*2048 - 1}, {2 << 40, 0xffffffff}, {3 << 40, 0xffffffff}} {
		disk := memory{}
		if err := testTable(512, tt.size).Write(disk); err != nil {
			t.Fatal(err)
		}
		first := disk[0]
		if got := binary.LittleEndian.Uint32(first[mbrOffset+12:]); got != tt.want {
			t.Errorf("SizeInLBA of %d bytes = %#x, want %#x", tt.size, got, tt.want)
		}
	}
}

func TestReadDamaged(t *testing.T) {
	const size = 24 * mib
	for _, ss := range []int64{512, 4096} {
		fresh := func() memory {
			m := memory{}
			if err := testTable(int(ss), size).Write(m); err != nil {
				t.Fatal(err)
			}
			return m
		}
		flip := func(m memory, off int64) {
			var b [1]byte
			m.ReadAt(b[:], off)
			b[0] ^= 0x55
			m.WriteAt(b[:], off)
		}
		for _, off := range []int64{ss, ss + 20, ss + 16, ss + 40, ss + 60, ss + 88, 2 * ss, 2*ss + 6*128 + 127} {
			m := fresh()
			flip(m, off)
			got, info, err := Read(m, size)
			if err != nil || !info.FromBackup || info.Primary == nil {
				t.Fatalf("%d: damage at %d: %+v, %v", ss, off, info, err)
			}
			if d := cmp.Diff(testTable(int(ss), size), got); d != "" {
				t.Errorf("%d: backup (-want +got):\n%s", ss, d)
			}
			flip(m, size-ss+24) // MyLBA of the backup
			if _, _, err = Read(m, size); err == nil {
				t.Errorf("%d: damage at %d and in the backup: no error", ss, off)
			}
		}
		m := fresh()
		flip(m, size-ss-1) // last byte of the backup array
		_, info, err := Read(m, size)
		var fe *FormatError
		if err != nil || info.FromBackup || !errors.As(info.Backup, &fe) || fe.Field != "PartitionEntryArrayCRC32" {
			t.Errorf("%d: damaged backup: %+v, %v", ss, info, err)
		}
	}
}

func TestReadNothing(t *testing.T) {
	for _, size := range []int64{0, 1, 511, 512, 1024, 5000, mib} {
		if _, _, err := Read(memory{}, size); !errors.Is(err, ErrNoTable) {
			t.Errorf("Read of %d zero bytes = %v, want ErrNoTable", size, err)
		}
	}
}

// An image that was copied to a larger disk has its backup copy in the middle.
func TestReadOnLargerDisk(t *testing.T) {
	m := memory{}
	if err := testTable(512, 24*mib).Write(m); err != nil {
		t.Fatal(err)
	}
	got, info, err := Read(m, 64*mib)
	if err != nil || info.Backup != nil || info.BackupOffset != 24*mib-512 || got.Size != 64*mib {
		t.Fatalf("Read = size %d, %+v, %v", got.Size, info, err)
	}
	if _, _, err = Read(m, 22*mib); err == nil {
		t.Error("image cut inside a partition: no error")
	}
}

func TestGrow(t *testing.T) {
	old := testTable(512, 24*mib)
	got, err := Grow(old, 100*mib+512, true)
	if err != nil {
		t.Fatal(err)
	}
	// The backup copy takes 33 sectors and only one lies behind 100 MiB.
	if p := got.Partitions[3]; p.End() != 99*mib {
		t.Errorf("grown partition ends at %d, want 99 MiB", p.End())
	}
	if d := cmp.Diff(old.Partitions[:3], got.Partitions[:3]); d != "" {
		t.Errorf("Grow changed other partitions:\n%s", d)
	}
	if old.Partitions[3].Size != 2*mib {
		t.Error("Grow changed its argument")
	}
	if moved, err := Grow(old, 100*mib, false); err != nil || moved.Partitions[3].Size != 2*mib || moved.Size != 100*mib {
		t.Errorf("Grow without growLast = %+v, %v", moved, err)
	}
	if _, err := Grow(old, 22*mib, true); err == nil || !strings.Contains(err.Error(), "outside the usable area") {
		t.Errorf("Grow to less than the partitions need = %v", err)
	}
}
