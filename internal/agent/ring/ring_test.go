package ring

import (
	"strings"
	"testing"
	"time"
)

func TestSinceNumbersAndFilters(t *testing.T) {
	r := New(1 << 20)
	for i := range 6 {
		r.Add(time.Duration(i), []string{"ingot", "web"}[i%2], strings.Repeat("x", i))
	}
	got := r.Since(2, "web", 10)
	if len(got) != 2 || got[0].Seq != 4 || got[1].Seq != 6 || got[1].Text != "xxxxx" {
		t.Errorf("Since(2, web) = %+v, want lines 4 and 6", got)
	}
	if got := r.Since(0, "", 3); len(got) != 3 || got[2].Seq != 3 {
		t.Errorf("Since(0, max 3) = %+v, want the oldest three", got)
	}
	if got := r.Tail(2); len(got) != 2 || got[0].Seq != 5 {
		t.Errorf("Tail(2) = %+v, want lines 5 and 6", got)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	const limit = 64 << 10
	r := New(limit)
	for i := range 20000 {
		r.Add(0, "flood", strings.Repeat("x", i%200))
	}
	used := 0
	for _, e := range r.entries {
		used += cost(e)
	}
	if r.used > limit || len(r.entries) > 2*limit/entryCost {
		t.Errorf("ring holds %d bytes in %d entries, limit %d", r.used, len(r.entries), limit)
	}
	tail := r.Tail(1 << 30)
	if last := tail[len(tail)-1]; last.Seq != 20000 {
		t.Errorf("newest line is %d, want 20000", last.Seq)
	}
	for i := 1; i < len(tail); i++ {
		if tail[i].Seq != tail[i-1].Seq+1 {
			t.Fatalf("line %d follows %d", tail[i].Seq, tail[i-1].Seq)
		}
	}
	if e := r.Add(0, "s", strings.Repeat("y", MaxLine+1)); len(e.Text) != MaxLine {
		t.Errorf("a long line is kept with %d bytes, want %d", len(e.Text), MaxLine)
	}
}
