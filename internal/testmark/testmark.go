// Package testmark tells TEST keys, which anybody may have, from real ones.
// Certificates of a test key set have TEST in their names. Public keys have no
// room for a name, so a line of text stands before their PEM block: explanatory
// text (RFC 7468 section 2 and 5.2), which every reader of PEM steps over.
//
// The line is for people who mix up files, and holds nobody off who takes it
// away; a key in DER has none.
package testmark

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
)

// Word is in the common name of each certificate of a test set.
const Word = "TEST"

const line = Word + " key of ingot: for dev and test only\n"

// Name reports whether a name is marked: TEST is a word of it.
func Name(name string) bool { return slices.Contains(strings.Fields(name), Word) }

// Certificate reports whether a certificate is marked.
func Certificate(c *x509.Certificate) bool { return Name(c.Subject.CommonName) }

// PEM writes a block with the mark before it.
func PEM(b *pem.Block) []byte { return append([]byte(line), pem.EncodeToMemory(b)...) }

var begin = []byte("-----BEGIN ")

// Blocks says of each PEM block of a file whether the text before it has the mark,
// in the order in which package pemfile reads them.
func Blocks(data []byte) (marked []bool) {
	for {
		at := bytes.Index(data, begin)
		b, rest := pem.Decode(data)
		if at < 0 || b == nil {
			return marked
		}
		marked = append(marked, hasLine(data[:at]))
		data = rest
	}
}

// Any reports whether a block of a file is marked.
func Any(data []byte) bool { return slices.Contains(Blocks(data), true) }

// hasLine looks for the mark as a line of its own, however the file came here: editors
// and mail change ends of lines.
func hasLine(text []byte) bool {
	for l := range bytes.Lines(text) {
		if string(bytes.TrimSpace(l)) == strings.TrimSpace(line) {
			return true
		}
	}
	return false
}
