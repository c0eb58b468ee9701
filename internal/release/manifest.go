// Package release is the image set on disk: OUT/NAME-VERSION/ with its
// manifest.json, which names every file, partition, section and digest. The
// manifest is the one document that crosses builder, server and machine.
package release

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/ingot-os/ingot/internal/jsondoc"
	"github.com/ingot-os/ingot/internal/regular"
)

// Format is the manifest revision; a reader stops at any other.
const Format = 1

// MaxSecurityEpoch bounds security epochs: a TPM counter is raised to them one
// by one, and every release signs a policy for each.
const MaxSecurityEpoch = 63

// MaxDataSchema bounds the formats of data partitions: the journal has two bytes
// for one.
const MaxDataSchema = 65535

// ManifestName is the file name of the manifest inside an image set.
const ManifestName = "manifest.json"

// EnvelopeName is the file name of the signed manifest: a DSSE envelope whose
// payload is manifest.json, byte for byte.
const EnvelopeName = "manifest.dsse.json"

// PolicySuffix is that of the file with policy signatures (package policy),
// which a set has when machines encrypt their data.
const PolicySuffix = ".pcrsig"

// Manifest describes one image set. All digests are hex SHA-256, all sizes and offsets bytes.
type Manifest struct {
	Format  int    `json:"format"`
	Name    string `json:"name"`
	Version string `json:"version"`
	Arch    string `json:"arch"`
	Epoch   int64  `json:"epoch"` // Unix seconds of every time stamp in the set
	Build   string `json:"build"` // digest of the lock; the machine reports the same
	Cmdline string `json:"cmdline"`
	// SecurityEpoch, 0 to MaxSecurityEpoch, is what a machine's version floor is
	// compared with; it has nothing to do with Epoch.
	SecurityEpoch int `json:"securityEpoch,omitempty"`
	// DataSchema is the format of the data partition that the release writes,
	// DataAccepts the newest that it reads; both 0 to MaxDataSchema.
	DataSchema  int `json:"dataSchema,omitempty"`
	DataAccepts int `json:"dataAccepts,omitempty"`
	// PolicyKey is there when machines encrypt their data: the key, as
	// SubjectPublicKeyInfo in DER, that says in the .pcrsig which values of PCR 11
	// may open it.
	PolicyKey []byte `json:"policyKey,omitempty"`

	Tools    Tools   `json:"tools"`
	Files    []File  `json:"files"`
	Disk     Disk    `json:"disk"`
	Sections []Part  `json:"sections"` // of the UKI, in file order
	Contents []Entry `json:"contents"` // of the initramfs
	Root     *Root   `json:"root,omitempty"`
	Inputs   []Input `json:"inputs"`
}

// Tools are the versions that made the set.
type Tools struct {
	Ingot string `json:"ingot"`
	Init  string `json:"init"` // digest of ingot-init
	Go    string `json:"go,omitempty"`
}

// File is one file of the set beside the manifest.
type File struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Disk is the partition table of the .img.
type Disk struct {
	Layout     string      `json:"layout"`
	SectorSize int         `json:"sectorSize"`
	Size       int64       `json:"size"`
	GUID       string      `json:"guid"`
	Partitions []Partition `json:"partitions"`
}

// Partition is one GPT entry and the digest of its whole content.
type Partition struct {
	Index  int    `json:"index"`
	Role   string `json:"role"`
	Type   string `json:"type"`
	GUID   string `json:"guid"`
	Start  int64  `json:"start"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Part is a UKI section; Size is the virtual size that the stub measures.
type Part struct {
	Name   string `json:"name"`
	Offset int64  `json:"offset"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Entry is one node of the initramfs.
type Entry struct {
	Path   string `json:"path"`
	Mode   string `json:"mode"`            // octal with type bits, as in st_mode
	Owner  string `json:"owner,omitempty"` // "uid:gid" unless 0:0
	Size   int64  `json:"size,omitempty"`
	SHA256 string `json:"sha256,omitempty"` // of a regular file's content
	Target string `json:"target,omitempty"` // of a link
}

// Root is the verity root payload.
type Root struct {
	Format    string `json:"format"`
	DataSize  int64  `json:"dataSize"`
	HashStart int64  `json:"hashStart"`
	RootHash  string `json:"rootHash"`
}

// Input is one locked input as it went into the set.
type Input struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	SHA256  string `json:"sha256"`
}

// Marshal gives the manifest's only encoding: indented JSON with a final newline.
func (m *Manifest) Marshal() ([]byte, error) {
	b, err := jsondoc.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	return b, nil
}

// Parse reads a manifest and refuses unknown fields and formats.
func Parse(data []byte) (*Manifest, error) {
	var probe struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(data, &probe); err != nil {
		return nil, fmt.Errorf("parse manifest: %w", err)
	}
	if probe.Format != Format {
		return nil, fmt.Errorf("parse manifest: format %d, this ingot reads %d", probe.Format, Format)
	}
	m := new(Manifest)
	if err := jsondoc.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("parse manifest: %w", err)
	}
	return m, m.check()
}

// check refuses names that would lead out of the set's directory, and numbers
// that no disk has: a set may come from anywhere, and run and flash open what
// it names.
func (m *Manifest) check() error {
	switch stem := m.Stem(); {
	case m.Name == "" || m.Version == "":
		return errors.New("parse manifest: name or version is missing")
	case stem != filepath.Base(stem):
		return fmt.Errorf("parse manifest: name %q and version %q leave the set", m.Name, m.Version)
	}
	if m.SecurityEpoch < 0 || m.SecurityEpoch > MaxSecurityEpoch {
		return fmt.Errorf("parse manifest: securityEpoch: %d is not within 0..%d", m.SecurityEpoch, MaxSecurityEpoch)
	}
	if m.DataSchema < 0 || m.DataAccepts < m.DataSchema || m.DataAccepts > MaxDataSchema {
		return fmt.Errorf("parse manifest: dataSchema %d, dataAccepts %d: want 0 <= dataSchema <= dataAccepts <= %d", m.DataSchema, m.DataAccepts, MaxDataSchema)
	}
	for _, p := range m.Disk.Partitions {
		if m.Disk.Size < 0 || p.Start < 0 || p.Size < 0 || p.Start > m.Disk.Size-p.Size {
			return fmt.Errorf("parse manifest: partition %d of %d bytes at %d leaves the disk of %d", p.Index, p.Size, p.Start, m.Disk.Size)
		}
	}
	for _, f := range m.Files {
		if f.Name != filepath.Base(f.Name) || f.Name == "." || f.Name == ".." {
			return fmt.Errorf("parse manifest: file name %q leaves the set", f.Name)
		}
	}
	return nil
}

// Set is an image set on disk.
type Set struct {
	Dir      string
	Manifest *Manifest
}

// Open reads the manifest of an image set directory.
func Open(dir string) (*Set, error) {
	data, err := regular.Read(filepath.Join(dir, ManifestName), maxManifest)
	if err != nil {
		return nil, fmt.Errorf("open image set: %w", err)
	}
	m, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("open image set %s: %w", dir, err)
	}
	return &Set{Dir: dir, Manifest: m}, nil
}

// maxManifest bounds a manifest in bytes; one of 100,000 entries has 20 MB.
const maxManifest = 64 << 20

// Stem is NAME-VERSION, the common start of all file names of a set.
func (m *Manifest) Stem() string { return m.Name + "-" + m.Version }

// Image is the path of the raw disk.
func (s *Set) Image() string { return filepath.Join(s.Dir, s.Manifest.Stem()+".img") }

// UKI is the path of the unified kernel image.
func (s *Set) UKI() string { return filepath.Join(s.Dir, s.Manifest.Stem()+".efi") }
