package inspect

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/ingot-os/ingot/internal/sparse"
)

// Compare inspects two files or image sets and lists how they differ, as Diff
// does. Where no structure accounts for it (the slack of a cluster, padding, a
// hash tree), it names the first byte that differs. So the list is empty only
// when the bytes are the same.
func Compare(a, b string) ([]Difference, error) {
	x, y, err := Both(a, b)
	if err != nil {
		return nil, err
	}
	diffs := Diff(x, y)
	switch {
	case x.Kind != "set" && y.Kind != "set":
		return explain(diffs, x, a, b)
	case x.Kind == "set" && y.Kind == "set" && len(diffs) == 0:
		for _, c := range x.Children {
			more, err := explain(nil, c, filepath.Join(a, c.Name), filepath.Join(b, c.Name))
			if err != nil {
				return nil, err
			}
			for _, d := range more {
				d.Where = label(c) + " → " + d.Where
				diffs = append(diffs, d)
			}
		}
	}
	return diffs, nil
}

// explain replaces digests by the place where they differ, and
// finds a byte when nothing else was found. n describes the first file.
func explain(diffs []Difference, n *Node, a, b string) ([]Difference, error) {
	x, err := os.Open(a)
	if err != nil {
		return nil, err
	}
	defer x.Close()
	y, err := os.Open(b)
	if err != nil {
		return nil, err
	}
	defer y.Close()
	for i, d := range diffs {
		start, size, ok := n.extent(d)
		if !ok {
			continue
		}
		if at, err := firstByte(x, y, start, size); err == nil && at != nil {
			at.Where = d.Where
			diffs[i] = *at
		}
	}
	if len(diffs) > 0 {
		return diffs, nil
	}
	size, err := x.Seek(0, 2)
	if err != nil {
		return nil, err
	}
	d, err := firstByte(x, y, 0, size)
	if err != nil || d == nil {
		return nil, err
	}
	d.Where = n.Kind
	return []Difference{*d}, nil
}

// extent is the range that a digest is of, when d says that only that differs:
// a partition of a disk, or the file itself.
func (n *Node) extent(d Difference) (start, size int64, ok bool) {
	of := n
	switch {
	case d.Field == "authenticode" && d.Where == n.Kind:
	case d.Field == "sha256" && d.Where != n.Kind:
		i := slices.IndexFunc(n.Children, func(c *Node) bool { return c.Kind == "partition" && label(c) == d.Where })
		if i < 0 {
			return 0, 0, false
		}
		of = n.Children[i]
		start, _ = strconv.ParseInt(of.Field("start"), 10, 64)
	default:
		return 0, 0, false
	}
	size, err := strconv.ParseInt(of.Field("size"), 10, 64)
	return start, size, err == nil
}

// firstByte compares n bytes at off, where either file has data, and returns
// the first difference, counted from off; nil when there is none.
func firstByte(x, y *os.File, off, n int64) (*Difference, error) {
	var runs []sparse.Run
	for _, f := range []*os.File{x, y} {
		r, err := sparse.Data(f, off, n)
		if err != nil {
			return nil, err
		}
		runs = append(runs, r...)
	}
	var first *Difference
	best := n
	p, q := make([]byte, sparse.Step), make([]byte, sparse.Step)
	for _, r := range runs {
		for at := r.Off; at < min(r.End, best); at += sparse.Step {
			k := min(r.End-at, sparse.Step)
			if _, err := x.ReadAt(p[:k], off+at); err != nil {
				return nil, err
			}
			if _, err := y.ReadAt(q[:k], off+at); err != nil {
				return nil, err
			}
			if bytes.Equal(p[:k], q[:k]) {
				continue
			}
			i := differing(p[:k], q[:k])
			if at+i < best {
				best = at + i
				first = &Difference{Field: fmt.Sprintf("byte %d", best), A: fmt.Sprintf("%#02x", p[i]), B: fmt.Sprintf("%#02x", q[i])}
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
