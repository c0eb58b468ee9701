package slot

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// device is a slot behind a volatile cache: what is not flushed is not read
// back, as with O_DIRECT after a cut.
type device struct {
	durable, cache []byte
	ops            []string
	rots           int64 // this byte does not keep what is written; 0 = none
	writes         int   // that succeed; 0 = all
}

func newDevice(n int) *device {
	old := bytes.Repeat([]byte{0xcc}, n)
	return &device{durable: bytes.Clone(old), cache: old}
}

func (d *device) ReadAt(b []byte, off int64) (int, error) {
	if len(d.ops) == 0 || !strings.HasPrefix(d.ops[len(d.ops)-1], "read") {
		d.ops = append(d.ops, fmt.Sprintf("read from %d", off))
	}
	return memory(d.durable).ReadAt(b, off)
}

func (d *device) WriteAt(b []byte, off int64) (int, error) {
	if d.writes > 0 {
		if d.writes--; d.writes == 0 {
			return 0, errors.New("no power")
		}
	}
	what := "data"
	if bytes.Count(b, []byte{0}) == len(b) {
		what = "zeros"
	}
	d.ops = append(d.ops, fmt.Sprintf("write %d %s at %d", len(b), what, off))
	return copy(d.cache[off:], b), nil
}

func (d *device) Sync() error {
	d.ops = append(d.ops, "sync")
	copy(d.durable, d.cache)
	if d.rots > 0 {
		d.durable[d.rots] ^= 1
	}
	return nil
}

func image() []byte {
	b := make([]byte, 2<<20+8192)
	for i := range b {
		b[i] = byte(i*7 + i>>9 + 1)
	}
	return b
}

func TestWrite(t *testing.T) {
	img := image()
	d := newDevice(len(img) + 4096)
	w := Writing{Size: int64(len(img)), Digest: sha256.Sum256(img)}
	if err := w.Write(d, bytes.NewReader(img)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(d.durable[:len(img)], img) {
		t.Error("the slot differs from the image")
	}
	want := []string{
		"write 4096 zeros at 0", "sync",
		"write 1044480 data at 4096", "write 1048576 data at 1048576", "write 8192 data at 2097152", "sync",
		"read from 4096", "write 4096 data at 0", "sync", "read from 0",
	}
	if d := cmp.Diff(want, d.ops); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// What goes wrong leaves no file system behind, and can be resumed.
func TestWriteFails(t *testing.T) {
	img := image()
	w := Writing{Size: int64(len(img)), Digest: sha256.Sum256(img)}
	for name, tt := range map[string]struct {
		change func(d *device, w *Writing, img *[]byte)
		want   string
	}{
		"other bytes":    {func(_ *device, w *Writing, _ *[]byte) { w.Digest[0] ^= 1 }, "digest differs"},
		"flipped bit":    {func(d *device, _ *Writing, _ *[]byte) { d.rots = 1500000 }, "digest differs"},
		"flipped header": {func(_ *device, _ *Writing, img *[]byte) { *img = bytes.Clone(*img); (*img)[7] ^= 1 }, "digest differs"},
		"short image":    {func(_ *device, _ *Writing, img *[]byte) { *img = (*img)[:1500000] }, "read image, offset 1048576"},
		"cut":            {func(d *device, _ *Writing, _ *[]byte) { d.writes = 3 }, "write slot, offset 1048576"},
		"tiny":           {func(_ *device, w *Writing, _ *[]byte) { w.Size = 100 }, "image of 100 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			d, w, img := newDevice(len(img)), w, img
			tt.change(d, &w, &img)
			err := w.Write(d, bytes.NewReader(img))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("Write = %v, want %q", err, tt.want)
			}
			if head := d.durable[:HeaderSize]; bytes.Equal(head, img[:HeaderSize]) {
				t.Error("the header was written")
			}
		})
	}
}

func TestWriteResumes(t *testing.T) {
	img := image()
	d := newDevice(len(img))
	w := Writing{Size: int64(len(img)), Digest: sha256.Sum256(img)}
	d.writes = 4
	if err := w.Write(d, bytes.NewReader(img)); err == nil {
		t.Fatal("no cut")
	}
	_ = d.Sync()
	w.From = 2 << 20
	rest := append(bytes.Clone(img[:HeaderSize]), img[w.From:]...)
	if err := w.Write(d, bytes.NewReader(rest)); err != nil || !bytes.Equal(d.durable, img) {
		t.Errorf("resumed: %v", err)
	}
	d = newDevice(len(img)) // nothing was written before: the digest tells
	if err := w.Write(d, bytes.NewReader(rest)); !errors.Is(err, ErrDigest) {
		t.Errorf("Write = %v, want ErrDigest", err)
	}
}
