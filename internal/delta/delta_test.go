package delta

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
)

// images returns an image that does not compress and one that differs by a
// changed byte, a shift in the middle, and some new bytes; both end in zeros.
func images(used, size int) (old, new []byte) {
	old = make([]byte, size)
	src := rand.NewChaCha8([32]byte{1})
	_, _ = src.Read(old[:used])
	body := bytes.Clone(old[:used])
	body[used/3] ^= 0x40
	body = append(body[:used/2:used/2], append([]byte("one more line"), body[used/2:]...)...)
	extra := make([]byte, 500)
	_, _ = src.Read(extra)
	new = make([]byte, size)
	copy(new, append(body, extra...))
	return old, new
}

func mustMake(t testing.TB, old, new []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := Make(&b, Image{bytes.NewReader(old), int64(len(old))}, Image{bytes.NewReader(new), int64(len(new))}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func apply(old, patch []byte, size int) ([]byte, error) {
	r, err := Open(bytes.NewReader(old), bytes.NewReader(patch), Limits{Size: int64(size)})
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestStructSizes(t *testing.T) {
	if got := binary.Size(header{}); got != HeaderSize {
		t.Errorf("header has %d bytes, its documentation says %d", got, HeaderSize)
	}
}

func TestRoundTrip(t *testing.T) {
	big, changed := images(3<<20, 8<<20)
	tests := []struct {
		name     string
		old, new []byte
	}{
		{"changed", big, changed}, {"back", changed, big}, {"equal", big, big},
		{"from nothing", nil, big[:100]}, {"to nothing", big, nil}, {"to zeros", big, make([]byte, 5000)}, {"from zeros", make([]byte, 5000), big},
		{"shorter", big, big[:4096]}, {"one byte", []byte{1}, []byte{2}}, {"no zeros", big[:3<<20], changed[:3<<20]},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			patch := mustMake(t, tt.old, tt.new)
			if again := mustMake(t, tt.old, tt.new); !bytes.Equal(patch, again) {
				t.Error("two patches differ")
			}
			got, err := apply(tt.old, patch, 8<<20)
			if err != nil || !bytes.Equal(got, tt.new) {
				t.Errorf("%d bytes, %v; want %d", len(got), err, len(tt.new))
			}
		})
	}
}

// Weak levels of the encoder find no match this far back: a patch of them is as
// large as the image. This pins the level.
func TestLevel(t *testing.T) {
	old, new := images(12<<20, 16<<20)
	patch := mustMake(t, old, new)
	// The design wants 0.5 % for a changed line; this is three of them in 0.07 %.
	if n := len(patch); n > 8<<10 || float64(n) > 0.005*float64(12<<20) {
		t.Errorf("%d bytes for three small changes in 12 MiB", n)
	}
	if got, err := apply(old, patch, 16<<20); err != nil || !bytes.Equal(got, new) {
		t.Errorf("applied: %v", err)
	}
}

// changing gives other bytes when it is read for the second time.
type changing struct {
	b    []byte
	seen bool
}

func (c *changing) ReadAt(b []byte, off int64) (int, error) {
	n, err := bytes.NewReader(c.b).ReadAt(b, off)
	if off+int64(n) == int64(len(c.b)) {
		if c.seen {
			b[n-1] ^= 1
		}
		c.seen = true
	}
	return n, err
}

// Images are read twice. One that is written meanwhile makes no patch that says
// it is of the image that was read first.
func TestChanging(t *testing.T) {
	old, new := images(1<<20, 1<<20)
	for _, i := range []int{0, 1} {
		pair := []Image{{bytes.NewReader(old[:1<<20]), 1 << 20}, {bytes.NewReader(new), 1 << 20}}
		pair[i].ReaderAt = &changing{b: [][]byte{old, new}[i]}
		if _, err := Make(io.Discard, pair[0], pair[1]); err == nil || !strings.Contains(err.Error(), "it changed while it was read") {
			t.Errorf("image %d: %v", i, err)
		}
	}
}

func TestOtherBase(t *testing.T) {
	old, new := images(1<<20, 2<<20)
	patch := mustMake(t, old, new)
	for name, base := range map[string][]byte{"flipped": append([]byte{old[0] ^ 1}, old[1:]...), "short": old[:1000], "new": new} {
		if _, err := apply(base, patch, 2<<20); !errors.Is(err, ErrBase) {
			t.Errorf("%s: %v, want ErrBase", name, err)
		}
	}
}

func TestHostilePatch(t *testing.T) {
	old, new := images(1<<20, 2<<20)
	patch := mustMake(t, old, new)
	put := func(off int, v uint64) func(b []byte) []byte {
		return func(b []byte) []byte { binary.LittleEndian.PutUint64(b[off:], v); return b }
	}
	small := mustMake(t, old, make([]byte, 1<<20)) // all zeros: the frame is empty
	bomb := mustMake(t, old, append(bytes.Repeat([]byte{7}, 1<<20), 1))
	tests := []struct {
		name   string
		patch  []byte
		change func(b []byte) []byte
		want   string
	}{
		{"magic", patch, put(0, 1), "offset 0, magic"},
		{"old used", patch, put(16, 3<<20), "offset 16, old bytes"},
		{"negative", patch, put(32, 1<<63), "offset 32, new bytes"},
		{"reserved", patch, put(40, 1), "offset 40, reserved"},
		{"huge size", patch, put(24, 1<<40), "the slot has 2097152"},
		{"huge both", patch, func(b []byte) []byte { return put(24, 1<<40)(put(32, 1<<39)(b)) }, "too large for a delta"},
		{"short header", patch, func(b []byte) []byte { return b[:HeaderSize-1] }, "read patch header"},
		{"no frame", patch, func(b []byte) []byte { return b[:HeaderSize] }, "bytes are missing"},
		{"cut", patch, func(b []byte) []byte { return b[:len(b)-5] }, "read patch"},
		{"junk at the end", patch, func(b []byte) []byte { return append(b, "junk"...) }, "read patch"},
		{"two frames", patch, func(b []byte) []byte { return append(b, bomb[HeaderSize:]...) }, "read patch"},
		{"more than it names", bomb, put(32, 1000), "read patch"},
		{"less than it names", patch, put(32, 2<<20), "missing"},
		{"other digest", patch, func(b []byte) []byte { b[130] ^= 1; return b }, "digest differs"},
		{"flipped in the frame", patch, func(b []byte) []byte { b[len(b)-20] ^= 1; return b }, ""},
		{"empty frame, size", small, put(24, 2<<20), "digest differs"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := apply(old, tt.change(bytes.Clone(tt.patch)), 2<<20)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if len(got) > 2<<20 {
				t.Errorf("gave %d bytes", len(got))
			}
		})
	}
}

// Every bit of a small patch matters.
func TestEveryFlip(t *testing.T) {
	old, new := images(2000, 3000)
	patch := mustMake(t, old, new)
	want := sha256.Sum256(new)
	for i := range patch {
		b := bytes.Clone(patch)
		b[i] ^= 0x10
		// The old image's digest and size are for the caller to look at.
		if got, err := apply(old, b, 3000); err == nil && sha256.Sum256(got) != want {
			t.Errorf("byte %d: another image without an error", i)
		}
	}
}

func FuzzOpen(f *testing.F) {
	old, new := images(3000, 5000)
	f.Add(mustMake(f, old, new))
	f.Add(mustMake(f, old, old))
	f.Add([]byte(magic))
	want := sha256.Sum256(new)
	f.Fuzz(func(t *testing.T, patch []byte) {
		got, err := apply(old, patch, 5000)
		if len(got) > 5000 {
			t.Errorf("%d bytes", len(got))
		}
		if err == nil && len(patch) >= HeaderSize && Digest(patch[128:160]) == want && sha256.Sum256(got) != want {
			t.Error("another image without an error")
		}
	})
}

// weighed is an image with zeros at its end that take no memory. Each time that it is read it
// notes how much is in use then, without what only waits to be collected.
type weighed struct {
	head []byte
	size int64
	most *uint64
}

func (w weighed) ReadAt(b []byte, off int64) (int, error) {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	*w.most = max(*w.most, m.HeapAlloc)
	clear(b)
	if off < int64(len(w.head)) {
		copy(b, w.head[off:])
	}
	return len(b), nil // nobody reads behind the end
}

// TestMemory bounds what making a patch takes, by what lives at each read of its images: the
// old content, the window of the encoder, which holds both contents and is a power of two, and
// 75 MB of tables; of a slot that is a third full, no more than twice its image.
func TestMemory(t *testing.T) {
	const used, size = 31 << 20, 96 << 20
	old, new := images(used, used+1<<20)
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	most := before.HeapAlloc
	info, err := Make(io.Discard, Image{weighed{old[:used], size, &most}, size}, Image{weighed{new, size, &most}, size})
	if err != nil {
		t.Fatal(err)
	}
	took, bound := int64(most-before.HeapAlloc), int64(used+info.window()+76_000_000)
	t.Logf("%d bytes for images of %d, %d of them used", took, size, used)
	if info.window() != 64<<20 || took > bound || took > 2*size {
		t.Errorf("%d bytes live with a window of %d, at most %d by the contents and %d by the image", took, info.window(), bound, 2*size)
	}
	runtime.KeepAlive(old)
	runtime.KeepAlive(new)
}
