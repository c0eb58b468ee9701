package pcr

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"testing"
)

// TestSeparatorOnly compares with the published value of a register into which
// firmware has extended nothing but a separator.
func TestSeparatorOnly(t *testing.T) {
	s := Start(SHA256, 0)
	if err := s.Extend(5, SHA256.Sum(make([]byte, 4))); err != nil {
		t.Fatal(err)
	}
	const want = "3d458cfe55cc03ea1f443f1562beec8df51c75e14a9fcf9a7234a13f198e7969"
	if got := s.Value(5).String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestStart(t *testing.T) {
	for bank, size := range map[Bank]int{SHA1: 20, SHA256: 32, SHA384: 48, SHA512: 64} {
		s := Start(bank, 3)
		want := make([]byte, size)
		if got := s.Value(16); !bytes.Equal(got, want) {
			t.Errorf("%s: PCR 16 starts as %s", bank, got)
		}
		want[size-1] = 3
		if got := s.Value(0); !bytes.Equal(got, want) {
			t.Errorf("%s: PCR 0 starts as %s", bank, got)
		}
		if got := s.Value(17); !bytes.Equal(got, bytes.Repeat([]byte{0xff}, size)) {
			t.Errorf("%s: PCR 17 starts as %s", bank, got)
		}
	}
}

func TestCompare(t *testing.T) {
	s := Start(SHA256, 0)
	if err := s.Extend(4, SHA256.Sum([]byte("image"))); err != nil {
		t.Fatal(err)
	}
	zero, other := make([]byte, 32), bytes.Repeat([]byte{1}, 32)
	for _, c := range []struct {
		register int
		value    []byte
		want     Verdict
	}{
		{4, s.Value(4), Match},
		{4, other, Unexpected},
		{4, zero, Unexpected},
		{4, nil, Unexpected},
		{5, other, Unlogged},
		{5, nil, Unlogged},
		{5, zero, Unmeasured},
		{18, zero, Unlogged},
	} {
		if got := s.Compare(c.register, c.value); got != c.want {
			t.Errorf("PCR %d %x: %s, want %s", c.register, c.value, got, c.want)
		}
	}
}

func TestExtendRefuses(t *testing.T) {
	s := Start(SHA384, 0)
	for _, i := range []int{-1, Count} {
		if err := s.Extend(i, make([]byte, 48)); err == nil {
			t.Errorf("PCR %d was extended", i)
		}
	}
	if err := s.Extend(0, make([]byte, 32)); err == nil {
		t.Error("a digest of the wrong length was taken")
	}
	if s.Extends(0) != 0 {
		t.Error("a refused extend counts")
	}
}

// TestValueIsACopy: what a caller keeps does not change with later extends.
func TestValueIsACopy(t *testing.T) {
	s := Start(SHA1, 0)
	before := s.Value(1)
	if err := s.Extend(1, SHA1.Sum(nil)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, make([]byte, 20)) {
		t.Error("a kept value changed")
	}
}

func TestText(t *testing.T) {
	in := map[Bank]Digest{SHA1: {0xab, 0xcd}, SHA512: {1}}
	b, err := json.Marshal(in)
	if err != nil || string(b) != `{"sha1":"abcd","sha512":"01"}` {
		t.Fatalf("%s, %v", b, err)
	}
	var out map[Bank]Digest
	if err := json.Unmarshal(b, &out); err != nil || hex.EncodeToString(out[SHA1]) != "abcd" {
		t.Errorf("%v, %v", out, err)
	}
	if _, err := ParseBank("md5"); err == nil {
		t.Error("md5 is a bank")
	}
	if got := Bank(0x12).String(); got != "algorithm 0x0012" {
		t.Error(got)
	}
}
