package build

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"

	"github.com/ingot-os/ingot/partition/tree"
)

// newFileBlob makes the content of an open file a Blob; the file stays open
// until the build ends, so a cache cleaned meanwhile cannot change it.
func newFileBlob(f *os.File) (tree.Blob, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return tree.Section{R: f, N: info.Size()}, nil
}

func blobDigest(b tree.Blob) (string, error) {
	r, err := b.Open()
	if err != nil {
		return "", err
	}
	defer r.Close()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
