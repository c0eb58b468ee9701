package lock

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/internal/lock/local"
)

// Vendor copies every remote input of a lock into dir: packages, downloads and
// the blobs of images. A Fetcher that is given dir then needs no network. Each
// file lies under its digest, sha256/HEX, and SHA256SUMS lists them in the form
// that sha256sum -c checks. Go modules are not copied: their place is GOMODCACHE
// or a vendor folder of the program's own module.
//
// Files that are already there stay; those that no input needs any more are
// left alone. recipeDir is where a relative path to an OCI layout starts.
func Vendor(ctx context.Context, l *Lock, f Fetcher, recipeDir, dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "sha256"), 0o755); err != nil {
		return fmt.Errorf("make vendor bundle: %w", err)
	}
	all := map[string]bool{}
	for _, in := range l.Inputs {
		if in.Kind != KindDeb && in.Kind != KindURL && in.Kind != KindOCI {
			continue
		}
		if _, err := f.Fetch(ctx, in, recipeDir); err != nil {
			return err
		}
		for _, sha := range digests(in) {
			if err := vendorFile(f, sha, filepath.Join(dir, "sha256", sha)); err != nil {
				return fmt.Errorf("vendor %s: %w", in.Name, err)
			}
			all[sha] = true
		}
	}
	return writeSums(filepath.Join(dir, "SHA256SUMS"), all)
}

func digests(in Input) []string {
	list := []string{in.SHA256}
	for _, b := range in.Blobs {
		list = append(list, b.SHA256)
	}
	return list
}

func vendorFile(f Fetcher, sha, path string) error {
	if got, _, err := local.HashFile(path); err == nil && got == sha {
		return nil
	}
	from, err := f.Open(sha)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.CreateTemp(filepath.Dir(path), ".tmp-")
	if err != nil {
		return err
	}
	defer os.Remove(to.Name())
	_, err = io.Copy(to, from)
	if e := to.Chmod(0o644); err == nil {
		err = e
	}
	if e := to.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return os.Rename(to.Name(), path)
}

func writeSums(path string, all map[string]bool) error {
	var text strings.Builder
	for _, sha := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&text, "%s  sha256/%s\n", sha, sha)
	}
	if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
		return fmt.Errorf("make vendor bundle: %w", err)
	}
	return nil
}
