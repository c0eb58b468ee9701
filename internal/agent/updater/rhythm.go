package updater

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// Bounds of the rhythm in which a server is asked.
const (
	minInterval = time.Second
	maxInterval = 24 * time.Hour
	firstRetry  = 2 * time.Second
	maxRetry    = 10 * time.Minute
	spread      = 30 * time.Second // over which the machines of a site ask first after the power came back
	unknown     = 2 * time.Second  // until somebody looks again whether there is a server
)

// rhythm says when to ask next. The times of one machine follow from its name,
// so machines that start together do not ask together, neither at first nor
// later.
type rhythm struct {
	name     string
	interval time.Duration
	n        uint64 // waits so far
	failed   int    // in a row
}

// fraction is a number from 0 to 1 that depends on the machine and the turn.
func (r *rhythm) fraction() float64 {
	r.n++
	sum := sha256.Sum256(binary.LittleEndian.AppendUint64([]byte(r.name), r.n))
	return float64(binary.LittleEndian.Uint32(sum[:])) / (1 << 32)
}

// first is the wait before the first question.
func (r *rhythm) first() time.Duration {
	return time.Duration(r.fraction() * float64(min(spread, r.interval/10)))
}

// next is the wait after an answer: the interval, a tenth more or less.
func (r *rhythm) next() time.Duration {
	r.failed = 0
	return time.Duration((0.9 + 0.2*r.fraction()) * float64(r.interval))
}

// retry is the wait after an error: twice the one before, and half of it by
// chance.
func (r *rhythm) retry() time.Duration {
	d := firstRetry << min(r.failed, 20)
	r.failed++
	d = min(d, maxRetry, max(r.interval, firstRetry))
	return d/2 + time.Duration(r.fraction()*float64(d)/2)
}

// ask takes an interval that the server has named, in seconds.
func (r *rhythm) ask(seconds float64) {
	if seconds > 0 {
		r.interval = min(max(time.Duration(min(seconds, maxInterval.Seconds())*float64(time.Second)), minInterval), maxInterval)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
