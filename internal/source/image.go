package source

import (
	"context"
	"errors"

	"github.com/ingot-os/ingot/internal/lock"
)

func (f *Fetcher) fetchImage(ctx context.Context, in lock.Input, dir string) (string, error) {
	return "", errors.New("fetch image: not yet")
}

// Image implements lock.Fetcher.
func (f *Fetcher) Image(ctx context.Context, ref, dir, arch string) (lock.Input, error) {
	return lock.Input{}, errors.New("resolve image: not yet")
}
