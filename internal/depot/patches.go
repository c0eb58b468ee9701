package depot

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/ingot-os/ingot/internal/delta"
	"github.com/ingot-os/ingot/internal/regular"
)

// ErrNoPatch: there is no patch between the two, or it would be hardly smaller
// than the whole part.
var ErrNoPatch = errors.New("no patch pays")

// ErrMaking: the patch is being made, or waits for another. Ask again later, or
// take the whole part.
var ErrMaking = errors.New("the patch is being made")

// pays is the part of the compressed whole that a patch may have.
const pays = 0.75

// maxWaiting bounds the patches that wait to be made: each has been asked for by
// a host.
const maxWaiting = 32

// patches are kept in files BASE-TARGET.delta. An empty one says that it does
// not pay.
type patches struct {
	dir   string
	count int
	bytes int64

	mu     sync.Mutex
	making map[string]*making // by file name
	turn   chan struct{}      // one is made at a time
}

// making is a patch that is under way.
type making struct {
	done chan struct{}
	err  error
}

func openPatches(o Options) (*patches, error) {
	p := &patches{dir: o.Dir, count: cmp.Or(o.Count, 64), bytes: cmp.Or(o.Bytes, 2<<30), making: map[string]*making{}, turn: make(chan struct{}, 1)}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return nil, err
	}
	list, err := os.ReadDir(p.dir)
	if err != nil {
		return nil, err
	}
	for _, e := range list { // of a server that ended while it made them
		if strings.HasPrefix(e.Name(), temporary) {
			os.Remove(filepath.Join(p.dir, e.Name()))
		}
	}
	return p, p.trim("")
}

const (
	temporary = ".new-"
	suffix    = ".delta"
)

// Patch gives the patch from one part to another, from the directory or made
// anew, and waits for that as long as the context lasts; making goes on after
// it. Errors wrap ErrNoPatch or ErrMaking, or say that a part differs. The
// caller closes the file.
func (d *Depot) Patch(ctx context.Context, base, target Part) (*os.File, int64, error) {
	if d.patches == nil {
		return nil, 0, fmt.Errorf("%w: the server keeps none", ErrNoPatch)
	}
	name := base.SHA256 + "-" + target.SHA256 + suffix
	if f, size, err := d.patches.open(name); !errors.Is(err, fs.ErrNotExist) {
		return f, size, err
	}
	m, err := d.patches.begin(name, func(ctx context.Context) error { return d.make(ctx, name, base, target) })
	if err != nil {
		return nil, 0, err
	}
	select {
	case <-m.done:
	case <-ctx.Done():
		return nil, 0, ErrMaking
	}
	if m.err != nil {
		return nil, 0, m.err
	}
	f, size, err := d.patches.open(name)
	if errors.Is(err, fs.ErrNotExist) { // many others were made meanwhile
		err = ErrMaking
	}
	return f, size, err
}

// Prepare makes a patch that somebody is going to ask for.
func (d *Depot) Prepare(base, target Part) {
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if f, _, err := d.Patch(gone, base, target); err == nil {
		f.Close()
	}
}

// open gives a patch that is kept, and marks it as used.
func (p *patches) open(name string) (*os.File, int64, error) {
	path := filepath.Join(p.dir, name)
	f, info, err := regular.OpenHere(path)
	if err != nil {
		return nil, 0, err
	}
	now := time.Now()
	os.Chtimes(path, now, now) // the longest unused goes first
	if info.Size() == 0 {
		f.Close()
		return nil, 0, ErrNoPatch
	}
	return f, info.Size(), nil
}

// begin starts to make a patch, unless somebody does already.
func (p *patches) begin(name string, fn func(context.Context) error) (*making, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m := p.making[name]; m != nil {
		return m, nil
	}
	if len(p.making) >= maxWaiting {
		return nil, ErrMaking
	}
	m := &making{done: make(chan struct{})}
	p.making[name] = m
	go func() {
		p.turn <- struct{}{}
		m.err = fn(context.Background())
		<-p.turn
		p.mu.Lock()
		delete(p.making, name)
		p.mu.Unlock()
		close(m.done)
	}()
	return m, nil
}

// make writes a patch under its name, or an empty file when it does not pay.
func (d *Depot) make(ctx context.Context, name string, base, target Part) error {
	if _, err := os.Lstat(filepath.Join(d.patches.dir, name)); err == nil { // another was quicker
		return nil
	}
	old, err := d.Open(ctx, base)
	if err != nil {
		return err
	}
	defer old.Close()
	new, err := d.Open(ctx, target)
	if err != nil {
		return err
	}
	defer new.Close()
	f, err := os.CreateTemp(d.patches.dir, temporary) // mode 0600
	if err != nil {
		return fmt.Errorf("make patch: %w", err)
	}
	defer os.Remove(f.Name()) // gone after the renaming
	if err := write(f, old, new); err != nil {
		f.Close()
		return fmt.Errorf("make patch: %w", err)
	}
	if err = f.Sync(); err == nil {
		err = f.Close()
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(d.patches.dir, name))
	}
	if err != nil {
		return fmt.Errorf("make patch: %w", err)
	}
	return d.patches.trim(name)
}

// write leaves f empty when the patch does not pay.
func write(f *os.File, old, new *Opened) error {
	i, err := delta.Make(f, delta.Image{ReaderAt: old, Size: old.Size}, delta.Image{ReaderAt: new, Size: new.Size})
	switch {
	case errors.Is(err, delta.ErrTooLarge):
		return f.Truncate(0)
	case err != nil:
		return err
	case hex.EncodeToString(i.Old[:]) != old.SHA256 || hex.EncodeToString(i.New[:]) != new.SHA256:
		return ErrDiffers
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	whole, err := compressed(new)
	if err == nil && float64(size) > pays*float64(whole) {
		err = f.Truncate(0)
	}
	return err
}

// compressed is the size of a part as it is sent without a patch.
func compressed(o *Opened) (int64, error) {
	n := counter(0)
	e, err := NewEncoder(&n)
	if err != nil {
		return 0, err
	}
	defer e.Close()
	if _, err := io.Copy(e, io.NewSectionReader(o, 0, o.Used)); err != nil {
		return 0, err
	}
	return int64(n), e.Close()
}

type counter int64

// Write implements io.Writer.
func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}

// window of what NewEncoder makes, in bytes: what a machine must have in memory.
const window = 1 << 20

// NewEncoder compresses parts for machines: fast, in one goroutine, with a
// window of 1 MiB. On slots of hello it makes 12 MB of 25.
func NewEncoder(w io.Writer) (*zstd.Encoder, error) {
	return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window), zstd.WithLowerEncoderMem(true))
}

// trim removes the longest unused patches beyond the bounds, but not the one
// that was just made. Who reads one reads it to the end.
func (p *patches) trim(but string) error {
	list, err := os.ReadDir(p.dir)
	if err != nil {
		return fmt.Errorf("trim patches: %w", err)
	}
	var files []fs.FileInfo
	total := int64(0)
	for _, e := range list {
		if info, err := e.Info(); err == nil && strings.HasSuffix(e.Name(), suffix) {
			files, total = append(files, info), total+info.Size()
		}
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	left := len(files)
	for _, info := range files {
		if left <= p.count && total <= p.bytes {
			break
		}
		if info.Name() == but {
			continue
		}
		if err := os.Remove(filepath.Join(p.dir, info.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("trim patches: %w", err)
		}
		left, total = left-1, total-info.Size()
	}
	return nil
}
