package disk

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

func TestCryptTable(t *testing.T) {
	c := Crypt{Name: "x", Device: "/dev/vda7", Offset: 16 << 20, Size: 1 << 20, Cipher: "aes-xts-plain64", SectorSize: 4096}
	key := bytes.Repeat([]byte{0xab}, 64)
	want := "aes-xts-plain64 " + strings.Repeat("ab", 64) + " 0 /dev/vda7 32768 2 allow_discards sector_size:4096"
	if got := string(c.table(key)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	c.IVTweak = 1 << 63
	for c.Device = "/dev/v"; len(c.Device) < 64; c.Device += "x" { // where append would grow
		b := c.table(key)
		if cap(b) != tableRoom+2*len(key) {
			t.Errorf("the table of %d bytes has grown to %d: the key is left behind", len(b), cap(b))
		}
	}
	c.IVTweak = 0
	c.SectorSize = 512
	if got := string(c.table(key)); !strings.HasSuffix(got, " 32768 1 allow_discards") {
		t.Errorf("sectors of 512: %s", got)
	}
	c.Size = 1000
	if _, err := c.Open(key); err == nil || strings.Contains(err.Error(), "abab") {
		t.Errorf("1000 bytes: %v", err)
	}
}

func TestMappingSpec(t *testing.T) {
	b := mapping{target: "crypt", bytes: 1 << 20, table: []byte("parameters")}.spec()
	if len(b)%8 != 0 || binary.NativeEndian.Uint64(b[8:]) != 2048 || string(b[24:30]) != "crypt\x00" || string(b[dmTarget:dmTarget+11]) != "parameters\x00" {
		t.Errorf("% x", b)
	}
}
