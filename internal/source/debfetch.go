package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/internal/source/debian"
)

// SupersededError says that mirrors no longer have a locked package (S11).
type SupersededError struct {
	Input, Package, Version string
	Err                     error
}

// Error implements error.
func (e *SupersededError) Error() string {
	return fmt.Sprintf("fetch %s (%s %s): %v: superseded: run ingot lock --update %s", e.Input, e.Package, e.Version, e.Err, e.Input)
}

// Unwrap gives the cause.
func (e *SupersededError) Unwrap() error { return e.Err }

// Hint is the command that helps.
func (e *SupersededError) Hint() string { return "ingot lock --update " + e.Input }

// fetchDeb asks, in this order: cache, vendor bundle, mirror, snapshot service.
func (f *Fetcher) fetchDeb(ctx context.Context, in lock.Input) (string, error) {
	f.once.Do(f.setup)
	w := want{what: in.Name, sha: in.SHA256, size: in.Size, limit: MaxDeb}
	if in.Size > MaxDeb {
		return "", fmt.Errorf("fetch %s: %d bytes, the limit for a package is %d", in.Name, in.Size, int64(MaxDeb))
	}
	path, err := f.blob(ctx, w, under(f.archive.Roots(in.Pocket), in.Path))
	unknown := errors.Is(err, noMirrorError{})
	if err == nil || !errors.Is(err, errMissing) && !unknown || unknown && f.Snapshot == "" {
		return path, err
	}
	if f.Snapshot != "" {
		path, err2 := f.fromSnapshot(ctx, w, in)
		if err2 == nil || !errors.Is(err2, errMissing) {
			return path, err2
		}
		err = err2
	}
	return "", &SupersededError{Input: in.Name, Package: in.Package, Version: in.Version, Err: unwrapOnce(err)}
}

// unwrapOnce drops the "fetch NAME:" that SupersededError says itself.
func unwrapOnce(err error) error {
	if e := errors.Unwrap(err); e != nil {
		return e
	}
	return err
}

func under(roots []string, path string) []string {
	var list []string
	for _, r := range roots {
		list = append(list, strings.TrimSuffix(r, "/")+"/"+path)
	}
	return list
}

// maxSnapshotAnswer bounds the JSON answer of the snapshot service, in bytes.
const maxSnapshotAnswer = 1 << 20

// fromSnapshot knows two ways: a frozen archive has the pool path; the service
// itself is asked which files it has of this package and version. Its answer is
// a SHA-1, which only finds the file: the locked SHA-256 is what is checked.
func (f *Fetcher) fromSnapshot(ctx context.Context, w want, in lock.Input) (string, error) {
	root := strings.TrimSuffix(f.Snapshot, "/")
	if strings.Contains(root, "/archive/") {
		if in.Pocket == debian.PocketSecurity {
			root = strings.Replace(root, "/archive/debian/", "/archive/debian-security/", 1)
		}
		return f.remote(ctx, w, []string{root + "/" + in.Path})
	}
	ask := fmt.Sprintf("%s/mr/binary/%s/%s/binfiles", root, url.PathEscape(in.Package), url.PathEscape(in.Version))
	b, err := archiveSource{f}.Small(ctx, in.Name+" from the snapshot service", []string{ask}, maxSnapshotAnswer)
	if err != nil {
		return "", err
	}
	urls, err := snapshotFiles(root, b, in.Arch)
	if err != nil {
		return "", fmt.Errorf("ask snapshot service for %s: %w", in.Name, err)
	}
	return f.remote(ctx, w, urls)
}

func snapshotFiles(root string, answer []byte, arch string) ([]string, error) {
	var a struct {
		Result []struct {
			Hash string `json:"hash"`
			Arch string `json:"architecture"`
		} `json:"result"`
	}
	if err := json.Unmarshal(answer, &a); err != nil {
		return nil, err
	}
	var urls []string
	for _, r := range a.Result {
		if r.Arch == arch && strings.Trim(r.Hash, "0123456789abcdef") == "" {
			urls = append(urls, root+"/file/"+r.Hash)
		}
	}
	if len(urls) == 0 {
		return nil, fmt.Errorf("%w for %s", errMissing, arch)
	}
	return urls, nil
}
