package slot

import (
	"bytes"
	"testing"
)

// What is read back is written the same, and no bytes make Next panic.
func FuzzParse(f *testing.F) {
	b, _ := sample().AppendBinary(nil)
	f.Add(b)
	f.Add(make([]byte, PayloadSize))
	newer := bytes.Clone(b)
	newer[1] = 9
	f.Add(append(newer, 1, 2, 3))
	fresh, _ := Record{Good: A, Slots: [2]Content{{Version: "1", Condition: Good}}}.AppendBinary(nil)
	f.Add(fresh)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Parse(b)
		if err != nil {
			return
		}
		out, err := r.AppendBinary(nil)
		if err != nil {
			t.Fatalf("read, but not written: %v", err)
		}
		if b[1] == format && !bytes.Equal(out, b[:PayloadSize]) {
			t.Errorf("read %x, written %x", b[:PayloadSize], out)
		}
		for k := Booted; k <= Undone; k++ {
			for _, x := range []Slot{None, A, B} {
				s, acts := Rules{}.Next(State{Record: r, Running: x}, Event{Kind: k, Slot: x, OK: true, Release: v3, Boot: Boot{Running: x, Evidence: []Evidence{{Cause: Panic}}}})
				for _, a := range acts {
					if a.Do != WriteJournal {
						continue
					}
					if err := a.Record.check(); err != nil {
						t.Errorf("%s in %s writes a bad journal: %v", k, s.Phase, err)
					}
				}
				if len(s.Why()) > 20 {
					t.Error("Why is too long")
				}
			}
		}
	})
}

func FuzzParseRejections(f *testing.F) {
	b, _ := EncodeRejections([]Rejection{{"1.0", Digest{1}, Panic}})
	f.Add(b)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := ParseRejections(b)
		if err != nil {
			return
		}
		if _, err := EncodeRejections(list); err != nil {
			t.Error(err)
		}
	})
}
