package reproduce

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/ingot-os/ingot/attest/policy"
	"github.com/ingot-os/ingot/boot/authenticode"
	"github.com/ingot-os/ingot/internal/imageset"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/fat"
	"github.com/ingot-os/ingot/partition/tree"
)

// ErrNoSignature is wrapped when a rebuilt boot file has a digest that no
// signature of the release is for.
var ErrNoSignature = errors.New("the release has no signature for this digest")

// maxProgram bounds the boot files beside the UKI, which are read as a whole.
const maxProgram = 64 << 20

// signatures is an imageset.Authority without a key: it hands out what the
// release carries, by the digest that is signed. A signature does not fit
// another image, and authenticode.Attach refuses it there.
type signatures struct {
	boot   map[authenticode.Digest][]byte
	policy *policy.File // nil without
}

// Signatures collects the signatures of a released set's UKI and of the
// programs on its ESP, and of its policies; nil when there are none. A disk that cannot be read is
// left to the comparison, which says what is wrong with it.
func Signatures(set *release.Set) (imageset.Authority, error) {
	found := signatures{boot: map[authenticode.Digest][]byte{}}
	uki, err := os.Open(set.UKI())
	if err != nil {
		return nil, err
	}
	defer uki.Close()
	info, err := uki.Stat()
	if err != nil {
		return nil, err
	}
	found.add(uki, info.Size())
	disk, err := os.Open(set.Image())
	if err != nil {
		return nil, err
	}
	defer disk.Close()
	found.addESP(disk, set.Manifest.Disk.Size)
	if data, err := os.ReadFile(filepath.Join(set.Dir, set.Manifest.Stem()+release.PolicySuffix)); err == nil {
		if f, err := policy.ParseFile(data); err == nil && f.Verify(set.Manifest.PolicyKey) == nil {
			found.policy = &f
		}
	}
	if len(found.boot) == 0 && found.policy == nil {
		return nil, nil
	}
	return found, nil
}

// add keeps the first signature of each digest: a build makes one.
func (s signatures) add(image io.ReaderAt, size int64) {
	list, err := authenticode.Signatures(image, size)
	if err != nil {
		return // no program, or a broken one
	}
	for _, sig := range list {
		if _, ok := s.boot[sig.Digest]; !ok {
			s.boot[sig.Digest] = sig.PKCS7
		}
	}
}

func (s signatures) addESP(disk io.ReaderAt, size int64) {
	l, err := partition.Read(disk, size)
	if err != nil {
		return
	}
	p, ok := l.Part(partition.ESP)
	if !ok {
		return
	}
	v, err := fat.Open(io.NewSectionReader(disk, p.Start, p.Size), p.Size)
	if err != nil {
		return
	}
	t, err := v.Tree()
	if err != nil {
		return
	}
	for _, n := range t.Nodes() {
		if !n.Mode.IsRegular() || n.Content == nil || n.Size() > maxProgram {
			continue
		}
		if image, err := readAll(n.Content); err == nil {
			s.add(bytes.NewReader(image), int64(len(image)))
		}
	}
}

func readAll(b tree.Blob) ([]byte, error) {
	r, err := b.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// Boot implements imageset.Authority.
func (s signatures) Boot(file string, req authenticode.Request) ([]byte, error) {
	p7, ok := s.boot[req.Digest]
	if !ok {
		return nil, fmt.Errorf("%s, digest %v: %w", file, req.Digest, ErrNoSignature)
	}
	return p7, nil
}

// Policy implements imageset.Authority.
func (s signatures) Policy(w imageset.Approval) ([]byte, error) {
	if s.policy != nil && bytes.Equal(s.policy.Key, w.Key) {
		for _, p := range s.policy.Policies {
			if digest, err := p.Policy(); err == nil && digest == w.Digest && p.Ref == w.Ref {
				return p.Signature, nil
			}
		}
	}
	return nil, fmt.Errorf("policy %x, %s: %w", w.Digest, w.Ref, ErrNoSignature)
}

// Manifest implements imageset.Authority: the envelope of a manifest may hold
// randomness, so its payload is compared and the envelope is not made again.
func (s signatures) Manifest([]byte) ([]byte, error) { return nil, nil }
