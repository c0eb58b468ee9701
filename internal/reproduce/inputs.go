package reproduce

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/internal/source"
)

// inputsOnly gives a fetcher whose cache in dir holds the inputs of the lock
// and nothing that was ever derived from them. What has to be downloaded stays
// in the user's cache.
func inputsOnly(ctx context.Context, o Options, dir string) (*source.Fetcher, error) {
	cold := &source.Store{Dir: dir}
	for _, in := range o.Lock.Inputs {
		switch in.Kind {
		case lock.KindDeb, lock.KindURL, lock.KindOCI:
		default:
			continue // local, or the Go toolchain's
		}
		if _, err := o.Fetcher.Fetch(ctx, in, o.Recipe.Dir); err != nil {
			return nil, err
		}
		for _, sha := range digests(in) {
			if err := bring(o.Fetcher.Store, cold, sha); err != nil {
				return nil, fmt.Errorf("take input %s out of the cache: %w", in.Name, err)
			}
		}
	}
	options := o.Fetcher.Options
	options.Store = cold
	return source.New(options)
}

// digests are those under which the cache may keep an input.
func digests(in lock.Input) []string {
	list := []string{in.SHA256}
	for _, b := range in.Blobs {
		list = append(list, b.SHA256)
	}
	return list
}

// bring links an entry of one cache into another, or copies it. An image out
// of a local folder may have entries that are read where they lie.
func bring(from, to *source.Store, sha string) error {
	f, err := from.Open(sha)
	if errors.Is(err, source.ErrNotCached) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	path, err := to.Path(sha)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if os.Link(f.Name(), path) == nil {
		return nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, _, err = to.Put(f)
	return err
}
