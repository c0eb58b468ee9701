package tftp

import "sync/atomic"

// Stats are counts since a server began; all but Active and Waiting only grow.
type Stats struct {
	Active  int64 // transfers that run
	Waiting int64 // requests that wait for one to end

	Requests  int64 // that could be read
	Malformed int64 // packets that could not
	Dropped   int64 // requests beyond Limits, which got no answer
	Refused   int64 // requests that got an ERROR
	Probed    int64 // transfers that ended before their first byte
	Finished  int64 // transfers whose last block was acknowledged
	Broken    int64 // transfers that ended between the two
	Strangers int64 // packets to a transfer that were not its client's
	Blocks    int64 // blocks sent
	Resent    int64 // blocks of these that were sent before
	Bytes     int64 // payload that was acknowledged
}

type counters struct {
	active, waiting, requests, malformed, dropped, refused, probed, finished, broken, strangers, blocks, resent, bytes atomic.Int64
}

// Stats tells how much a server has done.
func (s *Server) Stats() Stats {
	c := &s.counts
	return Stats{
		Active: c.active.Load(), Waiting: c.waiting.Load(), Requests: c.requests.Load(), Malformed: c.malformed.Load(),
		Dropped: c.dropped.Load(), Refused: c.refused.Load(), Probed: c.probed.Load(), Finished: c.finished.Load(),
		Broken: c.broken.Load(), Strangers: c.strangers.Load(), Blocks: c.blocks.Load(), Resent: c.resent.Load(), Bytes: c.bytes.Load(),
	}
}
