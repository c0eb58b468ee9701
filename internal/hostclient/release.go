package hostclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/ingot-os/ingot/internal/depot"
	"github.com/ingot-os/ingot/internal/dsse"
	"github.com/ingot-os/ingot/internal/regular"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// ReleaseOptions configure OpenRelease.
type ReleaseOptions struct {
	// Base are image sets that machines may run: what there is a patch from. Sets
	// beside the release are looked at anyway.
	Base []string
	// Patches is where patches are kept; empty: whole parts are sent.
	Patches string
}

// Release is an image set that is sent to machines.
type Release struct {
	Name, Version string
	Envelope      []byte // the signed manifest

	parts map[string]depot.Part // by updateapi's names
	bases map[string]depot.Part // by name and digest: what a patch may start from
	depot *depot.Depot

	patches bool // there is a place for them
}

// ErrUnsigned means that an image set has no signed manifest.
var ErrUnsigned = errors.New("the image set is not signed")

// OpenRelease reads an image set. Its bytes are compared with its manifest when
// they are sent.
func OpenRelease(dir string, o ReleaseOptions) (*Release, error) {
	set, err := release.Open(dir)
	if err != nil {
		return nil, err
	}
	r := &Release{Name: set.Manifest.Name, Version: set.Manifest.Version, parts: partsOf(set), bases: map[string]depot.Part{}, patches: o.Patches != ""}
	r.Envelope, err = regular.Read(filepath.Join(dir, release.EnvelopeName), dsse.MaxEnvelope)
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrUnsigned
	}
	if err == nil {
		err = carries(dir, r.Envelope)
	}
	if err != nil {
		return nil, fmt.Errorf("read release %s: %w", dir, err)
	}
	if _, ok := r.parts[updateapi.PartSlot]; !ok {
		return nil, fmt.Errorf("read release %s: it has no slots", dir)
	}
	for _, base := range o.Base {
		set, err := release.Open(base)
		if err != nil {
			return nil, err
		}
		r.base(set)
	}
	r.beside(dir)
	r.depot, err = depot.New(depot.Options{Dir: o.Patches})
	return r, err
}

// carries compares the manifest that is signed with the one that says where the
// parts lie.
func carries(dir string, envelope []byte) error {
	manifest, err := regular.Read(filepath.Join(dir, release.ManifestName), dsse.MaxEnvelope)
	if err != nil {
		return err
	}
	if err := dsse.Carries(envelope, manifest); err != nil {
		return fmt.Errorf("%w: %s beside %s: %w", ErrUnsigned, release.EnvelopeName, release.ManifestName, err)
	}
	return nil
}

// partsOf are the parts of an image set, as its slot a has them.
func partsOf(set *release.Set) map[string]depot.Part {
	parts := map[string]depot.Part{}
	for _, p := range set.Manifest.Disk.Partitions {
		for _, name := range []string{updateapi.PartSlot, updateapi.PartRoot} {
			if p.Role == name+"-a" {
				parts[name] = depot.Part{Path: set.Image(), Start: p.Start, Size: p.Size, SHA256: p.SHA256}
			}
		}
	}
	return parts
}

func (r *Release) base(set *release.Set) {
	for name, p := range partsOf(set) {
		r.bases[name+" "+p.SHA256] = p
	}
}

// beside adds the sets that lie beside the release, as ingot build leaves them.
func (r *Release) beside(dir string) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return
	}
	list, err := os.ReadDir(filepath.Dir(abs))
	if err != nil {
		return
	}
	for _, e := range list[:min(len(list), 1000)] {
		if set, err := release.Open(filepath.Join(filepath.Dir(abs), e.Name())); err == nil && set.Manifest.Name == r.Name {
			r.base(set)
		}
	}
}

// Image is the SHA-256 of the release's slot partition, in hex.
func (r *Release) Image() string { return r.parts[updateapi.PartSlot].SHA256 }

// sending is a body that is sent.
type sending struct {
	coding string
	body   io.ReadCloser
	size   int64 // of body in bytes; -1: not known
	close  func()
}

// fits says whether there could be a patch for a part.
func (r *Release) fits(w updateapi.Want) bool {
	_, ok := r.bases[w.Part+" "+w.Base]
	return ok && w.Base != "" && r.patches
}

// patch is what makes the wanted part out of what the machine has; nil when
// there is none, or none that pays.
func (r *Release) patch(ctx context.Context, w updateapi.Want) *sending {
	f, size, err := r.depot.Patch(ctx, r.bases[w.Part+" "+w.Base], r.parts[w.Part])
	if err != nil {
		return nil // the whole part does as well
	}
	return &sending{updateapi.CodingDelta, f, size, func() { f.Close() }}
}

// whole is the rest of a part, compressed on the way. read is told how much of
// the part was taken.
func (r *Release) whole(ctx context.Context, w updateapi.Want, read func(int64)) (*sending, error) {
	part, ok := r.parts[w.Part]
	if !ok {
		return nil, fmt.Errorf("the machine wants the part %.20q, which the release has not", w.Part)
	}
	o, err := r.depot.Open(ctx, part)
	if err != nil {
		return nil, err
	}
	pr, pw := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := compress(pw, o, w.From, read); err != nil {
			pw.CloseWithError(&localError{err})
			return
		}
		pw.Close()
	}()
	return &sending{updateapi.CodingZstd, pr, -1, func() { pr.Close(); <-done; o.Close() }}, nil
}

func compress(w io.Writer, o *depot.Opened, from int64, read func(int64)) error {
	z, err := depot.NewEncoder(w)
	if err != nil {
		return err
	}
	left := max(o.Used-from, 0)
	_, err = io.Copy(z, counting(io.NewSectionReader(o, from, left), from, read))
	if cerr := z.Close(); err == nil {
		err = cerr
	}
	return err
}

// counted tells how far a reader was read. Who sends it may still read when
// others look.
type counted struct {
	r    io.Reader
	at   atomic.Int64
	tell func(int64)
}

func counting(r io.Reader, from int64, tell func(int64)) *counted {
	c := &counted{r: r, tell: tell}
	c.at.Store(from)
	return c
}

// Read implements io.Reader.
func (c *counted) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	if at := c.at.Add(int64(n)); c.tell != nil {
		c.tell(at)
	}
	return n, err
}

// used is how much of a part is sent at most, in bytes.
func (r *Release) used(ctx context.Context, part string) int64 {
	p, ok := r.parts[part]
	if !ok {
		return 0
	}
	o, err := r.depot.Open(ctx, p)
	if err != nil {
		return 0
	}
	defer o.Close()
	return o.Used
}
