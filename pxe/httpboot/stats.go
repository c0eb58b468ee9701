package httpboot

// Stats are counts of connections since a server began; all but Open only grow.
type Stats struct {
	Open     int64
	Accepted int64
	Refused  int64 // of Accepted: closed at once, because their address had Limits.PerAddress
}

// Stats tells how many connections there are, and were.
func (s *Server) Stats() Stats {
	s.setUp()
	s.crowd.mu.Lock()
	defer s.crowd.mu.Unlock()
	return s.crowd.stats
}
