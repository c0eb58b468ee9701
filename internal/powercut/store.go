package powercut

import "slices"

// store is sparse memory. A clone shares the pages that neither has written
// since, so thousands of states fit into memory.
type store struct {
	pages [][]byte
	own   []bool // no clone shares the page
}

const (
	sector   = 512
	pageSize = 64 << 10
)

var zeroPage = make([]byte, pageSize)

func newStore(size int64) store {
	n := (size + pageSize - 1) / pageSize
	s := store{pages: make([][]byte, n), own: make([]bool, n)}
	for i := range s.pages {
		s.pages[i] = zeroPage
	}
	return s
}

func (s *store) clone() store {
	clear(s.own) // from now on both share
	return store{pages: slices.Clone(s.pages), own: make([]bool, len(s.own))}
}

// read fills b from at, which is within the memory with all of b.
func (s *store) read(b []byte, at int64) {
	for n := 0; n < len(b); {
		page := s.pages[(at+int64(n))/pageSize]
		n += copy(b[n:], page[(at+int64(n))%pageSize:])
	}
}

func (s *store) write(b []byte, at int64) {
	for n := 0; n < len(b); {
		i := (at + int64(n)) / pageSize
		if !s.own[i] {
			s.pages[i], s.own[i] = slices.Clone(s.pages[i]), true
		}
		n += copy(s.pages[i][(at+int64(n))%pageSize:], b[n:])
	}
}
