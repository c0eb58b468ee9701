package kmod

import (
	"testing"

	"github.com/ingot-os/ingot/partition/tree"
)

func FuzzParseInfo(f *testing.F) {
	f.Add(ko("x", []string{"a", "b"}, "alias=pci:*", "softdep=pre: y"))
	f.Add(ko("y", nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		in, err := parseInfo(b)
		if err != nil {
			return
		}
		n := 0
		for _, list := range [][]string{in.alias, in.depends, in.softdep, in.weakdep, in.firmware} {
			for _, s := range list {
				n += len(s)
			}
		}
		if n > len(b) {
			t.Errorf("%d bytes of strings out of %d", n, len(b))
		}
	})
}

// FuzzModule goes through decompression, selection and writing.
func FuzzModule(f *testing.F) {
	raw := ko("x", nil, "alias=fs-x")
	f.Add(raw, byte(0))
	f.Add(packXZ(f, raw), byte(1))
	f.Add(packZstd(f, raw), byte(2))
	f.Add(packGzip(f, raw), byte(3))
	f.Fuzz(func(t *testing.T, b []byte, kind byte) {
		tr := &tree.Tree{}
		name := "lib/modules/1/x.ko" + []string{"", ".xz", ".zst", ".gz"}[kind%4]
		if err := tr.Add(tree.Node{Path: name, Mode: 0o644, Content: tree.Bytes(b)}); err != nil {
			t.Fatal(err)
		}
		if err := tr.Add(tree.Node{Path: "lib/modules/1/modules.builtin.modinfo", Mode: 0o644, Content: tree.Bytes(b)}); err != nil {
			t.Fatal(err)
		}
		sel, err := open(t, tr).Select([]string{"x"})
		if err != nil {
			return
		}
		if _, err := sel.Tree(); err != nil {
			t.Error(err)
		}
	})
}
