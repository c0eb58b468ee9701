package inspect

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/blockmap"
	"github.com/ingot-os/ingot/partition/blocks"
	"github.com/ingot-os/ingot/partition/frames"
	"github.com/ingot-os/ingot/partition/iso"
	"github.com/ingot-os/ingot/partition/qcow2"
	"github.com/ingot-os/ingot/partition/vhd"
	"github.com/ingot-os/ingot/partition/vmdk"
)

// file is a file in memory that grows.
type file []byte

func (f *file) WriteAt(b []byte, off int64) (int, error) {
	if end := int(off) + len(b); end > len(*f) {
		*f = append(*f, make([]byte, end-len(*f))...)
	}
	return copy((*f)[off:], b), nil
}

// volume is a boot image in memory.
type volume []byte

func (v volume) Size() int64 { return int64(len(v)) }

func (v volume) Write(w io.WriterAt) error {
	_, err := w.WriteAt(v, 0)
	return err
}

// containers holds a small disk in each format, by kind.
func containers(t testing.TB, disk blocks.Disk) map[string]file {
	t.Helper()
	out := map[string]file{}
	for kind, write := range map[string]func(io.WriterAt) (int64, error){
		"qcow2": func(w io.WriterAt) (int64, error) { return qcow2.Write(w, disk) },
		"vhd":   func(w io.WriterAt) (int64, error) { return vhd.Write(w, disk, vhd.Options{}) },
		"vmdk":  func(w io.WriterAt) (int64, error) { return vmdk.Write(w, disk, vmdk.Options{}) },
		"zst":   func(w io.WriterAt) (int64, error) { return frames.Write(w, disk, 1) },
		"iso":   func(w io.WriterAt) (int64, error) { return iso.Write(w, iso.Options{Boot: volume(make([]byte, 4096))}) },
	} {
		var f file
		if _, err := write(&f); err != nil {
			t.Fatal(err)
		}
		out[kind] = f
	}
	m, err := blockmap.New(disk, nil)
	if err != nil {
		t.Fatal(err)
	}
	out["blockmap"] = m.Marshal()
	return out
}

// smallDisk is a disk of ours whose slot holds what begins so.
func smallDisk(t testing.TB, slot []byte) blocks.Disk {
	t.Helper()
	l, err := partition.Plan(partition.Spec{Name: "hello", ESP: mib, Slot: mib})
	if err != nil {
		t.Fatal(err)
	}
	f := make(file, l.Size)
	if err := l.Table().Write(&f); err != nil {
		t.Fatal(err)
	}
	p, _ := l.Part(partition.SlotA)
	copy(f[p.Start:], slot)
	return blocks.Disk{R: bytes.NewReader(f), Size: l.Size}
}

const mib = 1 << 20

func TestContainersShowTheDisk(t *testing.T) {
	for kind, f := range containers(t, smallDisk(t, nil)) {
		n, err := read(bytes.NewReader(f), int64(len(f)), "x", formats)
		if err != nil || n.Kind != kind {
			t.Errorf("%s: got %q, %v", kind, n.Kind, err)
			continue
		}
		var text strings.Builder
		n.WriteText(&text)
		if strings.Contains(text.String(), "problem") {
			t.Errorf("%s: %s", kind, text.String())
		}
		if disk := kind != "iso" && kind != "blockmap"; disk != (n.Find("partition", "2 slot-a") != nil) {
			t.Errorf("%s: %s", kind, text.String())
		}
	}
}

// A container within a container is a file, or readers could be led in a circle.
func TestContainersAreNotNested(t *testing.T) {
	inner := containers(t, smallDisk(t, nil))["vmdk"]
	f := containers(t, smallDisk(t, inner))["qcow2"]
	n, err := read(bytes.NewReader(f), int64(len(f)), "x", formats)
	if err != nil || n.Find("partition", "2 slot-a") == nil {
		t.Fatalf("got %+v, %v", n, err)
	}
	if n.Find("vmdk", partition.SlotA) != nil {
		t.Error("the inner container was opened")
	}
}

// Texts out of a container reach the terminal as text.
func TestHostileTextIsShownAsText(t *testing.T) {
	f := containers(t, smallDisk(t, nil))["vmdk"]
	at := bytes.Index(f, []byte("# Disk DescriptorFile"))
	copy(f[at:], "\x1b]0;owned\x07\x1b[2J\x9b")
	n, err := read(bytes.NewReader(f), int64(len(f)), "a\x1b[2J\nproblem none", formats)
	if err != nil || !strings.Contains(n.Field("descriptor"), "\x1b") {
		t.Fatalf("got %+v, %v", n, err)
	}
	n.child("file", "b").add("sha256", "\x1b[1m\r")
	var text strings.Builder
	n.WriteText(&text)
	if i := strings.IndexAny(text.String(), "\x1b\x07\r"); i >= 0 || strings.Contains(text.String(), "\x9b") {
		t.Errorf("control characters at %d: %q", i, text.String())
	}
	if strings.Contains(text.String(), "\nproblem") {
		t.Error("a name makes a line of its own")
	}
	d := Difference{Where: "file a\x1b[2J\nsame: all", Field: "text", A: "x\x1b[1m\ny", B: "z"}.String()
	if strings.Contains(d, "\x1b") || strings.Contains(d, "\nsame") || !strings.Contains(d, "\n       y") {
		t.Errorf("difference: %q", d)
	}
}

func FuzzContainers(f *testing.F) {
	for _, c := range containers(f, smallDisk(f, nil)) {
		f.Add([]byte(c))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, c := range formats {
			if !c.container || !c.match(b) {
				continue
			}
			if n := claimed(b); n > 64*mib {
				t.Skip("a disk so large takes its time")
			}
			c.read(&Node{}, bytes.NewReader(b), int64(len(b)))
		}
	})
}

// claimed is the size of the disk that a container says it has.
func claimed(b []byte) (size int64) {
	r, n := bytes.NewReader(b), int64(len(b))
	if m, err := qcow2.Open(r, n); err == nil {
		size = max(size, m.Size())
	}
	if m, err := vhd.Open(r, n); err == nil {
		size = max(size, m.Size())
	}
	if m, err := vmdk.Open(r, n); err == nil {
		size = max(size, m.Size())
	}
	if m, err := frames.Open(r, n, frames.Options{}); err == nil {
		size = max(size, m.Size())
	}
	return size
}
