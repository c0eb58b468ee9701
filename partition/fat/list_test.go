package fat

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"path"
	"testing"

	"github.com/ingot-os/ingot/partition/tree"
)

func blobBytes(t testing.TB, b tree.Blob) []byte {
	t.Helper()
	r, err := b.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// List and Content find what Tree finds.
func TestListAgreesWithTree(t *testing.T) {
	const size = 34 << 20
	m, err := Plan(sampleTree(t), options(size))
	if err != nil {
		t.Fatal(err)
	}
	var raw bytes.Buffer
	if _, err := m.WriteTo(&raw); err != nil {
		t.Fatal(err)
	}
	v, err := Open(bytes.NewReader(raw.Bytes()), size)
	if err != nil {
		t.Fatal(err)
	}
	all, err := v.Tree()
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	var walk func(at string, dir *Item)
	walk = func(at string, dir *Item) {
		items, err := v.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range items {
			name := path.Join(at, i.Name)
			n := all.Get(name)
			if n == nil || n.Mode.IsDir() != i.Dir {
				t.Fatalf("%s: %+v, the tree has %v", name, i, n)
			}
			found++
			if i.Dir {
				walk(name, &i)
				continue
			}
			b, err := v.Content(i)
			if err != nil {
				t.Fatal(err)
			}
			if b.Size() != i.Size || n.Content != nil && !bytes.Equal(blobBytes(t, b), blobBytes(t, n.Content)) {
				t.Errorf("%s differs", name)
			}
		}
	}
	walk(".", nil)
	if found == 0 {
		t.Error("nothing was found")
	}
	if _, err := v.Content(Item{Name: "x", Dir: true}); err == nil {
		t.Error("a directory has content")
	}
	if _, err := v.Content(Item{Name: "x", Size: 9, first: 1 << 27}); err == nil {
		t.Error("a file outside of the volume")
	}
}

// FuzzList: no volume makes a directory or file endless, or leaves the volume.
func FuzzList(f *testing.F) {
	const size = 34 << 20
	seed, fatOff, dataOff := seedVolume(f, size)
	f.Add(seed)
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := Open(squeezed{patched{b, size}, fatOff, dataOff}, size)
		if err != nil {
			return
		}
		items, err := v.List(nil)
		var fe *FormatError
		if err != nil && !errors.As(err, &fe) {
			t.Fatal(err)
		}
		for k, i := range items {
			if k > 20 {
				break
			}
			if i.Dir {
				_, err = v.List(&i)
			} else if c, cerr := v.Content(i); cerr == nil {
				if c.Size() > size {
					t.Errorf("%+v is larger than its volume", i)
				}
			} else {
				err = cerr
			}
			if err != nil && !errors.As(err, &fe) {
				t.Fatal(err)
			}
		}
	})
}

// A directory whose chain comes back to itself ends with an error.
func TestListLoop(t *testing.T) {
	const size = 34 << 20
	m, err := Plan(sampleTree(t), options(size))
	if err != nil {
		t.Fatal(err)
	}
	var raw bytes.Buffer
	if _, err := m.WriteTo(&raw); err != nil {
		t.Fatal(err)
	}
	b := raw.Bytes()
	root := binary.LittleEndian.Uint32(b[44:])
	entry := b[m.fatOff(0)+4*int64(root):]
	binary.LittleEndian.PutUint32(entry, root)
	v, err := Open(bytes.NewReader(b), size)
	if err != nil {
		t.Fatal(err)
	}
	var fe *FormatError
	if _, err := v.List(nil); !errors.As(err, &fe) {
		t.Errorf("%v, want a *FormatError", err)
	}
}
