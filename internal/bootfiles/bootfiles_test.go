package bootfiles

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/depot"
	"github.com/ingot-os/ingot/internal/release"
)

const size = 300_000

// body is the content of a file, another for each seed.
func body(seed uint64) []byte {
	b := make([]byte, size)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func put(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func file(path string, b []byte) File {
	sum := sha256.Sum256(b)
	return File{Path: path, Name: filepath.Base(path), Size: int64(len(b)), SHA256: hex.EncodeToString(sum[:])}
}

// fresh is a store and a file in it that was given out once.
func fresh(t testing.TB) (*Store, File) {
	t.Helper()
	f := file(filepath.Join(t.TempDir(), "a-1.efi"), body(1))
	put(t, f.Path, body(1))
	s, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := read(s, f); err != nil || !bytes.Equal(got, body(1)) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	return s, f
}

// read gets a file as a transfer does: to the last byte, or not at all.
func read(s *Store, f File) ([]byte, error) {
	c, err := s.Open(context.Background(), f)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.Begin(); err != nil {
		return nil, err
	}
	return io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
}

// tampers are ways in which a file comes to be another one.
var tampers = map[string]func(t *testing.T, path string){
	"edited in place": func(t *testing.T, path string) { poke(t, path) },
	"edited, its times set back": func(t *testing.T, path string) {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		poke(t, path)
		if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
			t.Fatal(err)
		}
		now, err := os.Stat(path)
		if err != nil || now.Size() != info.Size() || !now.ModTime().Equal(info.ModTime()) {
			t.Fatalf("the test does not hide what it did: %v", err)
		}
	},
	"truncated": func(t *testing.T, path string) {
		if err := os.Truncate(path, size-1); err != nil {
			t.Fatal(err)
		}
	},
	"half copied": func(t *testing.T, path string) {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		put(t, path, body(1)[:size/2])
	},
	"half copied at its full size": func(t *testing.T, path string) {
		put(t, path, append(body(1)[:size/2], make([]byte, size/2)...))
	},
	"replaced by a name": func(t *testing.T, path string) {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		put(t, path+".new", body(2))
		if err := os.Chtimes(path+".new", info.ModTime(), info.ModTime()); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	},
	"another file behind a link": func(t *testing.T, path string) {
		put(t, path+".other", body(2))
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path+".other", path); err != nil {
			t.Fatal(err)
		}
	},
	"gone": func(t *testing.T, path string) {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	},
}

// poke changes one byte.
func poke(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{body(1)[size/2] ^ 1}, size/2); err != nil {
		t.Fatal(err)
	}
}

// TestTampered: what was changed between two transfers is not given out, in none
// of its ways, and is again as soon as it is right.
func TestTampered(t *testing.T) {
	for name, tamper := range tampers {
		t.Run(name, func(t *testing.T) {
			s, f := fresh(t)
			tamper(t, f.Path)
			for range 2 { // it is remembered, too
				if b, err := read(s, f); err == nil {
					t.Fatalf("%d bytes were given out; right ones: %v", len(b), bytes.Equal(b, body(1)))
				} else if name != "gone" && name != "truncated" && name != "half copied" && !errors.Is(err, depot.ErrDiffers) {
					t.Errorf("%v", err)
				}
			}
			os.Remove(f.Path)
			put(t, f.Path, body(1))
			if b, err := read(s, f); err != nil || !bytes.Equal(b, body(1)) {
				t.Errorf("as it was: %v", err)
			}
		})
	}
}

// TestTamperedMeanwhile: a transfer of a file that is changed ends, by each way of
// reading it.
func TestTamperedMeanwhile(t *testing.T) {
	for name, tamper := range tampers {
		t.Run(name, func(t *testing.T) {
			s, f := fresh(t)
			c, err := s.Open(context.Background(), f)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if c.File() == nil || c.Same() != nil || c.Begin() != nil {
				t.Fatal("it has not changed yet")
			}
			tamper(t, f.Path)
			if _, err := c.ReadAt(make([]byte, 10), size/2); !errors.Is(err, depot.ErrChanged) {
				t.Errorf("ReadAt: %v", err)
			}
			if err := c.Same(); !errors.Is(err, depot.ErrChanged) {
				t.Errorf("Same: %v", err)
			}
			if err := c.Begin(); !errors.Is(err, depot.ErrChanged) {
				t.Errorf("Begin: %v", err)
			}
		})
	}
}

// TestFileOfAnother: no file is given for sendfile but the one that was checked.
func TestFileOfAnother(t *testing.T) {
	s, f := fresh(t)
	c, err := s.Open(context.Background(), f)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	tampers["replaced by a name"](t, f.Path)
	if c.File() != nil {
		t.Error("another file")
	}
}

// TestChangedAtOnce: a change within the same step of the kernel's clock as the
// one before is seen. (Since Linux 6.13 each change that was looked at has its own
// time; depot's TestSettle is the one for the kernels before.)
func TestChangedAtOnce(t *testing.T) {
	for i := range 10 {
		f := file(filepath.Join(t.TempDir(), "a-1.efi"), body(1))
		s, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		put(t, f.Path, body(1))
		if _, err := read(s, f); err != nil {
			t.Fatal(err)
		}
		poke(t, f.Path)
		if _, err := read(s, f); err == nil {
			t.Fatalf("round %d: a changed file was given out", i)
		}
	}
}

// TestFilePositions: each transfer has its own position; closing is done once.
func TestFilePositions(t *testing.T) {
	s, f := fresh(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			c, err := s.Open(context.Background(), f)
			if err != nil {
				t.Error(err)
				return
			}
			own := c.File()
			if own == nil || own != c.File() {
				t.Error("no file, or two")
				return
			}
			if b, err := io.ReadAll(own); err != nil || !bytes.Equal(b, body(1)) || c.Digest() != f.SHA256 {
				t.Errorf("%d bytes, %v", len(b), err)
			}
			for range 2 {
				if err := c.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			}
			if _, err := own.Stat(); !errors.Is(err, os.ErrClosed) {
				t.Errorf("it is open still: %v", err)
			}
			if c.File() != nil {
				t.Error("a file after Close")
			}
		})
	}
	all.Wait()
}

// TestOf: what of a manifest is served, and what is missing in one.
func TestOf(t *testing.T) {
	dir := t.TempDir()
	uki, root := file(filepath.Join(dir, "a-1.efi"), body(1)), file(filepath.Join(dir, "a-1.root"), body(2))
	named := func(f File) release.File { return release.File{Name: f.Name, Size: f.Size, SHA256: f.SHA256} }
	m := &release.Manifest{Name: "a", Version: "1", Files: []release.File{named(uki), {Name: "a-1.img"}}}
	s, err := Of(dir, m)
	if err != nil || s.UKI != uki || s.Root != nil || len(s.Files()) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	m.Root = &release.Root{RootHash: "ab"}
	if _, err := Of(dir, m); !errors.Is(err, ErrManifest) {
		t.Errorf("no root: %v", err)
	}
	m.Files = append(m.Files, named(root))
	if s, err = Of(dir, m); err != nil || *s.Root != root || s.RootHash != "ab" || len(s.Files()) != 2 {
		t.Errorf("%+v, %v", s, err)
	}
	for _, name := range []string{"../a", "b"} {
		if _, err := Of(dir, &release.Manifest{Name: name, Version: "1", Files: []release.File{{Name: name + "-1.img"}, {Name: "../a-1.efi"}}}); !errors.Is(err, ErrManifest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	store, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	put(t, uki.Path, body(1))
	if err := store.Check(context.Background(), s); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the root is not there: %v", err)
	}
	put(t, root.Path, body(3))
	if err := store.Check(context.Background(), s); !errors.Is(err, depot.ErrDiffers) {
		t.Errorf("the root is another: %v", err)
	}
	put(t, root.Path, body(2))
	if err := store.Check(context.Background(), s); err != nil {
		t.Error(err)
	}
	store.Retain([]Set{{UKI: uki}})
	if b, err := read(store, *s.Root); err != nil || !bytes.Equal(b, body(2)) {
		t.Errorf("after Retain: %v", err)
	}
}

// TestWaiting: who does not wait for the check goes, and others are served.
func TestWaiting(t *testing.T) {
	f := file(filepath.Join(t.TempDir(), "a-1.efi"), body(1))
	put(t, f.Path, body(1))
	s, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithTimeout(context.Background(), time.Nanosecond)
	defer cancel()
	<-gone.Done()
	if _, err := s.Open(gone, f); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if _, err := read(s, f); err != nil {
		t.Error(err)
	}
}
