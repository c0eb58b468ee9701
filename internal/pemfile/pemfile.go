// Package pemfile reads PEM files (RFC 7468) whole: a block that cannot be read
// is an error with its line. The standard library's decoder steps over it, and
// a damaged file of two keys would pass for a good file of one.
package pemfile

import (
	"bytes"
	"encoding/pem"
	"fmt"
)

var begin = []byte("-----BEGIN ")

// Blocks returns all blocks of a file, none for a file that is not PEM. Text
// around the blocks is allowed, as the RFC does.
func Blocks(data []byte) ([]*pem.Block, error) {
	var out []*pem.Block
	for rest := data; ; {
		at := bytes.Index(rest, begin)
		if at < 0 {
			return out, nil
		}
		b, after := pem.Decode(rest)
		if b == nil || bytes.Count(rest[:len(rest)-len(after)], begin) != 1 {
			start := len(data) - len(rest) + at
			return nil, fmt.Errorf("line %d: a PEM block that is damaged or cut off", 1+bytes.Count(data[:start], []byte("\n")))
		}
		out, rest = append(out, b), after
	}
}

// One returns the only block of a file, nil for a file that is not PEM.
func One(data []byte) (*pem.Block, error) {
	blocks, err := Blocks(data)
	switch {
	case err != nil || len(blocks) == 0:
		return nil, err
	case len(blocks) > 1:
		return nil, fmt.Errorf("%d PEM blocks: name a file for each", len(blocks))
	}
	return blocks[0], nil
}
