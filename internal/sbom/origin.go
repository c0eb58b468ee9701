package sbom

import (
	"debug/buildinfo"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"

	"github.com/ingot-os/ingot/internal/lock"
)

// Stdlib is the module path under which Go's standard library is known to
// package URLs and to the Go vulnerability database.
const Stdlib = "stdlib"

// maxModules bounds the build information of one program; kubernetes has 250.
const maxModules = 10000

// ReadProgram reads the build information of a Go binary. ok is false for
// anything that is no Go binary or carries none; such a file is no error.
func ReadProgram(r io.ReaderAt) (info *buildinfo.BuildInfo, ok bool) {
	info, err := buildinfo.Read(r)
	if err != nil || len(info.Deps) > maxModules {
		return nil, false
	}
	return info, true
}

func debianComponent(in *lock.Input) Component {
	source, version := DebianSource(in)
	return Component{
		Ref:  fmt.Sprintf("deb:%s@%s:%s", in.Package, in.Version, in.Arch),
		Kind: KindDebian, Name: in.Package, Version: in.Version, Arch: in.Arch, SHA256: in.SHA256, Distro: in.Suite,
		Source: source, SourceVersion: version, PURL: debPURL(in),
	}
}

var (
	signedSource = regexp.MustCompile(`^(.+)-signed-[a-z0-9]+$`)
	binaryRevise = regexp.MustCompile(`\+b[0-9]+$`)
)

// DebianSource names the source package of a locked binary package and its
// version, under which advisories speak of it. The lock has them out of the
// archive's index; for older locks the pool helps, which has a folder per
// source package (Debian Policy does not say so; dak's layout has been that
// since 2000). Kernels come from a second source package, linux-signed-ARCH,
// that holds signatures of what linux built and counts its own versions: they
// are linux in the version of the binary package. A binary-only rebuild adds
// +bN to that.
func DebianSource(in *lock.Input) (name, version string) {
	name, version, _ = strings.Cut(in.Source, " ")
	if name == "" {
		name = path.Base(path.Dir(in.Path))
	}
	if name == "." || name == "/" {
		name = in.Package
	}
	own := binaryRevise.ReplaceAllString(in.Version, "")
	if m := signedSource.FindStringSubmatch(name); m != nil {
		return m[1], own
	}
	if version == "" {
		version = own
	}
	return name, version
}

func imageComponent(in *lock.Input) Component {
	return Component{
		Ref: "oci:" + in.SHA256, Kind: KindOCI, Name: imageName(in.Path), Version: "sha256:" + in.SHA256, SHA256: in.SHA256,
		PURL: ociPURL(in, in.SHA256),
	}
}

func layerComponent(in *lock.Input, layer string) Component {
	return Component{
		Ref: "oci-layer:" + layer, Kind: KindOCI, Name: imageName(in.Path) + " layer", Version: "sha256:" + layer, SHA256: layer,
		PURL: ociPURL(in, layer),
	}
}

// fileComponent is a file, directory or download that the recipe names.
func fileComponent(in *lock.Input) Component {
	c := Component{Ref: "input:" + in.Name, Kind: KindFile, Name: in.Name, SHA256: in.SHA256}
	if in.Kind == lock.KindURL {
		c.PURL = urlPURL(in)
	}
	return c
}

func goComponent(modulePath, version string) Component {
	if version == "(devel)" {
		version = ""
	}
	c := Component{Ref: "go:" + modulePath, Kind: KindGo, Name: modulePath, Version: version, PURL: goPURL(modulePath, version)}
	if version != "" {
		c.Ref += "@" + version
	}
	return c
}

// stdlibVersion turns "go1.26.8 X:nodwarf5" into "1.26.8". A development
// version ("devel go1.27-abc ...") has no number that could be compared.
func stdlibVersion(v string) string {
	v, _, _ = strings.Cut(v, " ")
	v, ok := strings.CutPrefix(v, "go")
	if !ok {
		return ""
	}
	v, _, _ = strings.Cut(v, "-")
	return v
}
