package gpt

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"
)

// seal makes both checksums of the header at byte off right again.
func seal(m memory, off, array int64) {
	b := make([]byte, arraySize)
	m.ReadAt(b, array)
	h := make([]byte, headerSize)
	m.ReadAt(h, off)
	binary.LittleEndian.PutUint32(h[88:], crc32.ChecksumIEEE(b))
	clear(h[16:20])
	binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h))
	m.WriteAt(h, off)
}

func le64(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }
func le32(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }

// Every field with a wrong value under right checksums is named, with its offset.
func TestReadNamesTheField(t *testing.T) {
	const size, ss = 24 * mib, 512
	const sectors = size / ss
	tests := []struct {
		name  string
		off   int64 // where value is put
		value []byte
		field string
		at    int64 // offset in the error
	}{
		{"revision 2.0", ss + 8, le32(0x00020000), "Revision", ss + 8},
		{"header too short", ss + 12, le32(91), "HeaderSize", ss + 12},
		{"header longer than a sector", ss + 12, le32(513), "HeaderSize", ss + 12},
		{"header size of all ones", ss + 12, le32(1<<32 - 1), "HeaderSize", ss + 12},
		{"says it is elsewhere", ss + 24, le64(2), "MyLBA", ss + 24},
		{"first usable 0", ss + 40, le64(0), "FirstUsableLBA", ss + 40},
		{"first usable behind last", ss + 40, le64(sectors), "FirstUsableLBA", ss + 40},
		{"last usable beyond the disk", ss + 48, le64(sectors), "LastUsableLBA", ss + 48},
		{"entries beyond the disk", ss + 72, le64(sectors - 31), "PartitionEntryLBA", ss + 72},
		{"entries at the end of all numbers", ss + 72, le64(1<<64 - 1), "PartitionEntryLBA", ss + 72},
		{"entries of 0 bytes", ss + 84, le32(0), "SizeOfPartitionEntry", ss + 84},
		{"entries of 100 bytes", ss + 84, le32(100), "SizeOfPartitionEntry", ss + 84},
		{"entries of 384 bytes", ss + 84, le32(384), "SizeOfPartitionEntry", ss + 84},
		{"8193 entries", ss + 80, le32(8193), "NumberOfPartitionEntries", ss + 80},
		{"entries of 2 GiB", ss + 84, le32(1 << 31), "NumberOfPartitionEntries", ss + 80},
		{"as many entries as there can be", ss + 80, le32(1<<32 - 1), "NumberOfPartitionEntries", ss + 80},
		{"partition starts in the table", 2*ss + 32, le64(33), "StartingLBA", 2*ss + 32},
		{"partition ends before it starts", 2*ss + 40, le64(2047), "StartingLBA", 2*ss + 32},
		{"partition ends in the backup", 2*ss + 40, le64(sectors - 33), "StartingLBA", 2*ss + 32},
		{"partition ends beyond all numbers", 2*ss + 40, le64(1<<64 - 1), "StartingLBA", 2*ss + 32},
		{"third partition", 2*ss + 2*128 + 40, le64(sectors), "StartingLBA", 2*ss + 2*128 + 32},
	}
	for _, tt := range tests {
		m := memory{}
		if err := testTable(ss, size).Write(m); err != nil {
			t.Fatal(err)
		}
		m.WriteAt(tt.value, tt.off)
		seal(m, ss, 2*ss)
		_, info, err := Read(m, size)
		var got *FormatError
		if err != nil || !info.FromBackup || !errors.As(info.Primary, &got) || got.Field != tt.field || got.Off != tt.at {
			t.Errorf("%s: %+v, %v, want %s at %d", tt.name, info, err, tt.field, tt.at)
		}
	}
}

func TestReadComparesCopies(t *testing.T) {
	const size, ss = 24 * mib, 512
	for name, off := range map[string]int64{"disk guid": size - ss + 56, "entry name": size - 33*ss + 56} {
		m := memory{}
		if err := testTable(ss, size).Write(m); err != nil {
			t.Fatal(err)
		}
		m.WriteAt([]byte{0x7a}, off)
		seal(m, size-ss, size-33*ss)
		_, info, err := Read(m, size)
		var got *FormatError
		if err != nil || info.FromBackup || !errors.As(info.Backup, &got) || got.Msg != "differs from the primary copy" {
			t.Errorf("%s differs: %+v, %v", name, info, err)
		}
	}
	m := memory{}
	if err := testTable(ss, size).Write(m); err != nil {
		t.Fatal(err)
	}
	m.WriteAt(le64(1<<64-1), ss+32)
	seal(m, ss, 2*ss)
	_, info, err := Read(m, size)
	var got *FormatError
	if err != nil || !errors.As(info.Backup, &got) || got.Field != "AlternateLBA" || info.BackupOffset != -1 {
		t.Errorf("alternate beyond the disk: %+v, %v", info, err)
	}
}
