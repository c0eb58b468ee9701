package slot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/partition/state"
)

func sample() Record {
	return Record{
		Good: B, Candidate: A, Phase: Failed, Means: Firmware, Launched: true, Guarded: true, Deaf: true,
		Cause: Unhealthy, Culprit: A, Detail: "web: GET /: got status 500, want 200",
		TriesLeft: 2, Attempt: 1, Arms: 3, Lost: 1, Failures: 4, Bounces: 2, Heals: 260,
		Floor: 0x01020304, Schema: 7, Generation: 0x1122334455667788, Seen: 0x99aabbccddeeff00,
		Slots: [2]Content{
			{Version: "2.1.0", Image: Digest{1, 2}, Root: Digest{3}, Epoch: 9, Schema: 8, Accepts: 8, Condition: Ready},
			{Version: "2.0.0", Image: Digest{4}, Epoch: 8, Schema: 7, Accepts: 7, Condition: Good},
		},
	}
}

func TestStructSizes(t *testing.T) {
	for _, tt := range []struct {
		name      string
		got, want int
	}{
		{"payload", binary.Size(payload{}), PayloadSize},
		{"content", binary.Size(content{}), contentSize},
		{"rejection", binary.Size(rejection{}), rejectionSize},
	} {
		if tt.got != tt.want {
			t.Errorf("%s has %d bytes, the format says %d", tt.name, tt.got, tt.want)
		}
	}
	if PayloadSize > state.Journal.Capacity() || 16+MaxRejections*rejectionSize > state.Rejected.Capacity() {
		t.Error("a record does not fit its region")
	}
}

// The bytes are the format: docs/slots.md has the same table.
func TestRecordBytes(t *testing.T) {
	got, err := sample().AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, PayloadSize)
	copy(want, "b\x01\x06a\x00\x07\x04a\x02\x01\x03\x01\x04\x02\x04\x01")
	copy(want[16:], "\x04\x03\x02\x01\x07\x00\x24\x00")
	copy(want[24:], "\x88\x77\x66\x55\x44\x33\x22\x11\x00\xff\xee\xdd\xcc\xbb\xaa\x99")
	copy(want[64:], "\x01\x02")
	copy(want[96:], "\x03")
	copy(want[128:], "\x09\x00\x00\x00\x08\x00\x08\x00\x02\x052.1.0")
	copy(want[192:], "\x04")
	copy(want[256:], "\x08\x00\x00\x00\x07\x00\x07\x00\x03\x052.0.0")
	copy(want[320:], "web: GET /: got status 500, want 200")
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	back, err := Parse(got)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(sample(), back); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// A journal of a later version: what it adds is ignored, what it means by an
// unknown cause is in its text, and the good slot is readable in any case.
func TestNewerVersion(t *testing.T) {
	b, _ := sample().AppendBinary(nil)
	b = append(b, bytes.Repeat([]byte{0xee}, 100)...)
	b[1], b[6], b[5], b[63] = 2, 200, 0xff, 1
	r, err := Parse(b)
	if err != nil || r.Good != B || r.Cause != Unhealthy || r.Phase != Failed {
		t.Errorf("Parse = %+v, %v", r, err)
	}
	for letter, want := range map[string]Slot{"a": A, "b": B, "b\xff\xff": B, "": A, "x": A, "\x00": A} {
		if got := GoodOf([]byte(letter)); got != want {
			t.Errorf("GoodOf(%q) = %s, want %s", letter, got, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	tests := []struct {
		name  string
		off   int // of the byte that is changed
		value byte
		want  string
	}{
		{"no slot", 0, 'c', "offset 0, good"},
		{"version 0", 1, 0, "offset 1, format"},
		{"phase", 2, byte(phases), "offset 2, phase"},
		{"candidate is good", 3, 'b', "offset 3, candidate"},
		{"no candidate", 3, 0, "offset 3, candidate"},
		{"means", 4, 3, "offset 4, means"},
		{"flags", 5, 8, "offset 5, flags"},
		{"cause", 6, byte(causes), "offset 6, cause"},
		{"culprit", 7, 1, "offset 7, culprit"},
		{"detail length", 22, 193, "offset 22, detail length"},
		{"reserved", 40, 1, "offset 40, reserved"},
		{"condition", 136, byte(conditions), "offset 136, condition"},
		{"no version", 137, 0, "offset 137, version"},
		{"version length", 137, 55, "offset 138, version"},
		{"version text", 138, 0x1b, "offset 138, version"},
		{"version tail", 145, 1, "offset 143, version"},
		{"detail text", 320, 0x80, "offset 320, detail"},
		{"detail tail", 511, 1, "offset 356, detail"},
	}
	for _, tt := range tests {
		b, _ := sample().AppendBinary(nil)
		b[tt.off] = tt.value
		_, err := Parse(b)
		var f *FormatError
		if !errors.As(err, &f) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: Parse = %v, want %q", tt.name, err, tt.want)
		}
	}
	for n := range PayloadSize {
		if _, err := Parse(make([]byte, n)); err == nil {
			t.Fatalf("%d bytes are a journal", n)
		}
	}
}

func TestAppendRefuses(t *testing.T) {
	for name, change := range map[string]func(*Record){
		"no good slot":   func(r *Record) { r.Good = None },
		"same slot":      func(r *Record) { r.Candidate = B },
		"long version":   func(r *Record) { r.Slots[0].Version = strings.Repeat("1", MaxVersion+1) },
		"empty version":  func(r *Record) { r.Slots[1].Version = "" },
		"line in detail": nil,
	} {
		r := sample()
		if change == nil {
			r.Detail = "one\ntwo" + strings.Repeat("x", 300)
			b, err := r.AppendBinary(nil)
			if back, perr := Parse(b); err != nil || perr != nil || len(back.Detail) != MaxDetail || !strings.HasPrefix(back.Detail, "one?two") {
				t.Errorf("%s: %v %v %q", name, err, perr, back.Detail)
			}
			continue
		}
		change(&r)
		if _, err := r.AppendBinary(nil); err == nil {
			t.Errorf("%s was written", name)
		}
	}
}

func TestRejections(t *testing.T) {
	list := []Rejection{{"1.0", Digest{1}, Panic}, {"2.0", Digest{2}, ByOperator}}
	b, err := EncodeRejections(list)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseRejections(append(b, 0, 0)) // a region may be longer
	if d := cmp.Diff(list, got); d != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, d)
	}
	for name, bad := range map[string][]byte{
		"short": b[:15], "cut": b[:len(b)-1], "count": append([]byte{1, 0, 0xff, 0xff}, b[4:]...),
		"no version": append(bytes.Clone(b[:49]), append([]byte{0}, b[50:]...)...),
	} {
		if _, err := ParseRejections(bad); err == nil {
			t.Errorf("%s is a list", name)
		}
	}
	if _, err := EncodeRejections(make([]Rejection, MaxRejections+1)); err == nil {
		t.Error("too many were encoded")
	}
}

// The record in its region: package state keeps two copies of 4096 bytes.
func TestInRegion(t *testing.T) {
	disk := make(memory, state.Size)
	for i := range uint64(5) {
		r := sample()
		r.Generation = i
		b, _ := r.AppendBinary(nil)
		if err := state.Store(disk, state.Journal, b); err != nil {
			t.Fatal(err)
		}
	}
	b, seq, err := state.Load(disk, state.Journal)
	if r, perr := Parse(b); err != nil || perr != nil || seq != 5 || r.Generation != 4 {
		t.Errorf("%d %v %v %+v", seq, err, perr, r)
	}
}

// memory is a device of bytes.
type memory []byte

func (m memory) ReadAt(b []byte, off int64) (int, error) {
	if off >= int64(len(m)) {
		return 0, io.EOF
	}
	return copy(b, m[off:]), nil
}
func (m memory) WriteAt(b []byte, off int64) (int, error) { return copy(m[off:], b), nil }
func (m memory) Sync() error                              { return nil }
