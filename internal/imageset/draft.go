// Package imageset makes everything of an image set that follows from its boot
// files: their signatures, the raw disk and its other formats, what it will
// measure, SBOM, provenance, the manifest and its signature, in that order (a signature is
// part of the boot file, so all digests come after it).
//
// A Draft is a set on its way. The build starts one from a lock; Load starts
// one from a finished set, so that signatures made elsewhere can be attached
// without recipe, cache or compiler. Both go the same way from there, and so
// give the same bytes:
//
//	d, err := imageset.Load(set, stage.Dir)
//	err = d.Sign(authority)                // Authenticode
//	err = d.WritePolicies(authority)       // .pcrsig, when machines encrypt their data
//	whole, err := d.WriteImage(workers...) // .img
//	err = d.WriteFormats(workers)          // .qcow2, .iso and others
//	err = d.WriteReference()               // reference.json
//	err = d.WriteDocuments(authority)      // SBOM, provenance, manifest, DSSE
package imageset

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"

	"github.com/ingot-os/ingot/attest/policy"
	"github.com/ingot-os/ingot/internal/provenance"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/sbom"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/tree"
)

// Draft is an image set that is being made in a directory. The UKI and, when
// used, the root payload are there already under their final names.
type Draft struct {
	Dir      string
	Manifest release.Manifest // all but what this package finds out: Files of its own, Sections, Disk
	Layout   partition.Layout

	UKI  *BootFile
	ESP  *tree.Tree // nodes that hold the UKI have UKI as Content
	Slot *tree.Tree // both slots; nil leaves them empty
	Root tree.Blob  // nil without a payload

	// Formats are the further outputs by the names of Formats.
	Formats []string
	// SPDX asks for a second SBOM.
	SPDX bool
	// Inventory lists the set; boot has the files of ESP and slots.
	Inventory func(boot []sbom.Content) (*sbom.Inventory, error)
	// Statement says how the outputs were made.
	Statement func(outputs []release.File) (*provenance.Statement, error)

	policies  *policy.File // of a set that was loaded; nil without
	reference []byte       // what WriteReference writes; nil until it is known
}

// path is a file of the set.
func (d *Draft) path(suffix string) string { return filepath.Join(d.Dir, d.Manifest.Stem()+suffix) }

// BootFile is the UKI as a Blob. It is opened when it is read, and replaced as
// a whole when it is signed.
type BootFile struct {
	path   string
	size   int64
	digest digests
}

// NewBootFile is the UKI at path, which must be there.
func NewBootFile(path string) (*BootFile, error) {
	b := &BootFile{path: path}
	return b, b.refresh()
}

func (b *BootFile) refresh() (err error) {
	info, err := os.Stat(b.path)
	if err != nil {
		return err
	}
	b.size = info.Size()
	b.digest, err = digest(b)
	return err
}

// Size implements tree.Blob.
func (b *BootFile) Size() int64 { return b.size }

// Open implements tree.Blob.
func (b *BootFile) Open() (io.ReadCloser, error) { return os.Open(b.path) }

// SHA256 is the digest of the file as it is, in hex.
func (b *BootFile) SHA256() string { return b.digest.sha256 }

// digests are what the documents say of a file, in hex.
type digests struct{ sha256, sha1 string }

func digest(b tree.Blob) (digests, error) {
	r, err := b.Open()
	if err != nil {
		return digests{}, err
	}
	defer r.Close()
	two, one := sha256.New(), sha1.New()
	if _, err := io.Copy(io.MultiWriter(two, one), r); err != nil {
		return digests{}, err
	}
	return digests{hex.EncodeToString(two.Sum(nil)), hex.EncodeToString(one.Sum(nil))}, nil
}

// content is what the SBOM says of a regular file.
func content(role string, n *tree.Node) (sbom.Content, error) {
	c := sbom.Content{Partition: role, Path: n.Path, Size: n.Size(), Origin: n.Origin}
	if c.Origin == "" {
		c.Origin = sbom.OriginGenerated
	}
	var sum digests
	var err error
	switch b := n.Content.(type) {
	case nil:
		sum, err = digest(tree.Bytes(nil))
	case *BootFile:
		sum = b.digest
	default:
		sum, err = digest(b)
	}
	c.SHA256, c.SHA1 = sum.sha256, sum.sha1
	return c, err
}

// Contents lists the regular files of a tree for the SBOM, under the name of
// their partition. Hard links count once.
func Contents(role string, t *tree.Tree) ([]sbom.Content, error) {
	var list []sbom.Content
	for _, n := range t.Nodes() {
		if !n.Mode.IsRegular() || n.Link != "" {
			continue
		}
		c, err := content(role, n)
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, nil
}

// boot lists the files of ESP and slots.
func (d *Draft) boot() ([]sbom.Content, error) {
	list, err := Contents(partition.ESP, d.ESP)
	if err != nil || d.Slot == nil {
		return list, err
	}
	for _, role := range []string{partition.SlotA, partition.SlotB} {
		more, err := Contents(role, d.Slot)
		if err != nil {
			return nil, err
		}
		list = append(list, more...)
	}
	return list, nil
}
