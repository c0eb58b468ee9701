package depot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/ingot-os/ingot/internal/delta"
)

const (
	start = 1 << 20
	size  = 4 << 20
)

// body is what a slot holds: it does not compress; a variant differs in some bytes.
func body(seed, variant byte) []byte {
	b := make([]byte, 1<<20+777)
	src := rand.NewChaCha8([32]byte{seed})
	_, _ = src.Read(b)
	b[len(b)-1] = 1
	b[5000] = variant
	return b
}

// image writes an image with a partition, and describes that.
func image(t testing.TB, path string, content []byte) Part {
	t.Helper()
	disk := make([]byte, start+size+512)
	copy(disk, "not of the partition")
	copy(disk[start:], content)
	copy(disk[start+size:], "nor this")
	if err := os.WriteFile(path, disk, 0o644); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(disk[start : start+size])
	return Part{path, start, size, hex.EncodeToString(sum[:])}
}

func depot(t testing.TB, o Options) *Depot {
	t.Helper()
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Retain(nil) })
	return d
}

func read(d *Depot, p Part) ([]byte, error) {
	o, err := d.Open(context.Background(), p)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	return io.ReadAll(io.NewSectionReader(o, 0, o.Used))
}

// TestOpen: the bytes of the partition, without the zeros at its end, and
// nothing that differs from the manifest.
func TestOpen(t *testing.T) {
	dir := t.TempDir()
	d := depot(t, Options{})
	for name, content := range map[string][]byte{"random": body(1, 0), "nothing": nil, "one byte": {7}, "full": bytes.Repeat([]byte{1}, size),
		"zeros inside": append(make([]byte, 3<<20), 1), "to the last byte": append(make([]byte, size-1), 9), "odd": append(make([]byte, 1<<20-3), 1, 2, 3, 4)} {
		p := image(t, filepath.Join(dir, name), content)
		if got, err := read(d, p); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %d bytes, %v; want %d", name, len(got), err, len(content))
		}
	}
	p := image(t, filepath.Join(dir, "x"), body(1, 0))
	for name, change := range map[string]func(*Part){
		"another digest": func(p *Part) { p.SHA256 = strings.Repeat("0", 64) }, "another place": func(p *Part) { p.Start++ },
		"beyond the end": func(p *Part) { p.Start = 1 << 40 }, "overflow": func(p *Part) { p.Start, p.Size = 1<<62, 1<<62 }, "negative": func(p *Part) { p.Start = -1 },
	} {
		q := p
		change(&q)
		if _, err := read(d, q); !errors.Is(err, ErrDiffers) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := read(d, Part{Path: filepath.Join(dir, "none")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := read(d, Part{Path: dir}); err == nil {
		t.Error("a directory")
	}
	o, err := d.Open(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	b := make([]byte, 600)
	if n, err := o.ReadAt(b, size-100); n != 100 || err != io.EOF {
		t.Errorf("at the end of the partition: %d, %v", n, err)
	}
	if _, err := o.ReadAt(b, size+1); err == nil {
		t.Error("beyond it")
	}
}

// TestChanged: what is changed under the server is not served, neither to who
// reads it already nor to who comes later; what is good again is.
func TestChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.img")
	p := image(t, path, body(1, 0))
	d := depot(t, Options{})
	o, err := d.Open(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	poke := func(b byte) {
		t.Helper()
		time.Sleep(10 * time.Millisecond) // times of files are those of the kernel's tick
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt([]byte{b}, start+5000); err != nil {
			t.Fatal(err)
		}
	}
	poke(9)
	if _, err := o.ReadAt(make([]byte, 10), 0); !errors.Is(err, ErrChanged) {
		t.Errorf("who reads it: %v", err)
	}
	if _, err := read(d, p); !errors.Is(err, ErrDiffers) {
		t.Errorf("who comes later: %v", err)
	}
	poke(0)
	if got, err := read(d, p); err != nil || !bytes.Equal(got, body(1, 0)) {
		t.Errorf("as it was: %v", err)
	}
}

// TestReplaced: who reads a file that is replaced by another is told so, and who
// comes later gets the new one.
func TestReplaced(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.img")
	p := image(t, path, body(1, 0))
	d := depot(t, Options{})
	o, err := d.Open(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	q := image(t, filepath.Join(dir, "new"), body(2, 0))
	if err := os.Rename(q.Path, path); err != nil {
		t.Fatal(err)
	}
	if _, err := read(d, p); !errors.Is(err, ErrDiffers) {
		t.Errorf("the old manifest over the new file: %v", err)
	}
	q.Path = path
	if got, err := read(d, q); err != nil || !bytes.Equal(got, body(2, 0)) {
		t.Errorf("the new one: %v", err)
	}
	d.Retain(map[string]bool{})
	// Its inode has one name less, so its time of change is another: a reader is
	// told, and comes back for the new file.
	if _, err := o.ReadAt(make([]byte, 10), 0); !errors.Is(err, ErrChanged) {
		t.Errorf("who reads the old one: %v", err)
	}
	o.Close()
	if err := o.f.f.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the file is open still: %v", err)
	}
}

func apply(t testing.TB, f *os.File, old []byte) []byte {
	t.Helper()
	defer f.Close()
	r, err := delta.Open(bytes.NewReader(old), f, delta.Limits{Size: size})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func whole(content []byte) []byte { return append(content, make([]byte, size-len(content))...) }

// TestPatch: a patch is made once, kept over a restart, and leads to the target.
func TestPatch(t *testing.T) {
	dir := t.TempDir()
	old, next := image(t, filepath.Join(dir, "old"), body(1, 0)), image(t, filepath.Join(dir, "next"), body(1, 5))
	foreign := image(t, filepath.Join(dir, "foreign"), body(3, 0))
	o := Options{Dir: filepath.Join(dir, "deltas")}
	d := depot(t, o)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			f, n, err := d.Patch(context.Background(), old, next)
			if err != nil {
				t.Error(err)
				return
			}
			if got := apply(t, f, whole(body(1, 0))); n > 10_000 || !bytes.Equal(got, whole(body(1, 5))) {
				t.Errorf("%d bytes of patch lead to another image", n)
			}
		})
	}
	all.Wait()
	kept := func() (names []string, stamp time.Time) {
		list, err := os.ReadDir(o.Dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			names = append(names, e.Name())
		}
		return names, stamp
	}
	if names, _ := kept(); len(names) != 1 || names[0] != old.SHA256+"-"+next.SHA256+".delta" {
		t.Errorf("kept: %q", names)
	}
	if _, _, err := d.Patch(context.Background(), foreign, next); !errors.Is(err, ErrNoPatch) {
		t.Errorf("a patch as large as the whole: %v", err)
	}
	if err := os.WriteFile(filepath.Join(o.Dir, temporary+"1"), []byte("cut"), 0o600); err != nil {
		t.Fatal(err)
	}
	again := depot(t, o) // whose images are gone
	for _, p := range []Part{old, next, foreign} {
		os.Remove(p.Path)
	}
	if f, _, err := again.Patch(context.Background(), old, next); err != nil {
		t.Errorf("after a restart: %v", err)
	} else if !bytes.Equal(apply(t, f, whole(body(1, 0))), whole(body(1, 5))) {
		t.Error("after a restart: another image")
	}
	if _, _, err := again.Patch(context.Background(), foreign, next); !errors.Is(err, ErrNoPatch) {
		t.Errorf("that none pays is forgotten: %v", err)
	}
	if names, _ := kept(); len(names) != 2 {
		t.Errorf("kept: %q", names)
	}
	if _, _, err := again.Patch(context.Background(), next, old); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no image: %v", err)
	}
	if _, _, err := depot(t, Options{}).Patch(context.Background(), old, next); !errors.Is(err, ErrNoPatch) {
		t.Errorf("no directory: %v", err)
	}
}

// TestPatchOfChanged: no patch is made of a file that is not what its manifest says.
func TestPatchOfChanged(t *testing.T) {
	dir := t.TempDir()
	old, next := image(t, filepath.Join(dir, "old"), body(1, 0)), image(t, filepath.Join(dir, "next"), body(1, 5))
	old.SHA256 = strings.Repeat("0", 64)
	d := depot(t, Options{Dir: filepath.Join(dir, "deltas")})
	if _, _, err := d.Patch(context.Background(), old, next); !errors.Is(err, ErrDiffers) {
		t.Errorf("%v", err)
	}
	if list, _ := os.ReadDir(filepath.Join(dir, "deltas")); len(list) != 0 {
		t.Errorf("kept: %v", list)
	}
}

// TestPatchWaits: who does not wait is told so, and the patch is made; more than
// some are not taken on.
func TestPatchWaits(t *testing.T) {
	dir := t.TempDir()
	old, next := image(t, filepath.Join(dir, "old"), body(1, 0)), image(t, filepath.Join(dir, "next"), body(1, 5))
	d := depot(t, Options{Dir: filepath.Join(dir, "deltas")})
	d.patches.turn <- struct{}{} // something is being made
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := d.Patch(gone, old, next); !errors.Is(err, ErrMaking) {
		t.Errorf("%v", err)
	}
	for i := range maxWaiting {
		p := old
		p.SHA256 = fmt.Sprintf("%064x", i)
		if _, _, err := d.Patch(gone, p, next); !errors.Is(err, ErrMaking) {
			t.Errorf("%v", err)
		}
	}
	d.patches.mu.Lock()
	if n := len(d.patches.making); n != maxWaiting {
		t.Errorf("%d wait", n)
	}
	d.patches.mu.Unlock()
	<-d.patches.turn
	f, _, err := d.Patch(context.Background(), old, next)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

// TestTrim: patches are bounded by number and size, and the longest unused go.
func TestTrim(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, n int, age time.Duration) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, make([]byte, n), 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(-age)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	write("a.delta", 10, 3*time.Hour)
	write("b.delta", 10, 2*time.Hour)
	write("c.delta", 10, time.Hour)
	write("other", 1000, 9*time.Hour)
	names := func() (s string) {
		list, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			s += e.Name() + " "
		}
		return s
	}
	d := depot(t, Options{Dir: dir, Count: 3, Bytes: 1000})
	if got := names(); got != "a.delta b.delta c.delta other " {
		t.Errorf("nothing is too much: %s", got)
	}
	if f, _, err := d.patches.open("a.delta"); err != nil { // used: b is the oldest now
		t.Error(err)
	} else {
		f.Close()
	}
	depot(t, Options{Dir: dir, Count: 2, Bytes: 1000})
	if got := names(); got != "a.delta c.delta other " {
		t.Errorf("two: %s", got)
	}
	d.patches.bytes = 5
	if err := d.patches.trim("c.delta"); err != nil {
		t.Error(err)
	}
	if got := names(); got != "c.delta other " {
		t.Errorf("five bytes, and one just made: %s", got)
	}
}

// TestEncoder: what machines get can be read with a window of 1 MiB.
func TestEncoder(t *testing.T) {
	var b bytes.Buffer
	e, err := NewEncoder(&b)
	if err != nil {
		t.Fatal(err)
	}
	content := bytes.Repeat([]byte("a slot "), 1<<20)
	if _, err := e.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := zstd.NewReader(&b, zstd.WithDecoderMaxWindow(window))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// TestLinkedMeanwhile: a hard link, which a backup makes while the file is read, is a
// change, so it is read again; one that never comes to rest is not served.
func TestLinkedMeanwhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image")
	const long = 256 << 20 // some 150 ms of SHA-256 at least
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(long), f.Close()); err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	if _, err := io.CopyN(sum, zeros{}, long); err != nil {
		t.Fatal(err)
	}
	p := Part{Path: path, Size: long, SHA256: hex.EncodeToString(sum.Sum(nil))}
	time.Sleep(2 * tick)
	for _, tt := range []struct {
		links int
		want  error
	}{{1, nil}, {1000, ErrChanged}} {
		d := depot(t, Options{})
		done := make(chan error, 1)
		go func() {
			o, err := d.Open(context.Background(), p)
			if err == nil {
				o.Close()
			}
			done <- err
		}()
		got, n := error(nil), 0
		for at := time.NewTicker(2 * tick); n >= 0; {
			select {
			case got = <-done:
				n = -1
			case <-at.C:
				if n++; n <= tt.links {
					if err := errors.Join(os.Link(path, path+".link"), os.Remove(path+".link")); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		if !errors.Is(got, tt.want) {
			t.Errorf("%d links: %v", tt.links, got)
		}
	}
}

// zeros is zeros without end.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
