package partition

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/partition/gpt"
	"github.com/ingot-os/ingot/partition/tree"
)

// disk is a Target in memory that remembers the order of writes.
type disk struct {
	b    []byte
	offs []int64
}

func (d *disk) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > int64(len(d.b)) {
		return 0, io.ErrShortWrite
	}
	d.offs = append(d.offs, off)
	return copy(d.b[off:], p), nil
}

func noise(n int, seed byte) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func TestWriteAndRead(t *testing.T) {
	for _, ss := range []int{512, 4096} {
		s := small()
		s.SectorSize = ss
		s.Root = mib
		l := plan(t, s)
		d := &disk{b: make([]byte, l.Size)}
		slot := noise(3*mib, 1)
		sparse := noise(2*mib, 2)
		clear(sparse[5000 : mib+77])
		err := Write(d, l, map[string]Content{SlotA: Blob(tree.Bytes(slot)), SlotB: Blob(tree.Bytes(slot)), ESP: Blob(tree.Bytes(sparse))})
		if err != nil {
			t.Fatal(err)
		}
		got, err := Read(bytes.NewReader(d.b), l.Size)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(l, got); diff != "" {
			t.Errorf("Read (-want +got):\n%s", diff)
		}
		for role, want := range map[string][]byte{ESP: sparse, SlotA: slot, SlotB: slot, State: make([]byte, 16*mib), Data: make([]byte, 4*mib)} {
			p, _ := l.Part(role)
			b, err := io.ReadAll(p.Section(bytes.NewReader(d.b)))
			if err != nil || !bytes.Equal(b, want) {
				t.Errorf("content of %s differs, %v", role, err)
			}
		}
		checkOrder(t, d, l)
	}
}

// checkOrder wants zeros skipped, and the partition table last.
func checkOrder(t *testing.T, d *disk, l Layout) {
	t.Helper()
	esp, _ := l.Part(ESP)
	for i, off := range d.offs {
		if off >= esp.Start+8192 && off < esp.Start+mib {
			t.Errorf("write at %d, where the content is zero", off)
		}
		if inTable := off < mib || off >= l.Size-mib; inTable != (i >= len(d.offs)-5) {
			t.Errorf("write %d of %d goes to offset %d", i, len(d.offs), off)
		}
	}
}

func TestBlobKeepsHoles(t *testing.T) {
	for _, n := range []int{0, 1, 4095, 4096, 4097, 8192, mib, mib + 1, 2*mib + 4095} {
		for seed := range byte(4) {
			want := noise(n, seed)
			for at := 0; at < n; at += 4096 {
				if want[at]%2 == 0 {
					clear(want[at:min(at+4096, n)])
				}
			}
			d := &disk{b: make([]byte, 3*mib)}
			if err := Blob(tree.Bytes(want)).Fill(d, 3*mib); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(d.b[:n], want) || bytes.Count(d.b[n:], []byte{0}) != 3*mib-n {
				t.Errorf("%d bytes, seed %d: copy differs", n, seed)
			}
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	l := plan(t, small())
	boom := errors.New("boom")
	broken := l
	broken.Parts = append([]Part(nil), l.Parts...)
	broken.Parts[1].Start += mib
	tests := []struct {
		name     string
		layout   Layout
		contents map[string]Content
		want     string
	}{
		{"unknown role", l, map[string]Content{"swap": Blob(tree.Bytes{})}, `no partition "swap"`},
		{"no root in this layout", l, map[string]Content{RootA: Blob(tree.Bytes{})}, `no partition "root-a"`},
		{"too large", l, map[string]Content{SlotB: Blob(tree.Bytes(make([]byte, 3*mib+1)))}, "write partition 3 (slot-b): content of 3145729 bytes"},
		{"beyond the end", l, map[string]Content{ESP: ContentFunc(func(w io.WriterAt, size int64) error {
			_, err := w.WriteAt(make([]byte, 2), size-1)
			return err
		})}, "partition esp ends at 2097152"},
		{"before the start", l, map[string]Content{ESP: ContentFunc(func(w io.WriterAt, _ int64) error {
			_, err := w.WriteAt(make([]byte, 2), -1)
			return err
		})}, "at offset -1"},
		{"content fails", l, map[string]Content{ESP: ContentFunc(func(io.WriterAt, int64) error { return boom })}, "write partition 1 (esp): boom"},
		{"overlap", broken, nil, "inside partition"},
	}
	for _, tt := range tests {
		d := &disk{b: make([]byte, l.Size)}
		err := Write(d, tt.layout, tt.contents)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: Write = %v, want %q", tt.name, err, tt.want)
		}
		if _, err := Read(bytes.NewReader(d.b), l.Size); !errors.Is(err, gpt.ErrNoTable) {
			t.Errorf("%s: left a partition table behind: %v", tt.name, err)
		}
	}
}

func TestFromTableRefusesForeignDisks(t *testing.T) {
	tests := []struct {
		name   string
		change func(*gpt.Table)
		want   string
	}{
		{"other type", func(t *gpt.Table) { t.Partitions[1].Type = gpt.TypeESP }, "partition 2 has type"},
		{"other name", func(t *gpt.Table) { t.Partitions[1].Name = "boot" }, `partition 2 is named "boot"`},
		{"state missing", func(t *gpt.Table) { t.Partitions = append(t.Partitions[:3:3], t.Partitions[4]) }, "no partition state"},
		{"one more", func(t *gpt.Table) { t.Partitions[4].Index = 8 }, "partition 8 is none of 1..7"},
		{"number 0", func(t *gpt.Table) { t.Partitions[4].Index = 0 }, "partition 0 is none of 1..7"},
		{"slots differ", func(t *gpt.Table) { t.Partitions[2].Size -= mib }, "slots have 3145728 and 2097152"},
		{"state too small", func(t *gpt.Table) { t.Partitions[3].Size -= mib }, "state has 15728640"},
		{"odd size", func(t *gpt.Table) { t.Partitions[0].Size -= 4096 }, "want whole MiB"},
		{"order", func(t *gpt.Table) {
			p := t.Partitions
			p[1].Start, p[2].Start = p[2].Start, p[1].Start
		}, "partition 3 lies before partition 2"},
		{"overlap", func(t *gpt.Table) { t.Partitions[0].Size += mib }, "inside partition"},
	}
	for _, tt := range tests {
		table := plan(t, small()).Table()
		tt.change(&table)
		_, err := FromTable(table)
		if !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: FromTable = %v, want %q", tt.name, err, tt.want)
		}
	}
}
