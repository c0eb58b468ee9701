package blocks

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

func sample() []byte {
	b := make([]byte, 10*1000+300)
	b[0], b[2999], b[7000], b[len(b)-1] = 1, 2, 3, 4
	return b
}

func TestEachLeavesZerosOutWhateverTheHoles(t *testing.T) {
	disk := sample()
	for _, data := range [][]Range{nil, {{0, 10300}}, {{0, 1}, {2900, 3000}, {5000, 7100}, {10200, 10300}}, {{0, 1}, {1, 3000}, {7000, 7001}, {10299, 10300}}} {
		var got []int64
		err := Disk{bytes.NewReader(disk), int64(len(disk)), data}.Each(1000, func(i int64, b []byte) error {
			got = append(got, i)
			want := make([]byte, 1000)
			copy(want, disk[i*1000:])
			if !bytes.Equal(b, want) {
				t.Errorf("block %d differs", i)
			}
			return nil
		})
		if err != nil || !slices.Equal(got, []int64{0, 2, 7, 10}) {
			t.Errorf("data %v: got blocks %v, %v", data, got, err)
		}
	}
}

func TestPackKeepsOrderForAnyWorkers(t *testing.T) {
	disk := make([]byte, 500*100)
	for i := range disk {
		disk[i] = byte(i / 100)
	}
	double := func() (Packer, error) {
		return func(dst, b []byte) ([]byte, error) { return append(append(dst, b...), b...), nil }, nil
	}
	var first []byte
	for _, workers := range []int{1, 2, 3, 16, 0} {
		var got []byte
		err := Disk{R: bytes.NewReader(disk), Size: int64(len(disk))}.Pack(100, workers, double, func(i int64, b []byte) error {
			got = append(append(got, byte(i)), b...)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = got
		}
		if !bytes.Equal(got, first) || len(got) != (500-2)*201 { // blocks 0 and 256 are zero
			t.Errorf("%d workers: %d bytes, other than with one worker", workers, len(got))
		}
	}
}

func TestErrorsEndTheWork(t *testing.T) {
	disk := Disk{R: strings.NewReader(strings.Repeat("x", 5000)), Size: 9000}
	plain := func() (Packer, error) {
		return func(dst, b []byte) ([]byte, error) { return append(dst, b...), nil }, nil
	}
	if err := disk.Pack(100, 4, plain, func(int64, []byte) error { return nil }); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short disk: %v", err)
	}
	full := errors.New("full")
	if err := disk.Pack(100, 4, plain, func(i int64, _ []byte) error { return full }); err != full {
		t.Errorf("emit: %v", err)
	}
	bad := func() (Packer, error) {
		return func([]byte, []byte) ([]byte, error) { return nil, full }, nil
	}
	if err := disk.Pack(100, 4, bad, func(int64, []byte) error { t.Error("emitted"); return nil }); err != full {
		t.Errorf("pack: %v", err)
	}
	disk.Data = []Range{{0, 9001}}
	if err := disk.Each(100, func(int64, []byte) error { return nil }); err == nil {
		t.Error("range beyond the end is taken")
	}
}

func TestReadFull(t *testing.T) {
	b := make([]byte, 4)
	r := strings.NewReader("0123456789")
	if err := ReadFull(r, b, 6); err != nil || string(b) != "6789" { // up to the last byte
		t.Errorf("got %q, %v", b, err)
	}
	for _, off := range []int64{7, 10, 1 << 40} {
		if err := ReadFull(r, b, off); err != io.ErrUnexpectedEOF {
			t.Errorf("offset %d: %v", off, err)
		}
	}
	if err := ReadFull(r, b, -1); err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("offset -1: %v", err)
	}
}

func TestReadAt(t *testing.T) {
	disk := sample()
	read := func(i, within int64, b []byte) error { copy(b, disk[i*1000+within:]); return nil }
	for _, c := range []struct{ off, n int }{{0, 1}, {999, 2}, {0, 10300}, {2500, 3000}, {10299, 1}} {
		b := make([]byte, c.n)
		if n, err := ReadAt(b, int64(c.off), 10300, 1000, read); n != c.n || err != nil || !bytes.Equal(b, disk[c.off:c.off+c.n]) {
			t.Errorf("%+v: %d, %v", c, n, err)
		}
	}
	if n, err := ReadAt(make([]byte, 10), 10295, 10300, 1000, read); n != 5 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
	if _, err := ReadAt(make([]byte, 1), -1, 10300, 1000, read); err == nil {
		t.Error("negative offset is taken")
	}
}
