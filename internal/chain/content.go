package chain

import (
	"bytes"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// Bytes is a small file in memory: a script, a program. begin is asked before it
// leaves; nil: nothing is.
func Bytes(b []byte, begin func() error) netboot.Content {
	return memory{bytes.NewReader(b), begin}
}

type memory struct {
	*bytes.Reader
	begin func() error
}

func (m memory) Begin() error {
	if m.begin == nil {
		return nil
	}
	return m.begin()
}

func (m memory) Close() error { return nil }
