// Package lock is appliance.lock: every input of an image pinned by digest,
// the epoch, and the tool format. A build uses the lock only (D3).
package lock

// Lock is appliance.lock, written as indented JSON with sorted inputs.
type Lock struct {
	Format  int    `json:"format"` // 1; a reader stops at any other
	Name    string `json:"name"`
	Version string `json:"version"`
	Arch    string `json:"arch"`
	Recipe  string `json:"recipe"` // sha256 of the recipe's canonical JSON: comments and order of keys do not count
	Epoch   int64  `json:"epoch"`  // Unix seconds
	Ingot   Ingot  `json:"ingot"`
	Go      string `json:"go,omitempty"`     // toolchain version as runtime.Version gives it; only when Go code is compiled
	Mirror  string `json:"mirror,omitempty"` // only what the recipe names; the host's default never enters the lock

	Inputs []Input `json:"inputs"`
}

// Ingot pins the tool itself (S12).
type Ingot struct {
	Format int    `json:"format"` // image format revision
	Init   string `json:"init"`   // sha256 of ingot-init for Arch
}

// Kind says how an input is fetched and checked.
type Kind string

// The kinds of Input.
const (
	KindDeb      Kind = "deb"       // a binary package of a Debian archive
	KindFile     Kind = "file"      // one local file
	KindDir      Kind = "dir"       // a local directory tree, digest per file
	KindURL      Kind = "url"       // a download
	KindGoDir    Kind = "go-dir"    // Go main package in a local directory: source digests per file
	KindGoModule Kind = "go-module" // Go main packages from module@version; one Input for all of them and u-root, with go.mod and go.sum
	KindOCI      Kind = "oci"       // OCI image: manifest digest and its blobs
)

// Input is one pinned input. Name is unique and says what it is for:
// "kernel", "kernel/modules", "stub", "loader", "firmware/PACKAGE", "file/PATH",
// "go/NAME", "go/modules", "root", "trust" or "trust/PATH".
type Input struct {
	Name   string `json:"name"`
	Kind   Kind   `json:"kind"`
	SHA256 string `json:"sha256"` // hex; of the file, or of the sorted "digest  path\n" list in Files
	Size   int64  `json:"size,omitempty"`

	Package string `json:"package,omitempty"` // deb; go-module: the programs and u-root commands it was resolved for
	Version string `json:"version,omitempty"`
	Source  string `json:"source,omitempty"` // deb: source package and its version, "linux-signed-amd64 6.12.117+1"; older locks lack it
	Arch    string `json:"arch,omitempty"`
	Suite   string `json:"suite,omitempty"`  // trixie
	Pocket  string `json:"pocket,omitempty"` // main, updates or security (S11)
	Via     string `json:"via,omitempty"`    // the metapackage the recipe named, when another was taken

	Path string `json:"path,omitempty"` // deb: pool path; file and dir: relative to the recipe; url: the URL; oci: the reference

	Mode string `json:"mode,omitempty"` // file: "0755" when it is executable, which nothing else would pin

	// Files describes a dir, path by path, as package lock/local says. For a
	// go-dir it is path -> sha256 and paths are relative to the recipe.
	Files map[string]string `json:"files,omitempty"`
	Blobs []Blob            `json:"blobs,omitempty"` // oci: config and layers in order

	GoMod []string `json:"goMod,omitempty"` // go-module: the lines of the generated go.mod
	GoSum []string `json:"goSum,omitempty"`
}

// Blob is a content-addressed part of an OCI image.
type Blob struct {
	MediaType string `json:"mediaType"`
	SHA256    string `json:"sha256"`
	Size      int64  `json:"size"`
}

// Find returns the input of a name, or nil.
func (l *Lock) Find(name string) *Input {
	for i := range l.Inputs {
		if l.Inputs[i].Name == name {
			return &l.Inputs[i]
		}
	}
	return nil
}
