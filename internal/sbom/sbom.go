// Package sbom lists what an image set is made of: every file of every
// partition belongs to exactly one component, and every component names the
// locked input or the Go module it came from. An Inventory is written as
// CycloneDX 1.6 (ECMA-424) or SPDX 2.3 (ISO/IEC 5962), and read back from
// CycloneDX by the vulnerability scan.
//
// The documents hold no clock and no randomness: their time is the lock's
// epoch, their serial number a hash of what was built. Licences are not looked
// into: SPDX says NOASSERTION for them.
//
//	inv, err := sbom.Collect(sbom.Input{Manifest: m, Lock: l, Contents: files, Programs: programs})
//	data, err := inv.CycloneDX()
package sbom

import (
	"crypto/sha256"
	"debug/buildinfo"
	"fmt"

	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/internal/release"
)

// File names of the documents in an image set.
const (
	CycloneDXName = "sbom.cdx.json"
	SPDXName      = "sbom.spdx.json"
)

// Origins of a Content beside the names of the lock's inputs.
const (
	OriginIngot     = "ingot"           // ingot-init, which the lock pins by digest
	OriginRecipe    = "recipe"          // text that stands in the recipe itself
	OriginGenerated = "ingot-generated" // made by the build: configuration, accounts, indexes, the boot file
)

// Initramfs is the Partition of files in the initramfs. Sections of the boot
// file have Partition "uki"; other partitions have the name of their role.
const Initramfs = "initramfs"

// Content is one regular file of an image set and where it came from. Hard
// links count once, under the path of their first name.
type Content struct {
	Partition string // Initramfs, "uki" or the role of a partition; no colon
	Path      string
	SHA256    string // hex
	SHA1      string // hex; optional: SPDX 2.3 section 8.4 wants it for each file
	Size      int64  // bytes
	// Origin is the name of an input in the lock or one of the constants above.
	// A file of an OCI image may name its layer too: "root@HEX".
	Origin string
}

// Input is what Collect works on.
type Input struct {
	Manifest *release.Manifest // Name, Version, Arch, Epoch, Build, Tools and Contents are read
	Lock     *lock.Lock
	Contents []Content
	// Programs holds the build information of Go binaries by the SHA-256 of the
	// file. Files that the build compiled, and ingot-init, must be in it; others
	// (binaries in an OCI image) should be.
	Programs map[string]*buildinfo.BuildInfo
}

// Kind says what a component is.
type Kind string

// The kinds of Component.
const (
	KindDebian    Kind = "debian"    // binary package
	KindGo        Kind = "go"        // Go module; the standard library is the module "stdlib"
	KindOCI       Kind = "oci"       // image, or one layer of it
	KindFile      Kind = "file"      // local file, directory or download of the recipe, or the recipe
	KindIngot     Kind = "ingot"     // ingot-init
	KindGenerated Kind = "generated" // made by the build
)

// Component is one thing that the set contains.
type Component struct {
	Ref     string // unique and stable: "deb:NAME@VERSION:ARCH", "go:PATH@VERSION", ...
	Kind    Kind
	Name    string // package, module path as its author wrote it, input
	Version string // empty when unknown, as for a Go module from a local directory
	Arch    string // debian
	PURL    string // package URL; empty when there is no type for it
	SHA256  string // of the locked input, hex; empty for modules

	Distro        string // debian: "trixie"
	Source        string // debian: the source package
	SourceVersion string

	Inputs    []string  // names in the lock, sorted
	Files     []Content // sorted by partition and path
	DependsOn []string  // refs, sorted
}

// Inventory is the whole list; the zero value is an empty one.
type Inventory struct {
	Name, Version, Arch string
	Build               string // digest of the lock
	Epoch               int64  // Unix seconds
	Ingot               string // version of the tool
	Components          []Component
}

// uuid is a version 8 UUID (RFC 9562 section 5.8) of the set and a role: two
// documents about one set never share a serial number.
func (v *Inventory) uuid(role string) string {
	h := sha256.Sum256(fmt.Appendf(nil, "ingot %s\x00%s\x00%s\x00%s\x00%s\x00%s", role, v.Name, v.Version, v.Arch, v.Build, v.Ingot))
	h[6] = h[6]&0x0f | 0x80
	h[8] = h[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[0:4], h[4:6], h[6:8], h[8:10], h[10:16])
}
