package hosttest

import (
	"crypto"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/dsse"
	"github.com/ingot-os/ingot/internal/release"
)

// Size is that of a slot, in bytes.
const Size = 8 << 20

// Release is a small release: a slot of noise that starts nothing but this
// package's machines.
type Release struct {
	Name, Version string
	Epoch         int   // security epoch
	Seed          byte  // of the noise; releases with the same seed differ in a line
	Used          int64 // bytes of noise
}

// Bytes is the content of the slot.
func (r Release) Bytes() []byte {
	b := make([]byte, Size)
	rand.NewChaCha8([32]byte{r.Seed}).Read(b[:r.Used])
	copy(b[r.Used/2:], "version "+r.Version)
	return b
}

// Content is the slot as the journal has it.
func (r Release) Content() slot.Content {
	return slot.Content{Version: r.Version, Image: sha256.Sum256(r.Bytes()), Epoch: uint32(r.Epoch), Condition: slot.Good}
}

// Roles are the partitions of a disk, each with an id of its name.
var Roles = []string{"slot-a", "slot-b"}

// start is where the first partition begins, in bytes.
const start = 1 << 20

// Write writes the release as an image set, signed by a key unless that is nil.
func (r Release) Write(dir string, key crypto.Signer) error {
	m := &release.Manifest{Format: release.Format, Name: r.Name, Version: r.Version, Arch: "amd64", SecurityEpoch: r.Epoch,
		Disk: release.Disk{Layout: layoutID, SectorSize: 512, Size: start + 2*Size, GUID: diskGUID}}
	data, at := r.Bytes(), int64(start)
	for i, role := range Roles {
		m.Disk.Partitions = append(m.Disk.Partitions, release.Partition{Index: i + 1, Role: role, GUID: role, Start: at, Size: Size, SHA256: fmt.Sprintf("%x", sha256.Sum256(data))})
		at += Size
	}
	text, err := m.Marshal()
	if err != nil {
		return err
	}
	files := map[string][]byte{release.ManifestName: text, m.Stem() + ".img": append(append(make([]byte, start), data...), data...)}
	if key != nil {
		signer, err := dsse.NewSigner(key)
		if err != nil {
			return err
		}
		if files[release.EnvelopeName], err = dsse.Sign(dsse.TypeManifest, text, signer); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}
