package build

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/partition"
)

// readBack reads an image while it is written, each part as soon as it is
// final. Holes are not read: lseek(2) defines them as ranges that read as zeros,
// so zeros are hashed in their place. Of the 757 MB of examples/hello 97 MB are
// data; reading the rest took longer than all other work of a build together.
type readBack struct{ f *os.File }

// run is a range that holds data, in bytes from the start of what was asked for.
type run struct{ off, end int64 }

// data lists what is not a hole in a range of the file.
func (r readBack) data(off, n int64) ([]run, error) {
	var out []run
	for at := off; at < off+n; {
		start, err := r.f.Seek(at, unix.SEEK_DATA)
		switch {
		case errors.Is(err, unix.ENXIO): // nothing but a hole up to the end of the file
			return out, nil
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP): // cannot tell: then all is data
			return append(out, run{at - off, n}), nil
		case err != nil:
			return nil, err
		case start >= off+n:
			return out, nil
		}
		end, err := r.f.Seek(start, unix.SEEK_HOLE)
		if err != nil {
			return nil, err
		}
		at = min(end, off+n)
		out = append(out, run{start - off, at - off})
	}
	return out, nil
}

// readStep is how much is read at a time: small enough to be hashed while it
// is still in the second cache of a processor.
const readStep = 256 << 10

// zeroStep is what stands for holes; it stays in the first cache.
var zeroStep [16 << 10]byte

// hash feeds a range of the file to h.
func (r readBack) hash(h io.Writer, off, n int64) error {
	data, err := r.data(off, n)
	if err != nil {
		return err
	}
	at, buf := int64(0), make([]byte, readStep)
	zeros := func(n int64) {
		for ; n > 0; n -= int64(len(zeroStep)) {
			h.Write(zeroStep[:min(n, int64(len(zeroStep)))])
		}
	}
	for _, d := range data {
		zeros(d.off - at)
		src := struct{ io.Reader }{io.NewSectionReader(r.f, off+d.off, d.end-d.off)}
		got, err := io.CopyBuffer(h, src, buf)
		if err == nil && got != d.end-d.off {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return fmt.Errorf("at offset %d: %w", off+d.off, err)
		}
		at = d.end
	}
	zeros(n - at)
	return nil
}

// same reports whether two partitions hold the same bytes. It compares the
// data of both; false is also the answer when their holes lie differently.
func (r readBack) same(p, q partition.Part) (bool, error) {
	if p.Size != q.Size {
		return false, nil
	}
	a, err := r.data(p.Start, p.Size)
	if err != nil {
		return false, err
	}
	b, err := r.data(q.Start, q.Size)
	if err != nil || !slices.Equal(a, b) {
		return false, err
	}
	x, y := make([]byte, readStep), make([]byte, readStep)
	for _, d := range a {
		for at := d.off; at < d.end; at += readStep {
			n := min(d.end-at, readStep)
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
		if err := r.hash(h, at, end-at); err != nil {
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
			if err := r.hash(h, p.Start, p.Size); err != nil {
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
