package inspect

import (
	"bytes"
	"fmt"
	"os"

	"github.com/ingot-os/ingot/internal/sparse"
)

// firstByteOf compares two files of one size.
func firstByteOf(a, b string) (*Difference, error) {
	x, size, err := open(a)
	if err != nil {
		return nil, err
	}
	defer x.Close()
	y, _, err := open(b)
	if err != nil {
		return nil, err
	}
	defer y.Close()
	return firstByte(x, 0, y, 0, size)
}

// firstByte compares n bytes of x from offset p with those of y from q, where
// either file has data. It returns the first difference, counted from p, or nil.
func firstByte(x *os.File, p int64, y *os.File, q, n int64) (*Difference, error) {
	runs, err := sparse.Data(x, p, n)
	if err != nil {
		return nil, err
	}
	more, err := sparse.Data(y, q, n)
	if err != nil {
		return nil, err
	}
	var first *Difference
	best := n
	b, c := make([]byte, sparse.Step), make([]byte, sparse.Step)
	for _, r := range append(runs, more...) {
		for at := r.Off; at < min(r.End, best); at += sparse.Step {
			k := min(r.End-at, sparse.Step)
			if _, err := x.ReadAt(b[:k], p+at); err != nil {
				return nil, err
			}
			if _, err := y.ReadAt(c[:k], q+at); err != nil {
				return nil, err
			}
			if bytes.Equal(b[:k], c[:k]) {
				continue
			}
			if i := differing(b[:k], c[:k]); at+i < best {
				best = at + i
				first = &Difference{at: best, Field: fmt.Sprintf("byte %d", best), A: fmt.Sprintf("%#02x", b[i]), B: fmt.Sprintf("%#02x", c[i])}
			}
			break
		}
	}
	return first, nil
}

// differing is the index of the first byte that is not the same.
func differing(p, q []byte) int64 {
	for i := range p {
		if p[i] != q[i] {
			return int64(i)
		}
	}
	return int64(len(p))
}
