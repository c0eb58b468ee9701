// Package depot gives out the bytes of releases: a partition out of the .img of
// an image set, without the zeros at its end, and patches between two of them.
//
//	d, err := depot.New(depot.Options{Dir: filepath.Join(state, "deltas")})
//	o, err := d.Open(ctx, depot.Part{Path: set.Image(), Start: p.Start, Size: p.Size, SHA256: p.SHA256})
//	defer o.Close()
//	io.Copy(w, io.NewSectionReader(o, from, o.Used-from))
//
// A part is read once before its first byte is given out: its SHA-256 must be
// the one that the signed manifest names. Then its file is kept open, and is
// served as long as it is that file with that size and those times. A file that
// was changed is read again; while it is being changed, reading it is an error.
// (Whoever can write the file could also set its times back: the machine checks
// the digest of what it got, always. This keeps a half-copied file from being
// offered, and from costing each machine a download.)
package depot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/internal/regular"
)

// Errors that callers tell apart.
var (
	// ErrDiffers: the bytes are not those that the manifest names.
	ErrDiffers = errors.New("differs from the manifest")
	// ErrChanged: the file was changed while it was read.
	ErrChanged = errors.New("was changed meanwhile")
)

// Part is a partition in an image, as the manifest describes it.
type Part struct {
	Path   string // of the .img
	Start  int64  // in bytes
	Size   int64
	SHA256 string // of the whole partition, in hex
}

// Depot gives out parts. Its methods may be called concurrently.
type Depot struct {
	mu    sync.Mutex
	files map[string]*file
	look  chan struct{} // as many parts are checked at a time as it holds

	patches *patches
}

// Options are what a depot is made of.
type Options struct {
	Dir string // where patches are kept; empty: there are none
	// Count and Bytes bound the patches that are kept; 0 is 64, and 2 GiB.
	Count int
	Bytes int64
	// Checks is how many parts are read at once to be checked; 0 is one: verdicts
	// need the processor, too.
	Checks int
}

// New makes a depot. Its directory is made with mode 0700.
func New(o Options) (*Depot, error) {
	d := &Depot{files: map[string]*file{}, look: make(chan struct{}, max(o.Checks, 1))}
	if o.Dir == "" {
		return d, nil
	}
	var err error
	if d.patches, err = openPatches(o); err != nil {
		return nil, fmt.Errorf("open patches: %w", err)
	}
	return d, nil
}

// looks is how often a file is read that changes meanwhile: a hard link that a backup
// makes, or another mode, is a change like any other.
const looks = 3

// Open gives a part, after it was checked. The error wraps ErrDiffers when its
// bytes are not those of the manifest, and ErrChanged when it does not come to rest.
func (d *Depot) Open(ctx context.Context, p Part) (o *Opened, err error) {
	for range looks {
		if o, err = d.open(ctx, p); !errors.Is(err, ErrChanged) {
			break
		}
	}
	return o, err
}

func (d *Depot) open(ctx context.Context, p Part) (*Opened, error) {
	f, err := d.hold(p.Path)
	if err != nil {
		return nil, fmt.Errorf("open image: %w", err)
	}
	c := d.known(f, p)
	if c == nil {
		if c, err = d.check(ctx, f, p); err != nil {
			d.drop(f)
			return nil, err
		}
	}
	if c.err != nil {
		d.drop(f)
		return nil, c.err
	}
	return &Opened{Part: p, Used: c.used, d: d, f: f}, nil
}

// hold gives the open file of a path: the one that is there now.
func (d *Depot) hold(path string) (*file, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.files[path]; f != nil && f.is == identify(&st) {
		f.users++
		return f, nil
	}
	opened, _, err := regular.Open(path)
	if err != nil {
		return nil, err
	}
	f := &file{f: opened, users: 2, parts: map[Part]*checked{}}
	if f.is, err = f.now(); err != nil {
		opened.Close()
		return nil, err
	}
	if old := d.files[path]; old != nil {
		old.leave()
	}
	d.files[path] = f
	return f, nil
}

func (d *Depot) drop(f *file) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f.leave()
}

func (f *file) leave() {
	if f.users--; f.users == 0 {
		f.f.Close()
	}
}

// Retain closes the files of other paths; who reads one reads it to the end.
func (d *Depot) Retain(paths map[string]bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for path, f := range d.files {
		if !paths[path] {
			delete(d.files, path)
			f.leave()
		}
	}
}

func (d *Depot) known(f *file, p Part) *checked {
	d.mu.Lock()
	defer d.mu.Unlock()
	return f.parts[p]
}

// check reads a part and keeps what came of it.
func (d *Depot) check(ctx context.Context, f *file, p Part) (*checked, error) {
	select {
	case d.look <- struct{}{}:
		defer func() { <-d.look }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if c := d.known(f, p); c != nil { // another has read it meanwhile
		return c, nil
	}
	if err := f.settle(ctx); err != nil {
		return nil, err
	}
	c := &checked{}
	if c.used, c.err = f.read(ctx, p); ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if errors.Is(c.err, ErrChanged) {
		return c, nil // not kept: look again
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	f.parts[p] = c
	return c, nil
}

// tick is the coarsest step of an inode's times: kernels before 6.13 stamp them
// with the time of the last timer interrupt, of which there are 100 in a second
// or more.
const tick = 20 * time.Millisecond

// settle waits until a change of the file would get another time than its last
// one has: two writes within one step of the clock look like one.
func (f *file) settle(ctx context.Context) error {
	age := time.Since(time.Unix(f.is.ctime.Unix()))
	if age >= tick || age < -tick { // a time ahead of the clock is not told from its changes; waiting would not help
		return nil
	}
	select {
	case <-time.After(tick - age):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// read gives the length of a part without the zeros at its end.
func (f *file) read(ctx context.Context, p Part) (used int64, err error) {
	if p.Start < 0 || p.Size < 0 || p.Start > f.is.size-p.Size {
		return 0, fmt.Errorf("%s: %w: it has %d bytes, the partition is at %d and has %d", p.Path, ErrDiffers, f.is.size, p.Start, p.Size)
	}
	sum, buf := sha256.New(), make([]byte, 1<<20)
	for off := int64(0); off < p.Size; {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		b := buf[:min(int64(len(buf)), p.Size-off)]
		if n, err := f.f.ReadAt(b, p.Start+off); n < len(b) {
			return 0, fmt.Errorf("read %s at %d: %w", p.Path, p.Start+off+int64(n), err)
		}
		sum.Write(b)
		if n := trimmed(b); n > 0 {
			used = off + int64(n)
		}
		off += int64(len(b))
	}
	if is, err := f.now(); err != nil || is != f.is {
		return 0, fmt.Errorf("read %s: %w", p.Path, ErrChanged)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != p.SHA256 {
		return 0, fmt.Errorf("%s: %w: the partition at %d has the digest %s, the manifest says %s", p.Path, ErrDiffers, p.Start, got, p.SHA256)
	}
	return used, nil
}

// trimmed is the length of b without zeros at its end.
func trimmed(b []byte) int {
	n := len(b)
	for n >= 8 && b[n-1]|b[n-2]|b[n-3]|b[n-4]|b[n-5]|b[n-6]|b[n-7]|b[n-8] == 0 {
		n -= 8
	}
	for n > 0 && b[n-1] == 0 {
		n--
	}
	return n
}
