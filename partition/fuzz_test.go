package partition

import (
	"bytes"
	"testing"

	"github.com/ingot-os/ingot/partition/gpt"
)

// FuzzRead recognises and draws hostile disks; the table behind the checksums
// is fuzzed in package gpt, so here the fields of a valid one vary.
func FuzzRead(f *testing.F) {
	f.Add(uint8(0), "esp", int64(mib), int64(2*mib), uint8(1))
	f.Add(uint8(5), "state", int64(9*mib), int64(16*mib), uint8(6))
	f.Add(uint8(6), "data", int64(1<<62), int64(-1), uint8(200))
	f.Fuzz(func(t *testing.T, which uint8, name string, start, size int64, index uint8) {
		l, err := Plan(small())
		if err != nil {
			t.Fatal(err)
		}
		table := l.Table()
		p := &table.Partitions[int(which)%len(table.Partitions)]
		p.Name, p.Start, p.Size, p.Index = name, start, size, int(index)
		d := &disk{b: make([]byte, table.Size)}
		if table.Write(d) != nil {
			return
		}
		found, _, err := gpt.Read(bytes.NewReader(d.b), table.Size)
		if err != nil {
			t.Fatalf("valid table cannot be read: %v", err)
		}
		if got, err := FromTable(found); err == nil && len(Picture(got, int(which))) == 0 {
			t.Error("no picture")
		}
	})
}
