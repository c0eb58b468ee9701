package power

import (
	"encoding/binary"
	"testing"
)

// message is what the button driver multicasts: see drivers/acpi/event.c.
func message(attr uint16, class string) []byte {
	b := make([]byte, 16+4+4+44)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[20:], 4+43)
	binary.NativeEndian.PutUint16(b[22:], attr)
	copy(b[24:], class)
	copy(b[44:], "LNXPWRBN:00")
	return b
}

func TestIsPower(t *testing.T) {
	for _, c := range []struct {
		msg  []byte
		want bool
	}{
		{message(1, "button/power"), true},
		{message(1, "button/lid"), false},
		{message(1, "button/powerful"), false},
		{message(2, "button/power"), false},
		{message(1, "button/power")[:40], false},
		{nil, false},
	} {
		if got := isPower(c.msg); got != c.want {
			t.Errorf("isPower(%q) = %v, want %v", c.msg, got, c.want)
		}
	}
}
