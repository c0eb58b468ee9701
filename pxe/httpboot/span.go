package httpboot

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// span is what of a file is asked for.
type span struct {
	from, to int64 // of which to is not part
	part     bool  // it was asked for as a range
}

func (s span) contentRange(size int64) string {
	return fmt.Sprintf("bytes %d-%d/%d", s.from, s.to-1, size)
}

// parseRange reads a Range header (RFC 9110 section 14.2). What is not one range
// of bytes is as if it were not there; ok is false for a range outside of the
// file.
func parseRange(h string, size int64) (s span, ok bool) {
	whole := span{to: size}
	unit, set, found := strings.Cut(h, "=")
	if !found || !strings.EqualFold(strings.TrimSpace(unit), "bytes") {
		return whole, true
	}
	first, last, found := strings.Cut(strings.TrimSpace(set), "-")
	if !found || first == "" && last == "" {
		return whole, true
	}
	if first == "" {
		n, fine := position(last)
		if !fine {
			return whole, true
		}
		return span{max(size-n, 0), size, true}, n > 0 && size > 0
	}
	s = span{to: size, part: true}
	var fine bool
	if s.from, fine = position(first); !fine {
		return whole, true
	}
	if last != "" {
		end, fine := position(last)
		if !fine || end < s.from {
			return whole, true
		}
		s.to = min(end, size-1) + 1
	}
	return s, s.from < size
}

// position reads a number; one that is too large for a file is larger than any.
func position(s string) (int64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		n = math.MaxInt64
	}
	return n, true
}

// matches reports whether a tag is among those of an If-Match or If-None-Match
// header. Ours is strong and has no comma in it. weak: W/ counts as equal.
func matches(h, tag string, weak bool) bool {
	for t := range strings.SplitSeq(h, ",") {
		t = strings.TrimSpace(t)
		if weak {
			t = strings.TrimPrefix(t, "W/")
		}
		if t == "*" || tag != "" && t == tag {
			return true
		}
	}
	return false
}
