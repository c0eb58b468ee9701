package crypt

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/ingot-os/ingot/internal/agent/volume"
	"github.com/ingot-os/ingot/partition/fat"
)

// maxSignatures bounds the file in bytes.
const maxSignatures = 1 << 20

// signaturesName is how the file's name ends: it lies beside the boot file.
const signaturesName = ".pcrsig"

// readSignatures reads the release's file of policy signatures from the slot's
// file system. The slot is not mounted for it: it is never written, and one
// more driver would only be one more way to fail.
func readSignatures(node string) ([]byte, error) {
	if node == "" {
		return nil, errors.New("read policy signatures: this system was not started from a slot")
	}
	f, err := os.Open(node)
	if err != nil {
		return nil, fmt.Errorf("read policy signatures: %w", err)
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("read policy signatures: %w", err)
	}
	b, err := findSignatures(f, size)
	if err != nil {
		return nil, fmt.Errorf("read policy signatures on %s: %w", node, err)
	}
	return b, nil
}

func findSignatures(r io.ReaderAt, size int64) ([]byte, error) {
	fs, err := fat.Open(r, size)
	if err != nil {
		return nil, err
	}
	t, err := fs.Tree()
	if err != nil {
		return nil, err
	}
	for _, n := range t.Nodes() {
		name := strings.ToLower(path.Base(n.Path))
		if !n.Mode.IsRegular() || !strings.HasSuffix(name, signaturesName) {
			continue
		}
		if n.Content.Size() > maxSignatures {
			return nil, fmt.Errorf("%s has %d bytes, the limit is %d", n.Path, n.Content.Size(), maxSignatures)
		}
		c, err := n.Content.Open()
		if err != nil {
			return nil, err
		}
		defer c.Close()
		return io.ReadAll(io.LimitReader(c, maxSignatures))
	}
	return nil, fmt.Errorf("it has no file *%s: the release was made without a policy key", signaturesName)
}

// withSignatures fills in where the signatures come from.
func withSignatures(r volume.Request) volume.Request {
	if r.Signatures == nil {
		r.Signatures = func() ([]byte, error) { return readSignatures(r.Slot) }
	}
	return r
}
