package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/internal/source/oci"
)

// Image resolves an image reference for linux and arch; see lock.Fetcher. The
// manifest enters the cache.
func (f *Fetcher) Image(ctx context.Context, ref, dir, arch string) (lock.Input, error) {
	o, err := f.origin(ref, dir)
	if err != nil {
		return lock.Input{}, err
	}
	m, err := o.Resolve(ctx, arch)
	if err != nil {
		return lock.Input{}, err
	}
	if _, _, err := f.Store.Put(bytes.NewReader(m.Bytes)); err != nil {
		return lock.Input{}, err
	}
	m.Input.Arch = arch
	return m.Input, nil
}

// origin opens where an image comes from; layouts on disk work offline too.
func (f *Fetcher) origin(ref, dir string) (*oci.Origin, error) {
	o, err := oci.Open(ref, dir, f.client())
	if err == nil && f.Offline && o.Remote() {
		return nil, fmt.Errorf("fetch image %s: %w", ref, offlineError{})
	}
	return o, err
}

// fetchImage makes the manifest and all blobs of a locked image available and
// returns the manifest's path.
func (f *Fetcher) fetchImage(ctx context.Context, in lock.Input, dir string) (string, error) {
	var o *oci.Origin
	path := ""
	for i, b := range append([]lock.Blob{oci.ManifestBlob(in)}, in.Blobs...) {
		w := want{what: in.Name, sha: b.SHA256, size: b.Size, limit: oci.MaxLayer}
		p, err := f.local(ctx, w)
		if errors.Is(err, ErrNotCached) {
			if o == nil {
				if o, err = f.origin(in.Path, dir); err != nil {
					return "", err
				}
			}
			p, err = f.fetchBlob(ctx, o, w, in.Path, b)
		}
		if err != nil {
			return "", err
		}
		if i == 0 {
			path = p
		}
	}
	return path, nil
}

// fetchBlob reads one blob; its bounds and retries are those of a download.
func (f *Fetcher) fetchBlob(ctx context.Context, o *oci.Origin, w want, ref string, b lock.Blob) (string, error) {
	var path string
	err := f.attempt(ctx, func() error {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		r, err := o.Fetch(ctx, b)
		if err != nil {
			return err
		}
		defer r.Close()
		stall := time.AfterFunc(stallAfter, func() { cancel(errStalled) })
		defer stall.Stop()
		from := ref + " blob " + b.SHA256[:12]
		path, err = f.keep(ctx, w, from, &body{f: f, w: w, url: from, r: r, total: b.Size, stall: stall, ctx: ctx})
		return err
	})
	if err != nil {
		return "", fmt.Errorf("fetch %s: %w", w.what, err)
	}
	return path, nil
}
