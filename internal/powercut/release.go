package powercut

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/partition/fat"
	"github.com/ingot-os/ingot/partition/tree"
)

// Release is one slot image.
type Release struct {
	slot.Content
	bytes []byte
	root  []byte   // of the verity root; nil = none
	boot  [32]byte // SHA-256 of its boot file
}

// NewRelease makes a slot image of size bytes with a boot file in it.
func NewRelease(version string, epoch uint32, boot []byte, size int64) (*Release, error) {
	var t tree.Tree
	if err := t.Add(tree.Node{Path: file, Mode: 0o644, Content: tree.Bytes(boot)}); err != nil {
		return nil, err
	}
	img, err := fat.Plan(&t, fat.Options{Size: size, Serial: 1, Label: "SLOT", Epoch: 1752576245})
	if err != nil {
		return nil, fmt.Errorf("plan slot image: %w", err)
	}
	var b bytes.Buffer
	b.Grow(int(size))
	if _, err := img.WriteTo(&b); err != nil {
		return nil, fmt.Errorf("write slot image: %w", err)
	}
	return ReadRelease(version, epoch, b.Bytes())
}

// ReadRelease takes a slot image as it is, such as one of a built disk, so that
// the states of its update can be started in a real machine as well.
func ReadRelease(version string, epoch uint32, image []byte) (*Release, error) {
	r := &Release{bytes: image}
	var ok bool
	if r.boot, ok = load(bytes.NewReader(image), int64(len(image))); !ok {
		return nil, fmt.Errorf("read slot image: no %s in it", file)
	}
	r.Content = slot.Content{Version: version, Image: sha256.Sum256(image), Epoch: epoch}
	return r, nil
}

// SetRoot gives the release a verity root: its boot file works with that one
// alone.
func (r *Release) SetRoot(image []byte) { r.root, r.Root = image, sha256.Sum256(image) }

// Bytes returns the slot image.
func (r *Release) Bytes() []byte { return r.bytes }

// isOn says whether the area holds the whole image.
func (r *Release) isOn(p Part) bool { return holds(p, r.bytes) }

func (r *Release) rootIsOn(p Part) bool { return holds(p, r.root) }

func holds(p Part, want []byte) bool {
	b := make([]byte, pageSize)
	for off := 0; off < len(want); off += pageSize {
		w := want[off:min(off+pageSize, len(want))]
		if _, err := p.ReadAt(b[:len(w)], int64(off)); err != nil || !bytes.Equal(b[:len(w)], w) {
			return false
		}
	}
	return true
}
