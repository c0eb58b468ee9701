// Package recipe reads appliance.yaml: what an operator wants, before any
// input is pinned. Parse reports every error of a file at once, each with
// file:line:column, a cause and a suggestion; Check finds the recipes that are
// well formed and still could not boot, without building them. keys.go
// describes every key once: the decoder enforces it, docs/appliance.schema.json
// and docs/recipe.md are made from it.
//
// Shape of use: Load (file and the local inputs it names) or Parse (bytes
// only), then Check with what the lock and the cache know; Digest pins the
// meaning of a recipe in the lock, Spec gives the part the machine reads.
package recipe

import (
	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/strictyaml"
)

// Recipe is appliance.yaml after defaults. docs/recipe.md describes every key.
type Recipe struct {
	Name     string `yaml:"name"`     // [a-z][a-z0-9-]{0,62}
	Version  string `yaml:"version"`  // [0-9A-Za-z.+~-]{1,32}
	Arch     string `yaml:"arch"`     // amd64 (default) or arm64
	Epoch    string `yaml:"epoch"`    // RFC 3339; default: the newest date of the archives' signed indexes, kept in the lock
	Mirror   string `yaml:"mirror"`   // Debian mirror; default: the host's apt configuration
	Snapshot string `yaml:"snapshot"` // optional snapshot service asked when the mirror has dropped a package (S11)

	Kernel   Kernel     `yaml:"kernel"`
	Stub     Stub       `yaml:"stub"`
	Modules  []string   `yaml:"modules"` // module names or groups: virtio, server, edge, ...
	Firmware []Firmware `yaml:"firmware"`
	Cmdline  []string   `yaml:"cmdline"`  // words appended to ingot's own
	Compress string     `yaml:"compress"` // initramfs: none (default) or zstd

	URoot []string         `yaml:"uroot"` // u-root commands, built as one busybox
	Go    []Program        `yaml:"go"`
	Files []File           `yaml:"files"`
	Users []appliance.User `yaml:"users"`

	Certificates bool `yaml:"certificates"` // Mozilla's CA bundle in the image; with a root payload always

	Network    []appliance.Interface `yaml:"network"`
	NTP        []string              `yaml:"ntp"`
	Services   []appliance.Service   `yaml:"services"`
	Smoke      []appliance.Smoke     `yaml:"smoke"`
	Management appliance.Management  `yaml:"management"`

	Disk Disk  `yaml:"disk"`
	Data Data  `yaml:"data"`
	Root *Root `yaml:"root"`
	Boot Boot  `yaml:"boot"`

	Trust   *Trust             `yaml:"trust"`
	Attest  *appliance.Attest  `yaml:"attest"`
	Update  *appliance.Update  `yaml:"update"`
	Netboot *appliance.Netboot `yaml:"netboot"`
	Install *Install           `yaml:"install"`
	// SecurityEpoch is raised by a release that no machine may fall behind.
	SecurityEpoch int `yaml:"securityEpoch"`

	Scan Scan `yaml:"scan"` // has no part in the image, nor in Digest

	// Outputs are further files of the same disk, by the names of Outputs.
	Outputs []string `yaml:"outputs"`

	// Path is the file the recipe came from; Dir its directory, to which
	// every relative path in the recipe is relative.
	Path string `yaml:"-"`
	Dir  string `yaml:"-"`

	// doc keeps the places of all values, for Check; nil for a Recipe made in Go.
	doc *strictyaml.Document
}

// Kernel is a Debian package (a metapackage is followed to the image it
// depends on) or local files.
type Kernel struct {
	Package string `yaml:"package"` // default linux-image-cloud-ARCH
	Suite   string `yaml:"suite"`   // default trixie
	File    string `yaml:"file"`    // local vmlinuz (bzImage or arm64 EFI Image)
	Modules string `yaml:"modules"` // local lib/modules/VERSION directory, with File
}

// Stub is the systemd EFI stub: from a Debian package or a local file.
type Stub struct {
	Package string `yaml:"package"` // default systemd-boot-efi
	Suite   string `yaml:"suite"`   // default trixie
	File    string `yaml:"file"`
}

// Firmware is device firmware put under lib/firmware.
type Firmware struct {
	Package string   `yaml:"package"` // Debian package, with Suite
	Suite   string   `yaml:"suite"`
	Files   []string `yaml:"files"`  // names below lib/firmware, path.Match patterns; empty = all of the package
	Source  string   `yaml:"source"` // local file or directory instead of Package
}

// Program is a Go main package compiled into the image as /bin/NAME.
type Program struct {
	Package string   `yaml:"package"` // "./dir" relative to the recipe, or module/path@version
	Name    string   `yaml:"name"`    // default: last path element
	Tags    []string `yaml:"tags"`
	LDFlags string   `yaml:"ldflags"` // appended to -s -w -buildid=
}

// File is one file of the initramfs, from Content, from Source, or a link.
type File struct {
	Path    string  `yaml:"path"` // absolute on the machine
	Content *string `yaml:"content"`
	Source  string  `yaml:"source"`  // local file or directory
	Symlink string  `yaml:"symlink"` // link target
	URL     string  `yaml:"url"`     // with SHA256
	SHA256  string  `yaml:"sha256"`
	Mode    Mode    `yaml:"mode"`  // default 0644, executable local files 0755; not with a source directory
	Owner   string  `yaml:"owner"` // user or uid[:gid]; default root
}

// Mode is a file mode; 0 means the default.
type Mode uint32

// Disk sizes the partitions.
type Disk struct {
	Sector int  `yaml:"sector"` // logical sector size in bytes: 512 (default) or 4096
	ESP    Size `yaml:"esp"`    // default 128 MiB
	Slot   Size `yaml:"slot"`   // default 256 MiB, each of two
	Root   Size `yaml:"root"`   // default 1 GiB, each of two, only with a root payload
}

// Size is a number of bytes; in YAML an integer with K, M, G or T (powers of 1024), or KiB...TiB.
type Size int64

// Data is p7, made and grown on first boot.
type Data struct {
	appliance.Data `yaml:",inline"`
	Disabled       bool `yaml:"disabled"`
	Size           Size `yaml:"size"` // minimum in the image; default 64 MiB; grows to the end of the disk
}

// Root is the optional read-only root payload.
type Root struct {
	Directory string `yaml:"directory"`
	Tar       string `yaml:"tar"`
	OCI       string `yaml:"oci"`    // registry/name@sha256:... or oci-layout directory path + "@sha256:..."
	Format    string `yaml:"format"` // squashfs (default) or erofs
}

// Boot is S21: who picks the slot.
type Boot struct {
	Loader  string  `yaml:"loader"`  // firmware (default) or systemd-boot
	Policy  string  `yaml:"policy"`  // disk-first (also when empty), net-first or external
	Timeout int     `yaml:"timeout"` // seconds a menu waits; default 0
	Entries []Entry `yaml:"entries"` // further boot entries
	Budget  Size    `yaml:"budget"`  // largest boot file in bytes; 0 = no budget
}

// Install is what a netbooted machine may put itself on.
type Install struct {
	To   Target `yaml:"to"`
	Wipe bool   `yaml:"wipe"` // content that is not ingot's may go
}

// Target selects a disk, by patterns of path.Match.
type Target struct {
	Path    string `yaml:"path"`
	Serial  string `yaml:"serial"`
	Model   string `yaml:"model"`
	MinSize Size   `yaml:"minSize"`
	MaxSize Size   `yaml:"maxSize"`
}

// Trust names the public keys that go into the image: a directory, or files.
type Trust struct {
	Keys string `yaml:"keys"` // directory that ingot keys export has written

	PK       string   `yaml:"pk"`  // certificates of firmware; each of these is one file
	KEK      string   `yaml:"kek"` //
	DB       []string `yaml:"db"`  //
	Image    []string `yaml:"image"`
	Fleet    string   `yaml:"fleet"`
	Operator string   `yaml:"operator"`
	Server   []string `yaml:"server"`
	Policy   string   `yaml:"policy"`
	Owner    string   `yaml:"owner"` // GUID in signature lists

	Threshold int `yaml:"threshold"` // default 1
}

// Scan is what ingot scan accepts; its zero value is the strictest.
type Scan struct {
	Threshold     string   `yaml:"threshold"` // low, medium, high or critical; empty: every finding fails
	AcceptUnrated bool     `yaml:"acceptUnrated"`
	AcceptUnfixed bool     `yaml:"acceptUnfixed"`
	Waivers       []Waiver `yaml:"waivers"`
}

// Waiver accepts one vulnerability for some time.
type Waiver struct {
	ID      string `yaml:"id"`      // of the record or any other name of it
	Package string `yaml:"package"` // Debian source package or Go module; empty means any
	Reason  string `yaml:"reason"`
	Expires string `yaml:"expires"` // last day on which it holds: 2026-12-31
}

// Entry is one more boot entry beside the slots.
type Entry struct {
	Title string `yaml:"title"`
	EFI   string `yaml:"efi"` // path on the ESP
	// Source is a local file that is put there; empty for a program that is on
	// the ESP anyway, such as the spare copy of the image.
	Source string `yaml:"source"`
}
