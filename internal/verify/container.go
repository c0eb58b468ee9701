package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/ingot-os/ingot/partition/frames"
	"github.com/ingot-os/ingot/partition/qcow2"
	"github.com/ingot-os/ingot/partition/vhd"
	"github.com/ingot-os/ingot/partition/vmdk"
)

// container is a disk inside a file of another format.
type container interface {
	io.ReaderAt
	Size() int64
}

// openContainer opens the disk in a file by what the file begins with; nil
// when it is none of ingot's containers.
func openContainer(r io.ReaderAt, size int64) (container, error) {
	head := make([]byte, 8)
	if n, _ := r.ReadAt(head, 0); n < len(head) {
		return nil, nil
	}
	var c container
	var err error
	switch {
	case string(head[:4]) == qcow2.Magic:
		c, err = qcow2.Open(r, size)
	case string(head) == vhd.Magic:
		c, err = vhd.Open(r, size)
	case string(head[:4]) == vmdk.Magic:
		c, err = vmdk.Open(r, size)
	case string(head[:4]) == "\x28\xb5\x2f\xfd": // RFC 8878 section 3.1.1
		c, err = frames.Open(r, size, frames.Options{})
	default:
		return nil, nil
	}
	if errors.Is(err, frames.ErrNoTable) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &turns{container: c}, nil
}

// turns lets one reader in at a time: some containers keep what they unpacked
// last.
type turns struct {
	container
	mu sync.Mutex
}

// ReadAt implements io.ReaderAt.
func (t *turns) ReadAt(b []byte, off int64) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.container.ReadAt(b, off)
}

// checkContainers compares the disk inside each container of the set with the
// image, which the other checks look into.
func (v *verifier) checkContainers(c *Check) error {
	if v.report.Kind != KindSet {
		c.skip(WhyNoOther)
		return nil
	}
	img := v.files[v.m.Stem()+".img"]
	g, ctx := errgroup.WithContext(v.ctx)
	g.SetLimit(max(runtime.GOMAXPROCS(0), 1))
	var mu sync.Mutex
	var bad []Refusal
	for _, e := range v.m.Files {
		f := v.files[e.Name]
		if v.understood(e.Name) || !f.intact {
			continue
		}
		d, err := openContainer(f.f, f.size)
		switch {
		case err != nil:
			c.malformed(ContainerFormat, at(e.Name), err)
			continue
		case d == nil:
			c.note(e.Name, WhyDigestOnly, "")
			continue
		case !img.intact:
			c.note(e.Name, WhyRefused, "")
			continue
		}
		c.Count++
		g.Go(func() error {
			r, err := v.compareContainer(ctx, e.Name, d, img)
			mu.Lock()
			defer mu.Unlock()
			bad = append(bad, r...)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, e := range v.m.Files { // in the manifest's order, whoever came first
		for _, r := range bad {
			if r.Place.File == e.Name {
				c.add(r.Code, r.Place, r.Want, r.Got, r.Cause)
			}
		}
	}
	if c.Count == 0 {
		c.skip(WhyNoOther)
	}
	return nil
}

// compareContainer says where a disk differs from the image. Containers round
// sizes up, with zeros.
func (v *verifier) compareContainer(ctx context.Context, name string, d container, img *setFile) ([]Refusal, error) {
	if d.Size() < img.size {
		return []Refusal{{Code: ContainerDisk, Place: at(name, "disk"), Want: fmt.Sprint(img.size), Got: fmt.Sprint(d.Size())}}, nil
	}
	off, err := sameBytes(ctx, d, 0, img.f, 0, img.size)
	if err == nil && off < 0 {
		if _, off, err = sumOf(ctx, d, img.size, d.Size()-img.size); off >= 0 {
			off += img.size
		}
	}
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return []Refusal{{Code: ContainerFormat, Place: at(name), Cause: err.Error()}}, nil
	case off >= 0:
		return []Refusal{{Code: ContainerDisk, Place: at(name, fmt.Sprintf("disk, byte %d", off)), Want: "the image's", Got: "another"}}, nil
	}
	return nil, nil
}
