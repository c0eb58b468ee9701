package tftp

import "time"

// phase is where a transfer is.
type phase uint8

const (
	offered  phase = iota // the OACK waits for block 0
	starting              // content is asked whether it may go out
	sending
	over
)

// kind is what happened to a transfer.
type kind uint8

const (
	acked   kind = iota // an ACK came
	expired             // the deadline passed
	begun               // content may go out
	aborted             // the client sent an ERROR
)

// event is one thing that happened, at a time since some origin.
type event struct {
	kind  kind
	block uint16
	at    time.Duration
}

// action is what is to be done after an event.
type action uint8

const (
	nothing  action = iota
	offer           // send the OACK
	begin           // ask the content whether it may go out
	send            // send what pull names
	finished        // the last block was acknowledged
	probed          // the client left before the first byte
	broken          // the client left, or is silent
)

// minWait is the shortest wait for an ACK. Firmware that hashes or copies what it has
// got is silent for tens of milliseconds; to wait longer than the round trip costs only
// where a packet was lost.
const minWait = 250 * time.Millisecond

// retriesUnheard are the waits for the first ACK of content, where no ACK of options has
// shown that the address is real. A real client asks anew after them.
const retriesUnheard = 2

// silenceMost is how long a client that named a timeout may be silent: the longest that
// RFC 2349 knows, 255 s, would hold a transfer for 38 minutes by the default of retries.
const silenceMost = time.Minute

// minNudge is how long an ACK that looks like an echo is taken for one at least.
const minNudge = 20 * time.Millisecond

// sender is one transfer as a state machine without clock or socket: step takes what
// happened, pull and sent say what goes out. Blocks are counted from 1 without wrapping;
// on the wire are their lower 16 bits, so after 65,535 comes 0 (what clients that load
// more than 65,535 blocks expect; no RFC says).
//
// The blocks base to base+window-1 may be in flight (RFC 7440 section 4); a window of
// one is RFC 1350. Rules that keep packets from multiplying, and a transfer from lasting:
//
//   - A lockstep sender never answers a repeated ACK: the Sorcerer's Apprentice of RFC
//     1123 section 4.2.3.1.
//   - With a window an ACK that is repeated, or is of a block inside it, tells of a gap
//     behind that block, and the window starts anew from there at once, but only if
//     neither it nor the window before went out twice: then such an ACK may as well be
//     the echo of a block that came twice. EDK II acknowledges every block that it does
//     not expect, so that to answer echoes would send every block twice from the first
//     that the network repeats to the end of the file.
//   - What looks like an echo is believed to be a gap when nothing follows it for about
//     two round trips, once for each gap.
//   - Each wait without progress is twice as long as that before it, up to timeout, and
//     after retries of them it is over.
//   - Before its first ACK an address may be forged: what it is sent without having asked
//     is a window, and retriesUnheard more. Nine blocks for a request of 19 bytes were 244
//     times what had come in. Until then a timeout that it has named lengthens no wait.
//   - A timeout that the client has named is how long to wait, but at least twice in
//     silenceMost, which ends it however many waits are left.
type sender struct {
	terms
	wait    time.Duration // for an ACK at most
	unheard time.Duration // the same for the first
	retries int
	since   time.Duration // of the last progress

	phase       phase
	last        uint64        // number of the last block, which is shorter than the others
	base        uint64        // first that is not acknowledged
	next        uint64        // next to go out
	top         uint64        // highest that ever went out
	tries       int           // waits since the last progress
	again, echo bool          // this window went out anew; that before it did
	nudged      bool          // a gap was believed since the last progress
	nudge       time.Duration // when one will be; 0: there is no sign of one
	timed       bool          // the answer to the window tells the round trip
	sentAt      time.Duration
	deadline    time.Duration
	rtt, jitter time.Duration // RFC 6298
	resent      uint64        // blocks that went out anew
}

// newSender is a transfer that begins now; its first action is offer or begin.
func newSender(t terms, timeout time.Duration, retries int, now time.Duration) (sender, action) {
	s := sender{terms: t, wait: timeout, unheard: timeout, retries: retries, since: now, base: 1, next: 1, last: uint64(t.size)/uint64(t.block) + 1}
	if t.timeout > 0 {
		s.wait = min(t.timeout, silenceMost/2)
		s.unheard = min(s.wait, timeout)
	}
	s.deadline = now + s.unheard
	if t.oack == nil {
		s.phase = starting
		return s, begin
	}
	return s, offer
}

// step is the transition.
func (s *sender) step(e event) action {
	switch {
	case s.phase == over:
		return nothing
	case e.kind == aborted:
		return s.leave()
	case e.kind == expired:
		return s.expire(e.at)
	case e.kind == begun && s.phase == starting:
		s.phase, s.since = sending, e.at
		return send
	case e.kind == acked && s.phase == offered && e.block == 0:
		s.phase, s.tries, s.since = starting, 0, e.at
		return begin
	case e.kind == acked && s.phase == sending:
		return s.ack(e.block, e.at)
	}
	return nothing
}

// leave ends what the client has left.
func (s *sender) leave() action {
	was := s.phase
	s.phase = over
	if was == sending {
		return broken
	}
	return probed
}

// expire is called when the deadline has passed, and may be called before.
func (s *sender) expire(now time.Duration) action {
	switch {
	case s.phase == starting || now < s.deadline:
		return nothing
	case s.nudge > 0 && now >= s.nudge:
		s.nudged = true
		s.deadline = now + s.patience(now)
		return s.restart()
	}
	if s.tries++; s.tries > s.patient() || s.timeout > 0 && now-s.since >= silenceMost {
		return s.leave()
	}
	s.deadline = now + s.patience(now)
	if s.phase == offered {
		return offer
	}
	return s.restart()
}

// patient is how many waits in a row the client is granted.
func (s *sender) patient() int {
	if !s.heard() && s.oack == nil {
		return min(s.retries, retriesUnheard)
	}
	return s.retries
}

// heard reports whether an ACK has shown that the address is the client's.
func (s *sender) heard() bool {
	return s.phase != offered && (s.oack != nil || s.base > 1)
}

// restart sends the window anew.
func (s *sender) restart() action {
	s.next, s.again, s.nudge = s.base, true, 0
	return send
}

func (s *sender) ack(block uint16, now time.Duration) action {
	n := uint64(block - uint16(s.base-1)) // how many of those in flight; wraps with the numbers
	if n > s.top-(s.base-1) {
		return nothing // of blocks that are long acknowledged, or were never sent
	}
	if n == 0 {
		return s.gap(now)
	}
	s.measure(n, now)
	s.base += n
	s.tries, s.nudge, s.nudged, s.since = 0, 0, false, now
	switch {
	case s.base > s.last:
		s.phase = over
		return finished
	case s.base < s.next:
		return s.gap(now)
	}
	s.next, s.echo, s.again = s.base, s.again, false
	return send
}

// gap is an ACK that is not of the whole window.
func (s *sender) gap(now time.Duration) action {
	switch {
	case s.window == 1 || s.next == s.base:
		return nothing
	case !s.again && !s.echo:
		return s.restart()
	case !s.nudged && s.nudge == 0 && s.rtt > 0:
		s.nudge = now + max(minNudge, 2*s.rtt+4*s.jitter)
		s.deadline = min(s.deadline, s.nudge)
	}
	if _, n := s.pull(); n > 0 { // the window has moved
		return send
	}
	return nothing
}

// measure takes the round trip of a window that was sent once and is acknowledged
// whole: an answer to what was sent twice tells nothing (Karn).
func (s *sender) measure(n uint64, now time.Duration) {
	if !s.timed || s.base+n != s.next {
		return
	}
	r := now - s.sentAt
	if s.rtt == 0 {
		s.rtt, s.jitter = r, r/2
		return
	}
	s.jitter += ((s.rtt - r).Abs() - s.jitter) / 4
	s.rtt += (r - s.rtt) / 8
}

// patience is how long to wait for an ACK now. A client that named a timeout gets that.
func (s *sender) patience(now time.Duration) time.Duration {
	switch {
	case !s.heard():
		return s.unheard
	case s.timeout > 0:
		return min(s.wait, max(minWait, s.since+silenceMost-now))
	case s.rtt == 0:
		return s.wait
	}
	return min(s.wait, max(minWait, s.rtt+4*s.jitter)<<s.tries)
}

// pull names the blocks that may go out: n of them from first.
func (s *sender) pull() (first uint64, n int) {
	if s.phase != sending {
		return 0, 0
	}
	end := min(s.base+uint64(s.window), s.last+1)
	if s.next >= end {
		return 0, 0
	}
	return s.next, int(end - s.next)
}

// sent tells that n blocks went out.
func (s *sender) sent(n int, now time.Duration) {
	if s.next <= s.top {
		s.resent += min(uint64(n), s.top-s.next+1)
	}
	s.next += uint64(n)
	s.timed = !s.again && s.next > s.top
	s.top = max(s.top, s.next-1)
	s.sentAt, s.deadline = now, now+s.patience(now)
	if s.nudge > 0 {
		s.deadline = min(s.deadline, s.nudge)
	}
}

// place is where the bytes of a block are in the file, and how many they are.
func (s *sender) place(block uint64) (offset int64, length int) {
	offset = int64(block-1) * int64(s.block)
	return offset, int(min(int64(s.block), s.size-offset))
}

// got is how many bytes are acknowledged.
func (s *sender) got() int64 { return min(s.size, int64(s.base-1)*int64(s.block)) }
