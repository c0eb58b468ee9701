package imageset

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/ingot-os/ingot/internal/sparse"
	"github.com/ingot-os/ingot/partition"
)

// readBack reads an image while it is written, each part as soon as it is final.
type readBack struct{ f *os.File }

// same reports whether two partitions hold the same bytes. It compares the
// data of both; false is also the answer when their holes lie differently.
func (r readBack) same(p, q partition.Part) (bool, error) {
	if p.Size != q.Size {
		return false, nil
	}
	a, err := sparse.Data(r.f, p.Start, p.Size)
	if err != nil {
		return false, err
	}
	b, err := sparse.Data(r.f, q.Start, q.Size)
	if err != nil || !slices.Equal(a, b) {
		return false, err
	}
	x, y := make([]byte, sparse.Step), make([]byte, sparse.Step)
	for _, d := range a {
		for at := d.Off; at < d.End; at += sparse.Step {
			n := min(d.End-at, sparse.Step)
			if _, err := r.f.ReadAt(x[:n], p.Start+at); err != nil {
				return false, err
			}
			if _, err := r.f.ReadAt(y[:n], q.Start+at); err != nil {
				return false, err
			}
			if !bytes.Equal(x[:n], y[:n]) {
				return false, nil
			}
		}
	}
	return true, nil
}

// whole is the digest of everything, as far as the ends that come in say that
// it is final.
func (r readBack) whole(ends <-chan int64) (string, error) {
	h, at := sha256.New(), int64(0)
	for end := range ends {
		if err := sparse.Copy(h, r.f, at, end-at); err != nil {
			return "", err
		}
		at = end
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// partitions gives the digest of each partition, by index. One that holds the
// same bytes as an earlier one, as slot B does, has its digest too.
func (r readBack) partitions(parts <-chan partition.Part) (map[int]string, error) {
	digests := map[int]string{}
	var seen []partition.Part
	for p := range parts {
		for _, q := range seen {
			same, err := r.same(p, q)
			if err != nil {
				return nil, fmt.Errorf("compare %s with %s: %w", p.Role, q.Role, err)
			}
			if same {
				digests[p.Index] = digests[q.Index]
				break
			}
		}
		if digests[p.Index] == "" {
			h := sha256.New()
			if err := sparse.Copy(h, r.f, p.Start, p.Size); err != nil {
				return nil, err
			}
			digests[p.Index] = hex.EncodeToString(h.Sum(nil))
		}
		seen = append(seen, p)
	}
	return digests, nil
}

// hashDisk runs fill, which writes a disk whose partition table is written
// already, and gives the digest of each partition, by index, and of the whole:
// what is in the manifest is what was read back, not what was meant. The whole
// is one chain of SHA-256 and takes longest, so it follows the writer closely
// and everything else runs beside it.
func hashDisk(f *os.File, l partition.Layout, fill func(done func(partition.Part)) error) (digests map[int]string, whole string, err error) {
	r := readBack{f}
	ends, parts := make(chan int64, len(l.Parts)+1), make(chan partition.Part, len(l.Parts))
	var written error
	var g errgroup.Group
	g.Go(func() error {
		defer close(ends)
		defer close(parts)
		written = fill(func(p partition.Part) {
			ends <- p.End()
			parts <- p
		})
		ends <- l.Size
		return nil
	})
	g.Go(func() (err error) {
		whole, err = r.whole(ends)
		return err
	})
	g.Go(func() (err error) {
		digests, err = r.partitions(parts)
		return err
	})
	if err := g.Wait(); err != nil && written == nil {
		return nil, "", fmt.Errorf("read back image: %w", err)
	}
	return digests, whole, written
}

// hashFile is the SHA-256 of a file, whose holes are not read.
func hashFile(f *os.File, size int64) (string, error) {
	h := sha256.New()
	if err := sparse.Copy(h, f, 0, size); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
