package debian

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Package is one binary package of an archive, as its Packages index says.
type Package struct {
	Name     string
	Version  string
	Arch     string // amd64, arm64 or all
	Source   string // raw field; see SourcePackage
	Depends  string // raw field; kept only for kernels, whose metapackages are followed
	Filename string // path below the archive's root: pool/main/...
	SHA256   string // hex
	Size     int64  // bytes
}

// Bounds of a Packages index. trixie/main has 65,000 packages, and its longest
// line, a Depends field, has about 30 kB.
const (
	maxPackages = 1 << 20
	maxLine     = 1 << 20
)

// ScanPackages reads a Packages index (deb-control format, one paragraph per
// package) and calls yield for each; it stops at the first error. It holds one
// paragraph in memory at a time.
func ScanPackages(r io.Reader, yield func(Package) error) error {
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 64<<10), maxLine)
	var p Package
	n, count := 0, 0
	flush := func() error {
		if p == (Package{}) {
			return nil
		}
		if count++; count > maxPackages {
			return fmt.Errorf("more than %d packages", maxPackages)
		}
		if err := p.check(); err != nil {
			return err
		}
		err := yield(p)
		p = Package{}
		return err
	}
	for in.Scan() {
		n++
		var err error
		if len(in.Bytes()) == 0 {
			err = flush()
		} else {
			err = p.setField(in.Bytes())
		}
		if err != nil {
			return fmt.Errorf("parse Packages: line %d: %w", n, err)
		}
	}
	if err := in.Err(); err != nil {
		return fmt.Errorf("parse Packages: line %d: %w", n+1, err)
	}
	if err := flush(); err != nil {
		return fmt.Errorf("parse Packages: line %d: %w", n, err)
	}
	return nil
}

// setField looks at the line's bytes first, because most lines are of no interest.
func (p *Package) setField(line []byte) (err error) {
	switch line[0] {
	case 'P', 'V', 'A', 'F', 'S', 'D':
	default:
		return nil
	}
	key, value, ok := strings.Cut(string(line), ":")
	if !ok {
		return fmt.Errorf("%.60q is no field", line)
	}
	value = strings.TrimSpace(value)
	switch key {
	case "Package":
		p.Name = value
	case "Version":
		p.Version = value
	case "Architecture":
		p.Arch = value
	case "Source":
		p.Source = value
	case "Filename":
		p.Filename = value
	case "SHA256":
		p.SHA256 = value
	case "Size":
		p.Size, err = strconv.ParseInt(value, 10, 64)
	case "Depends":
		if strings.HasPrefix(p.Name, kernelPrefix) {
			p.Depends = value
		}
	}
	return err
}

// SourcePackage returns the source package and its version with a space
// between, "systemd 257.13-1~deb13u1". The field Source (Debian Policy 5.6.1)
// is "NAME" or "NAME (VERSION)" and leaves out what is the binary package's own.
func (p *Package) SourcePackage() string {
	name, version, _ := strings.Cut(p.Source, " ")
	version = strings.Trim(version, "() ")
	if name == "" {
		name = p.Name
	}
	if version == "" {
		version = p.Version
	}
	return name + " " + version
}

func (p *Package) check() error {
	switch {
	case p.Name == "":
		return errors.New("paragraph without Package")
	case p.Version == "":
		return fmt.Errorf("package %s: Version is missing", p.Name)
	case !isSHA256(p.SHA256):
		return fmt.Errorf("package %s: SHA256 %q", p.Name, p.SHA256)
	case strings.Count(p.SourcePackage(), " ") != 1:
		return fmt.Errorf("package %s: Source %q", p.Name, p.Source)
	case p.Size <= 0:
		return fmt.Errorf("package %s: Size %d", p.Name, p.Size)
	case !poolPath(p.Filename):
		return fmt.Errorf("package %s: Filename %q", p.Name, p.Filename)
	}
	return nil
}

// poolPath accepts relative paths without "..", the only kind that can be
// appended to a mirror's URL without leaving it.
func poolPath(s string) bool {
	if s == "" || s[0] == '/' || strings.ContainsAny(s, "\\?#") {
		return false
	}
	for _, e := range strings.Split(s, "/") {
		if e == ".." {
			return false
		}
	}
	return true
}

const kernelPrefix = "linux-image-"

// Image returns the kernel package that a kernel metapackage depends on with
// an exact version: linux-image-cloud-amd64 6.12.107-1 depends on
// "linux-image-6.12.107+deb13-cloud-amd64 (= 6.12.107-1)". ok is false for a
// package that is no such metapackage.
func (p *Package) Image() (name, version string, ok bool) {
	if !strings.HasPrefix(p.Name, kernelPrefix) {
		return "", "", false
	}
	for _, d := range strings.Split(p.Depends, ",") {
		name, rest, found := strings.Cut(strings.TrimSpace(d), " ")
		if !found || !strings.HasPrefix(name, kernelPrefix) || name == p.Name {
			continue
		}
		rest = strings.TrimSpace(rest)
		if v, exact := strings.CutPrefix(rest, "(="); exact && strings.HasSuffix(v, ")") {
			return name, strings.TrimSpace(strings.TrimSuffix(v, ")")), true
		}
	}
	return "", "", false
}
