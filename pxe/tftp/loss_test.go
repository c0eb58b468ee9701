package tftp

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"
)

// fetchTime is how long a transfer takes, in a time of its own, when a packet takes half
// of turn and block lose does not arrive the first time. A client of windows acknowledges
// the last block before a gap, once (RFC 7440 section 4); one of lockstep is silent.
func fetchTime(t *testing.T, window int, lose uint64, turn time.Duration) (took time.Duration) {
	t.Helper()
	s := started(t, 100*512, 512, window)
	var last, told uint64
	lost := false
	for s.phase == sending {
		first, n := s.pull()
		if n == 0 {
			took = s.deadline
			s.step(event{kind: expired, at: took})
			continue
		}
		s.sent(n, took)
		var acks []uint64
		for b := first; b < first+uint64(n); b++ {
			switch {
			case b == lose && !lost:
				lost = true
			case b != last+1:
				if window > 1 && len(acks) == 0 {
					acks = append(acks, last)
				}
			default:
				if last++; last-told >= uint64(window) || last == s.last {
					told = last
					acks = append(acks, last)
				}
			}
		}
		if len(acks) == 0 {
			continue
		}
		took += turn
		for _, a := range acks {
			told = a
			s.step(event{kind: acked, block: uint16(a), at: took})
		}
	}
	if s.base <= s.last {
		t.Fatalf("window %d, block %d lost: given up", window, lose)
	}
	return took
}

// TestWhatOneLostPacketCosts: a second where the client is silent, and as long as a
// packet goes to and fro where it shows the gap.
func TestWhatOneLostPacketCosts(t *testing.T) {
	for _, turn := range []time.Duration{200 * time.Microsecond, 2 * time.Millisecond, 30 * time.Millisecond} {
		for _, window := range []int{1, 4, 16, 64} {
			fine := fetchTime(t, window, 0, turn)
			for lose := 1; lose <= 101; lose++ {
				most := 1100 * time.Millisecond
				if window > 1 && lose%window != 0 && lose < 101 { // something of its window follows
					most = turn
				}
				if cost := fetchTime(t, window, uint64(lose), turn) - fine; cost > most {
					t.Errorf("window %d, turn %s: block %d lost costs %s, want at most %s", window, turn, lose, cost, most)
				}
			}
		}
	}
}

// TestOVMF asks as OVMF does, of a server with windows and of one without: the answer is
// exactly what was asked for, in that order, and windows save three of four
// acknowledgements, each of which is a wait for both.
func TestOVMF(t *testing.T) {
	const size = 1468*400 + 7
	for limit, want := range map[int]struct {
		window string
		acks   int
	}{0: {"4", 1 + 101}, 1: {"1", 1 + 401}} {
		r := newRig(t, &Server{Limits: Limits{Window: limit}}, "127.0.0.1:0")
		r.put("a", noise(size))
		// A computer that is busy for 0.25 s has a block sent again, which is not the question.
		var c *client
		acks := 0
		for range 5 {
			began := time.Now()
			if c, acks = ovmf(t, r); c.blocks == 401 || time.Since(began) < minWait {
				break
			}
		}
		if oack := [][2]string{{"tsize", fmt.Sprint(size)}, {"blksize", "1468"}, {"windowsize", want.window}}; !slices.Equal(c.oack, oack) {
			t.Errorf("the answer is %q, want %q", c.oack, oack)
		}
		if acks != want.acks || c.blocks != 401 {
			t.Errorf("window %s: %d acknowledgements for %d blocks, want %d for 401", want.window, acks, c.blocks, want.acks)
		}
	}
}

// ovmf fetches "a" with the options that OVMF sends, and counts its acknowledgements.
func ovmf(t *testing.T, r *rig) (c *client, acks int) {
	t.Helper()
	c = dial(t, r.addr)
	c.out = func(b []byte) int {
		if opcode(b) == opACK {
			acks++
		}
		return 1
	}
	got, err := c.get("a", "tsize", "0", "blksize", "1468", "windowsize", "4")
	if err != nil || !bytes.Equal(got, r.shelf.files["a"]) {
		t.Fatal(len(got), err)
	}
	return c, acks
}
