package pe

import (
	"encoding/binary"
	"testing"
)

// TestSizes holds the structs against "PE Format": COFF File Header,
// Optional Header, Section Table, and the fields behind ImageBase.
func TestSizes(t *testing.T) {
	for name, c := range map[string]struct{ got, want int }{
		"fileHeader":    {binary.Size(fileHeader{}), 20},
		"sectionHeader": {binary.Size(sectionHeader{}), 40},
		"Directory":     {binary.Size(Directory{}), 8},
		"optionalHead":  {binary.Size(optionalHead{}), 24},
		"optionalTail":  {32 + binary.Size(optionalTail{}), 72},
	} {
		if c.got != c.want {
			t.Errorf("%s is %d bytes, want %d", name, c.got, c.want)
		}
	}
}
