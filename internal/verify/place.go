package verify

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"

	"github.com/ingot-os/ingot/internal/sparse"
	"github.com/ingot-os/ingot/partition"
)

// placeInFile says where a file of the set differs, as far as there is
// something intact to compare it with: a copy on the disk.
func (v *verifier) placeInFile(f *setFile) (Place, error) {
	place := at(f.entry.Name)
	switch f.entry.Name {
	case v.m.Stem() + ".efi":
		if v.uki == nil || v.uki.size != f.size {
			return place, nil
		}
		off, err := sameBytes(v.ctx, f.f, 0, v.uki.r, 0, f.size)
		if err != nil || off < 0 {
			return place, err
		}
		return at(f.entry.Name, v.nameInUKI(off)).byte(off), nil
	case v.m.Stem() + ".root":
		for _, role := range []string{partition.RootA, partition.RootB} {
			p := v.part(role)
			if p == nil || !p.intact || p.Size < f.size {
				continue
			}
			off, err := sameBytes(v.ctx, f.f, 0, v.image.r, p.Start, f.size)
			if err != nil || off < 0 {
				return place, err
			}
			return at(f.entry.Name, v.nameInRoot(off)).byte(off), nil
		}
	}
	return place, nil
}

// placeInPartition says where a partition differs: what is there, and the
// offset in the partition, -1 when that is not known. What to compare with is,
// in this order, zeros, the other partition of a pair, the payload's file, and
// a volume made anew out of the files that the SBOM names.
func (v *verifier) placeInPartition(p *partFacts) ([]string, int64, error) {
	sum, err := v.zeroSum(p.Size)
	if err != nil || sum == p.want {
		return []string{"empty"}, p.nonzero, err
	}
	for _, twin := range v.parts {
		if twin == p || !twin.intact || twin.want != p.want || twin.Size != p.Size {
			continue
		}
		off, err := sameBytes(v.ctx, v.image.r, p.Start, v.image.r, twin.Start, p.Size)
		if err != nil || off < 0 {
			return nil, -1, err
		}
		return v.nameIn(p, v.section(twin.Part), off), off, nil
	}
	if p.Role == partition.RootA || p.Role == partition.RootB {
		return v.placeInRoot(p)
	}
	return v.placeInVolume(p)
}

// zeroSum is the digest of n zeros.
func (v *verifier) zeroSum(n int64) (string, error) {
	h := sha256.New()
	for ; n > 0; n -= int64(len(zeros)) {
		if err := v.ctx.Err(); err != nil {
			return "", err
		}
		h.Write(zeros[:min(n, int64(len(zeros)))])
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// nameIn names what is at an offset of a partition; reference is what it
// should hold.
func (v *verifier) nameIn(p *partFacts, reference io.ReaderAt, off int64) []string {
	if p.Role == partition.RootA || p.Role == partition.RootB {
		return []string{v.nameInRoot(off)}
	}
	path, inFile, isUKI := nameInVolume(reference, p.Size, off, v.ukiSize())
	if isUKI {
		path = append(path, v.nameInUKI(inFile))
	}
	return path
}

func (v *verifier) ukiSize() int64 {
	f, _ := v.fileEntry(".efi")
	return f.Size
}

// nameInUKI names what is at an offset of the boot file.
func (v *verifier) nameInUKI(off int64) string {
	name, end := "headers", int64(0)
	for _, s := range v.m.Sections {
		if off >= s.Offset && off < s.Offset+s.Size {
			return "section " + s.Name
		}
		if off >= s.Offset {
			name = "behind section " + s.Name
		}
		end = max(end, s.Offset+s.Size)
	}
	if v.uki != nil && v.uki.info.PE != nil {
		if c := v.uki.info.PE.Certificates; c.Size > 0 && off >= int64(c.VirtualAddress) {
			return "certificate table"
		}
	}
	return name
}

func (v *verifier) nameInRoot(off int64) string {
	r := v.m.Root
	switch {
	case r == nil:
		return "payload"
	case off < r.DataSize:
		return r.Format + " filesystem"
	case off < r.HashStart+512:
		return "verity superblock"
	}
	return "verity hash tree"
}

// placeInRoot compares with the payload's file, and behind that with zeros.
func (v *verifier) placeInRoot(p *partFacts) ([]string, int64, error) {
	f := v.files[v.m.Stem()+".root"]
	if f == nil || f.f == nil || f.size > p.Size {
		return nil, -1, nil
	}
	if !f.checked && f.problem == "" { // beside an image that is verified alone
		var err error
		if f.sum, _, err = sumOf(v.ctx, f.f, 0, f.size); err != nil {
			return nil, -1, err
		}
		f.intact = f.sum == f.entry.SHA256
	}
	if !f.intact {
		return nil, -1, nil
	}
	off, err := sameBytes(v.ctx, v.image.r, p.Start, f.f, 0, f.size)
	if err != nil {
		return nil, -1, err
	}
	if off >= 0 {
		return []string{v.nameInRoot(off)}, off, nil
	}
	_, nonzero, err := sumOf(v.ctx, v.image.r, p.Start+f.size, p.Size-f.size)
	if err != nil || nonzero < 0 {
		return nil, -1, err
	}
	return []string{"behind the payload"}, f.size + nonzero, nil
}

// placeInVolume compares with the volume that the SBOM's files make. Where not
// all of them can be had, it names a file that differs.
func (v *verifier) placeInVolume(p *partFacts) ([]string, int64, error) {
	r, err := v.rebuild(p)
	if err != nil || r == nil {
		return nil, -1, err
	}
	if r.damaged != "" {
		return []string{r.damaged}, -1, nil
	}
	c := &comparer{r: v.section(p.Part), h: sha256.New(), diff: -1, done: v.ctx.Err}
	if _, err := r.image.WriteTo(c); err != nil {
		return nil, -1, err
	}
	if c.diff < 0 || hex.EncodeToString(c.h.Sum(nil)) != p.want {
		return nil, -1, nil // another ingot lays volumes out otherwise: no reference
	}
	return v.nameIn(p, r.skeleton, c.diff), c.diff, nil
}

// comparer hashes what is written and notes where it first differs from r.
type comparer struct {
	r    io.ReaderAt
	h    hash.Hash
	at   int64
	diff int64
	buf  []byte
	done func() error
}

// Write implements io.Writer.
func (c *comparer) Write(p []byte) (int, error) {
	if err := c.done(); err != nil {
		return 0, err
	}
	if c.diff < 0 {
		if len(c.buf) < len(p) {
			c.buf = make([]byte, max(len(p), sparse.Step))
		}
		if n, err := c.r.ReadAt(c.buf[:len(p)], c.at); n < len(p) && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if i := firstDifference(p, c.buf[:len(p)]); i >= 0 {
			c.diff = c.at + i
		}
	}
	c.at += int64(len(p))
	return c.h.Write(p)
}
