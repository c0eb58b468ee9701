package tftp

// timers is a heap of sessions by the time at which they are due.
type timers []*session

func (t timers) first() *session {
	if len(t) == 0 {
		return nil
	}
	return t[0]
}

func (t *timers) push(s *session) {
	s.timer = len(*t)
	*t = append(*t, s)
	t.up(s.timer)
}

// fix puts a session right whose time has changed.
func (t timers) fix(s *session) {
	t.up(s.timer)
	t.down(s.timer)
}

// remove takes a session out; one that was never pushed is left alone.
func (t *timers) remove(s *session) {
	h, i := *t, s.timer
	if i >= len(h) || h[i] != s {
		return
	}
	last := len(h) - 1
	h.swap(i, last)
	h[last] = nil
	*t = h[:last]
	if i < last {
		t.fix((*t)[i])
	}
}

func (t timers) swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].timer, t[j].timer = i, j
}

func (t timers) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if t[parent].due <= t[i].due {
			return
		}
		t.swap(i, parent)
		i = parent
	}
}

func (t timers) down(i int) {
	for {
		least := i
		for _, c := range []int{2*i + 1, 2*i + 2} {
			if c < len(t) && t[c].due < t[least].due {
				least = c
			}
		}
		if least == i {
			return
		}
		t.swap(i, least)
		i = least
	}
}
