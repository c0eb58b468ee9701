package disk

import (
	"bytes"
	"errors"
	"os"
	"testing"
)

// TestLoop makes a block device of memory, which nobody can change any more.
func TestLoop(t *testing.T) {
	if _, err := os.Stat("/dev/loop-control"); err != nil || os.Getuid() != 0 {
		t.Skip("needs root and the module loop")
	}
	f, err := Memory("test")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := bytes.Repeat([]byte("ingot on a loop\n"), 1<<14)
	if _, err := f.WriteAt(want, 0); err != nil {
		t.Fatal(err)
	}
	if err := Seal(f); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("x"), 0); err == nil {
		t.Error("a sealed file can be written")
	}
	node, dev, err := Loop(f)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	got, err := os.ReadFile(node)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s has %d bytes, want %d: %v", node, len(got), len(want), err)
	}
	if w, err := os.OpenFile(node, os.O_WRONLY, 0); err == nil {
		_, err = w.WriteAt(make([]byte, 4096), 0)
		if err = errors.Join(err, w.Sync()); err == nil {
			t.Errorf("%s can be written", node)
		}
		w.Close()
	}
}
