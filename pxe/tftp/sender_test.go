package tftp

import (
	"math/rand/v2"
	"testing"
	"time"
)

func started(t *testing.T, size int64, block, window int) *sender {
	t.Helper()
	s, a := newSender(terms{size: size, block: block, window: window, oack: []byte{0, 6}}, time.Second, 3, 0)
	if a != offer {
		t.Fatal("no offer")
	}
	if a := s.step(event{kind: acked, block: 0}); a != begin {
		t.Fatalf("begin: %d", a)
	}
	if a := s.step(event{kind: begun}); a != send {
		t.Fatalf("send: %d", a)
	}
	return &s
}

// out sends what may go out, and gives the numbers of it.
func out(s *sender, at time.Duration) (blocks []uint64) {
	first, n := s.pull()
	for i := range n {
		blocks = append(blocks, first+uint64(i))
	}
	s.sent(n, at)
	return blocks
}

func same(t *testing.T, got []uint64, want ...uint64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("blocks %v, want %v", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("blocks %v, want %v", got, want)
		}
	}
}

func TestLockstepNeverAnswersARepeatedACK(t *testing.T) {
	s := started(t, 5000, 512, 1)
	same(t, out(s, 0), 1)
	if a := s.step(event{kind: acked, block: 1}); a != send {
		t.Fatal(a)
	}
	same(t, out(s, 0), 2)
	for range 5 {
		if a := s.step(event{kind: acked, block: 1}); a != nothing {
			t.Fatalf("a repeated ACK was answered: %d", a)
		}
		same(t, out(s, 0))
	}
}

func TestGapInAWindowRestartsThere(t *testing.T) {
	s := started(t, 100*512, 512, 4)
	same(t, out(s, 0), 1, 2, 3, 4)
	s.step(event{kind: acked, block: 2, at: time.Millisecond})
	same(t, out(s, 0), 3, 4, 5, 6)
}

func TestLossOfTheFirstBlockOfAWindow(t *testing.T) {
	s := started(t, 100*512, 512, 4)
	out(s, 0)
	s.step(event{kind: acked, block: 4})
	same(t, out(s, 0), 5, 6, 7, 8)
	if a := s.step(event{kind: acked, block: 4}); a != send { // 5 is missing
		t.Fatalf("the gap was not heard: %d", a)
	}
	same(t, out(s, 0), 5, 6, 7, 8)
	for range 5 { // of each block that was behind the gap
		if a := s.step(event{kind: acked, block: 4}); a != nothing {
			t.Fatal("the window went out for each repetition")
		}
	}
	s.step(event{kind: acked, block: 8})
	same(t, out(s, 0), 9, 10, 11, 12)
	if a := s.step(event{kind: acked, block: 8}); a != nothing {
		t.Fatal("the echo of a window that was sent twice was taken for a gap")
	}
	s.step(event{kind: acked, block: 12})
	same(t, out(s, 0), 13, 14, 15, 16)
	if a := s.step(event{kind: acked, block: 12}); a != send {
		t.Fatal("a gap after a clean window was not heard")
	}
}

func TestNumbersWrap(t *testing.T) {
	for _, window := range []int{1, 7, 64} {
		s := started(t, 200_000*8, 8, window)
		for s.phase == sending {
			b := out(s, 0)
			s.step(event{kind: acked, block: uint16(b[len(b)-1])})
		}
		if s.base != 200_002 || s.got() != 200_000*8 {
			t.Fatal(s.base, s.got())
		}
	}
}

func TestSizesThatFillTheirLastBlock(t *testing.T) {
	for size, last := range map[int64]int{0: 0, 1: 1, 511: 511, 512: 0, 513: 1, 1024: 0} {
		s := started(t, size, 512, 1)
		if _, n := s.place(s.last); n != last {
			t.Errorf("%d bytes: last block of %d, want %d", size, n, last)
		}
	}
}

func TestSilenceEnds(t *testing.T) {
	s := started(t, 5000, 512, 4)
	at, sent := time.Duration(0), 0
	for s.phase != over {
		sent += len(out(s, at))
		at += 10 * time.Second
		s.step(event{kind: expired, at: at})
	}
	if sent != 4*(3+1) {
		t.Fatalf("%d blocks to a client that is silent, want 16", sent)
	}
}

func TestOfferIsSentSoOften(t *testing.T) {
	s, a := newSender(terms{size: 5, block: 512, window: 1, oack: []byte{0, 6}}, time.Second, 8, 0)
	offers := 0
	for at := time.Duration(0); a == offer; {
		offers++
		at += 10 * time.Second
		a = s.step(event{kind: expired, at: at})
	}
	if offers != 9 || a != probed {
		t.Fatal(offers, a)
	}
}

// TestForgedRequest: who asks in another's name has it sent three blocks, and a client
// that has answered once is waited for as long as any.
func TestForgedRequest(t *testing.T) {
	silent := func(heard bool) (blocks int) {
		s, a := newSender(terms{size: 5000, block: 512, window: 1}, time.Second, 8, 0)
		if a != begin {
			t.Fatal(a)
		}
		s.step(event{kind: begun})
		at := time.Duration(0)
		if heard {
			out(&s, at)
			s.step(event{kind: acked, block: 1, at: at})
		}
		for s.phase == sending {
			_, n := s.pull()
			s.sent(n, at)
			blocks += n
			at += 10 * time.Second
			s.step(event{kind: expired, at: at})
		}
		return blocks
	}
	if got := silent(false); got != 3 {
		t.Errorf("%d blocks to an address that never answers, want 3", got)
	}
	if got := silent(true); got != 9 {
		t.Errorf("%d blocks to a client that has answered once, want 9", got)
	}
}

func TestWaitFollowsTheRoundTrip(t *testing.T) {
	s := started(t, 1<<20, 512, 1)
	at := time.Duration(0)
	for i := range uint16(50) {
		out(s, at)
		at += 2 * time.Millisecond
		s.step(event{kind: acked, block: i + 1, at: at})
	}
	out(s, at)
	if got := s.deadline - at; got != minWait {
		t.Fatalf("waits %s after round trips of 2 ms, want %s", got, minWait)
	}
	for _, want := range []time.Duration{2 * minWait, time.Second, time.Second} {
		at = s.deadline
		s.step(event{kind: expired, at: at})
		out(s, at)
		if got := s.deadline - at; got != want {
			t.Fatalf("waits %s, want %s", got, want)
		}
	}
}

// exchange runs a sender against a receiver over a network that loses, repeats and
// delays, by the bytes of script, and checks what holds for any network.
func exchange(t *testing.T, size int64, block, window int, script []byte) {
	s := started(t, size, block, window)
	var last uint64 // that the receiver has in order
	var have int64
	var acks []uint16
	at := time.Duration(0)
	next := func() byte {
		if len(script) == 0 {
			return 255
		}
		b := script[0]
		script = script[1:]
		return b
	}
	receive := func(n uint64) {
		if uint16(n) != uint16(last+1) {
			acks = append(acks, uint16(last))
			return
		}
		last++
		_, k := s.place(last)
		have += int64(k)
		if last%uint64(window) == 0 || last == s.last {
			acks = append(acks, uint16(last))
		}
	}
	for step := 0; s.phase == sending; step++ {
		if step > 100_000 {
			t.Fatal("it does not end")
		}
		first, n := s.pull()
		if n > window || n > 0 && (first != s.next || first+uint64(n)-1 > s.last) {
			t.Fatalf("%d blocks from %d of a window of %d, base %d, last %d", n, first, window, s.base, s.last)
		}
		s.sent(n, at)
		for i := range n {
			switch b := next(); {
			case b < 40: // lost
			case b < 60:
				receive(first + uint64(i))
				receive(first + uint64(i))
			default:
				receive(first + uint64(i))
			}
		}
		if len(acks) == 0 {
			at = s.deadline
			s.step(event{kind: expired, at: at})
			continue
		}
		i := 0
		switch b := next(); {
		case b < 20 && len(acks) > 1: // overtaken
			i = len(acks) - 1
		case b < 40: // lost
			acks = acks[1:]
			continue
		case b < 60: // repeated
			acks = append(acks, acks[0])
		}
		n16 := acks[i]
		acks = append(acks[:i:i], acks[i+1:]...)
		at += time.Millisecond
		s.step(event{kind: acked, block: n16, at: at})
		if s.base-1 > last {
			t.Fatalf("%d blocks count as acknowledged, the receiver has %d", s.base-1, last)
		}
	}
	if s.base > s.last && have != size {
		t.Fatalf("finished with %d bytes of %d", have, size)
	}
	if s.base <= s.last && s.tries <= s.patient() {
		t.Fatal("given up early")
	}
}

func TestAnyNetwork(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		script := make([]byte, r.IntN(400))
		for i := range script {
			script[i] = byte(r.Uint32())
		}
		exchange(t, r.Int64N(20_000), 8+r.IntN(600), 1+r.IntN(20), script)
	}
}

// TestNoApprentice has a network that repeats each packet of the first hundred, and a
// receiver that acknowledges each repetition: afterwards nothing is sent twice.
func TestNoApprentice(t *testing.T) {
	for _, window := range []uint64{1, 4, 16} {
		s := started(t, 4000*512, 512, int(window))
		var last, told uint64
		var acks []uint16
		tell := func() {
			told = last
			acks = append(acks, uint16(last))
		}
		sent, waited := 0, 0
		for s.phase == sending {
			for _, n := range out(s, 0) {
				sent++
				times := 1
				if sent < 100 {
					times = 2
				}
				for range times {
					if n != last+1 {
						tell()
					} else if last++; last-told >= window || last == s.last {
						tell()
					}
				}
			}
			if len(acks) == 0 {
				if waited++; waited > 20 {
					t.Fatal("it hangs")
				}
				s.step(event{kind: expired, at: s.deadline})
				continue
			}
			a := acks[0]
			acks = acks[1:]
			s.step(event{kind: acked, block: a})
		}
		if extra := sent - 4001; extra > 200 {
			t.Errorf("window %d: %d blocks sent again for 100 packets that came twice", window, extra)
		}
	}
}

func FuzzSender(f *testing.F) {
	f.Add(uint16(5000), uint16(512), uint8(1), []byte{1, 200, 50, 30})
	f.Add(uint16(65535), uint16(8), uint8(16), []byte{255, 39, 59, 19})
	f.Add(uint16(1024), uint16(512), uint8(4), []byte{})
	f.Fuzz(func(t *testing.T, size, block uint16, window uint8, script []byte) {
		exchange(t, int64(size), max(8, int(block)), max(1, int(window)), script)
	})
}

// FuzzEvents throws events in any order.
func FuzzEvents(f *testing.F) {
	f.Add([]byte{0, 0, 0, 2, 0, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, _ := newSender(terms{size: 3000, block: 16, window: 5, oack: []byte{0, 6}}, time.Second, 4, 0)
		at, ended := time.Duration(0), false
		for ; len(b) >= 3; b = b[3:] {
			at += time.Duration(b[0]>>2) * 20 * time.Millisecond
			a := s.step(event{kind: kind(b[0] & 3), block: uint16(b[1])<<8 | uint16(b[2]), at: at})
			if ended && a != nothing {
				t.Fatalf("action %d after the end", a)
			}
			ended = ended || a == finished || a == broken || a == probed
			if a == send && s.phase != sending || a == offer && s.phase != offered {
				t.Fatalf("action %d in phase %d", a, s.phase)
			}
			if _, n := s.pull(); n > 0 {
				s.sent(1+int(b[2])%n, at)
			}
			if s.base > s.last+1 || s.next > s.last+1 || s.next < s.base && s.phase == sending || s.top-(s.base-1) > 5 && s.base <= s.top {
				t.Fatalf("base %d, next %d, top %d, last %d", s.base, s.next, s.top, s.last)
			}
		}
	})
}
