package initramfs

import (
	"bytes"
	"io"
	"io/fs"
	"testing"

	"github.com/ingot-os/ingot/partition/tree"
)

func FuzzOpen(f *testing.F) {
	segs := []Segment{{"s", mk(f,
		file("init", "content"), tree.Node{Path: "bin/sh", Mode: fs.ModeSymlink, Target: "bb"},
		tree.Node{Path: "bin/link", Mode: 0o644, Link: "init"}, tree.Node{Path: "run/pipe", Mode: fs.ModeNamedPipe})}}
	f.Add(encode(f, segs, Options{}))
	f.Add(encode(f, segs, Options{Compress: Zstd}))
	f.Add(append(encode(f, segs, Options{}), 0, 0, 0, 0, 0x28, 0xb5, 0x2f, 0xfd))
	f.Fuzz(func(t *testing.T, b []byte) {
		tr, info, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		var total int64
		for _, a := range info.Archives {
			if a.Offset+a.Size > int64(len(b)) {
				t.Errorf("archive %+v leaves the file of %d bytes", a, len(b))
			}
			total += a.Unpacked
		}
		for _, n := range tr.Nodes() {
			r, err := n.Open()
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.Copy(io.Discard, r)
			if n.Mode.IsRegular() && (err != nil || got != n.Size()) {
				t.Errorf("%s: read %d of %d bytes: %v", n.Path, got, n.Size(), err)
			}
			if n.Size() > total {
				t.Errorf("%s: %d bytes from %d", n.Path, n.Size(), total)
			}
		}
	})
}
