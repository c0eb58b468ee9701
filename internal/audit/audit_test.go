package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/quote"
)

var testNow = time.Date(2026, 11, 23, 2, 0, 0, 123456789, time.UTC)

func judged() (Judged, map[Digest][]byte) {
	reference := []byte("{\n  \"format\": \"ingot-reference/1\", \"name\": \"hello\", \"version\": \"1\", \"securityEpoch\": 3, \"paths\": []}\n")
	var ref attest.Reference
	if err := json.Unmarshal(reference, &ref); err != nil {
		panic(err)
	}
	value := pcr.SHA256.Sum([]byte("x"))
	j := Judged{Case: attest.Case{
		Evidence: &attest.Evidence{Format: attest.Format, Nonce: []byte("nonce"), AK: []byte("ak"), EK: []byte("ek"), Quote: []byte("<quote>"), Signature: []byte("&"),
			PCRs: map[pcr.Bank]map[int]pcr.Digest{pcr.SHA256: {4: value, 11: value}}, EventLog: []byte("log"), InitLog: []byte("init"),
			Floor: &attest.FloorProof{Attest: []byte("nv"), Signature: []byte(">"), Epoch: new(int64)}},
		References: []attest.Reference{ref},
		Record:     &attest.Record{Name: "a", State: attest.Active, AKName: []byte("n"), Enrolled: testNow, Floor: 2, Counter: &attest.Counter{Name: []byte("n"), Base: -1, Value: 57}},
		Policy:     attest.Policy{SecureBoot: true, PCRs: []int{4}},
		LastSeen:   &attest.LastSeen{Clock: quote.Clock{Millis: 5, ResetCount: 2}, At: testNow},
		Challenge:  attest.Challenge{Nonce: []byte("nonce"), ServerID: []byte("s"), ChannelKey: []byte("k"), Expires: testNow.Add(time.Minute)},
		Now:        testNow,
	}, References: []Digest{Sum(reference)}}
	j.Verdict = attest.Verify(j.Case)
	return j, map[Digest][]byte{Sum(reference): reference}
}

func sealed(t *testing.T) ([]byte, Judged, map[Digest][]byte) {
	t.Helper()
	j, kept := judged()
	r, blobs, err := New(j)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blobs {
		kept[b.Sum] = b.Data
	}
	line, sum, err := r.Seal(1, Digest{})
	if err != nil || sum != Sum(line) || bytes.ContainsRune(line, '\n') {
		t.Fatalf("%s, %v", line, err)
	}
	return line, j, kept
}

func getter(kept map[Digest][]byte) Get {
	return func(d Digest) ([]byte, error) {
		if b, ok := kept[d]; ok {
			return b, nil
		}
		return nil, errors.New("not kept")
	}
}

// TestCase: the case comes back as it was.
func TestCase(t *testing.T) {
	line, j, kept := sealed(t)
	r, err := Parse(line)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Case(r, getter(kept))
	if d := cmp.Diff(j.Case, c); err != nil || d != "" {
		t.Errorf("%v (-judged +read)\n%s", err, d)
	}
	v, err := Replay(r, getter(kept))
	if d := cmp.Diff(j.Verdict, v); err != nil || d != "" || v.Trusted || v.Reason() != attest.AKMalformed {
		t.Errorf("%v (-judged +again)\n%s", err, d)
	}
	if r.Code = attest.QuoteNonce; true {
		if _, err := Replay(r, getter(kept)); !errors.Is(err, ErrDiffers) {
			t.Errorf("another outcome: %v", err)
		}
	}
}

// TestBlobs: a blob that is missing or not what it was is an error.
func TestBlobs(t *testing.T) {
	line, _, kept := sealed(t)
	r, err := Parse(line)
	if err != nil || len(kept) != 5 {
		t.Fatal(err, len(kept))
	}
	for sum, data := range kept {
		less := maps.Clone(kept)
		delete(less, sum)
		if _, err := Case(r, getter(less)); err == nil || !strings.Contains(err.Error(), "not kept") {
			t.Errorf("without %q: %v", data, err)
		}
		less[sum] = append(slices.Clone(data), ' ')
		if _, err := Case(r, getter(less)); !errors.Is(err, ErrBroken) {
			t.Errorf("another %q: %v", data, err)
		}
	}
	if _, err := Case(&Record{Kind: KindSilent}, getter(kept)); err == nil {
		t.Error("a record of silence has a case")
	}
	if _, _, err := New(Judged{}); err == nil {
		t.Error("a verdict about nothing")
	}
}

// TestChain: records that were removed, edited, moved or added are found.
func TestChain(t *testing.T) {
	var lines [][]byte
	heads := map[string]Head{}
	for i := range 6 {
		r := Record{Host: []string{"a", "b"}[i%2], Time: testNow, Kind: KindSilent, Detail: strings.Repeat("é", 400)}
		h := heads[r.Host]
		line, sum, err := r.Seal(h.Seq+1, h.Sum)
		if err != nil {
			t.Fatal(err)
		}
		heads[r.Host], lines = Head{h.Seq + 1, sum}, append(lines, line)
	}
	read := func(lines ...[]byte) error {
		var c Chain
		for _, line := range lines {
			if _, err := c.Next(line); err != nil {
				return err
			}
		}
		if c.Head("a") != heads["a"] {
			return errors.New("another head")
		}
		return nil
	}
	if err := read(lines...); err != nil {
		t.Fatal(err)
	}
	edited := bytes.Replace(lines[2], []byte("silent"), []byte("moved."), 1)
	for name, l := range map[string][][]byte{
		"removed": {lines[0], lines[1], lines[3], lines[4], lines[5]}, "first removed": lines[1:],
		"edited": {lines[0], lines[1], edited, lines[3], lines[4], lines[5]},
		"moved":  {lines[2], lines[1], lines[0], lines[3], lines[4], lines[5]}, "twice": {lines[0], lines[0]},
	} {
		if err := read(l...); !errors.Is(err, ErrBroken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, line := range []string{"", "{}x", `{"colour":1}`, strings.Repeat(" ", MaxRecord+1)} {
		if _, err := Parse([]byte(line)); err == nil {
			t.Errorf("%.20q was read", line)
		}
	}
	if _, _, err := (&Record{Quote: make([]byte, MaxRecord)}).Seal(1, Digest{}); err == nil {
		t.Error("a huge record was sealed")
	}
}

func FuzzParse(f *testing.F) {
	j, _ := judged()
	r, _, err := New(j)
	if err != nil {
		f.Fatal(err)
	}
	line, _, _ := r.Seal(1, Digest{})
	f.Add(line)
	f.Add([]byte(`{"seq":1,"prev":"00"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Parse(data)
		if err != nil {
			return
		}
		Case(r, func(Digest) ([]byte, error) { return data, nil })
		if line, _, err := r.Seal(r.Seq, r.Prev); err == nil {
			if again, err := Parse(line); err != nil || again.Host != r.Host {
				t.Errorf("%s: %v", line, err)
			}
		}
	})
}
