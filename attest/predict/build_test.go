package predict

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/ingot-os/ingot/boot/pe"
)

// sec is one section of a synthetic image. Virtual is its size in memory when
// that is not the length of data.
type sec struct {
	name    string
	data    string
	virtual uint32
}

// stubOf is the section by which a stub names itself.
func stubOf(version string) sec {
	return sec{name: ".sdmagic", data: "#### LoaderInfo: systemd-stub " + version + " ####\x00"}
}

// linux is a program small enough to be read by hand.
var linux = sec{name: ".linux", data: string(build(sec{name: ".text", data: "kernel"}))}

// build writes a PE image with the sections.
func build(sections ...sec) []byte {
	const headers, align = 0x800, 0x1000
	up := func(n, to int) int { return (n + to - 1) / to * to }
	b := make([]byte, headers)
	copy(b, "MZ")
	put32 := func(at int, v uint32) { binary.LittleEndian.PutUint32(b[at:], v) }
	put16 := func(at int, v uint16) { binary.LittleEndian.PutUint16(b[at:], v) }
	put32(0x3c, 0x40)
	copy(b[0x40:], "PE\x00\x00")
	put16(0x44, pe.MachineAMD64)
	put16(0x46, uint16(len(sections)))
	put16(0x54, 240)
	put16(0x56, 0x22)
	put16(0x58, 0x20b)
	put32(0x58+32, align)
	put32(0x58+36, 0x200)
	put32(0x58+60, headers)
	put16(0x58+68, pe.SubsystemEFIApplication)
	put32(0x58+108, 16)
	memory := align
	var body []byte
	for i, s := range sections {
		at, virtual := 0x58+240+40*i, max(uint32(len(s.data)), s.virtual)
		raw := up(len(s.data), 0x200)
		copy(b[at:at+8], s.name)
		put32(at+8, virtual)
		put32(at+12, uint32(memory))
		put32(at+16, uint32(raw))
		if raw > 0 {
			put32(at+20, uint32(headers+len(body)))
		}
		memory += up(max(int(virtual), 1), align)
		body = append(append(body, s.data...), make([]byte, raw-len(s.data))...)
	}
	put32(0x58+56, uint32(memory))
	return append(b, body...)
}

// predictOf predicts a boot of the sections.
func predictOf(t *testing.T, o Options, sections ...sec) (*Prediction, error) {
	t.Helper()
	b := build(sections...)
	return UKI(bytes.NewReader(b), int64(len(b)), o)
}

func mustPredict(t *testing.T, o Options, sections ...sec) *Prediction {
	t.Helper()
	p, err := predictOf(t, o, sections...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
