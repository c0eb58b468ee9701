package inspect_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/ingot-os/ingot/internal/inspect"
	"github.com/ingot-os/ingot/internal/simhost"
)

// FuzzLog prints what calls itself an event log.
func FuzzLog(f *testing.F) {
	for _, name := range []string{"boot-252", "boot-257", "boot-257-ipxe", "boot-257-secureboot"} {
		b, err := simhost.ReadBoot("../../attest/testdata/" + name + ".json")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b.Log)
		f.Add(b.Log[:len(b.Log)/2])
	}
	f.Fuzz(func(t *testing.T, log []byte) {
		n, err := inspect.Reader(bytes.NewReader(log), int64(len(log)), "log")
		if err != nil {
			t.Fatal(err)
		}
		if err := n.WriteText(io.Discard); err != nil {
			t.Fatal(err)
		}
	})
}
