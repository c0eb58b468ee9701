package sbom

import (
	"path"
	"strings"

	"github.com/ingot-os/ingot/internal/lock"
)

// escape percent-encodes one part of a package URL (ECMA-427 section 5.4):
// letters, digits, ".", "-", "_", "~" and ":" stay.
func escape(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte(".-_~:", c) >= 0:
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
	return b.String()
}

func escapePath(p string) string {
	parts := strings.Split(p, "/")
	for i := range parts {
		parts[i] = escape(parts[i])
	}
	return strings.Join(parts, "/")
}

// debPURL has its qualifiers in order of their names.
func debPURL(in *lock.Input) string {
	return "pkg:deb/debian/" + escape(strings.ToLower(in.Package)) + "@" + escape(in.Version) +
		"?arch=" + escape(in.Arch) + "&distro=" + escape(in.Suite)
}

// goPURL is in lower case, as the type golang demands; Component.Name keeps the
// case that versions and advisories go by.
func goPURL(modulePath, version string) string {
	p := "pkg:golang/" + escapePath(strings.ToLower(modulePath))
	if version != "" {
		p += "@" + escape(version)
	}
	return p
}

func ociPURL(in *lock.Input, digest string) string {
	p := "pkg:oci/" + escape(imageName(in.Path)) + "@" + "sha256%3A" + digest
	repository := imageRepository(in.Path)
	if local(repository) {
		return p
	}
	return p + "?repository_url=" + escapePath(strings.ToLower(repository))
}

// local tells an OCI layout on disk, whose place means nothing to others.
func local(repository string) bool {
	first, _, found := strings.Cut(repository, "/")
	return !found || !strings.Contains(first, ".") && !strings.Contains(first, ":") && first != "localhost" ||
		strings.HasPrefix(first, ".") || first == ""
}

// imageRepository is a reference without digest and tag.
func imageRepository(ref string) string {
	ref, _, _ = strings.Cut(ref, "@")
	if i := strings.LastIndexByte(ref, ':'); i > strings.LastIndexByte(ref, '/') {
		ref = ref[:i]
	}
	return ref
}

func imageName(ref string) string { return strings.ToLower(path.Base(imageRepository(ref))) }

func urlPURL(in *lock.Input) string {
	return "pkg:generic/" + escape(path.Base(in.Name)) + "?checksum=sha256:" + in.SHA256 + "&download_url=" + escapePath(in.Path)
}

// PURL is the package URL of a locked input, or empty when there is no type
// for it: local files, and Go code, whose modules are known after linking only.
func PURL(in *lock.Input) string {
	switch in.Kind {
	case lock.KindDeb:
		return debPURL(in)
	case lock.KindOCI:
		return ociPURL(in, in.SHA256)
	case lock.KindURL:
		return urlPURL(in)
	}
	return ""
}

// vVersion gives a release version the "v" that Go modules have.
func vVersion(v string) string {
	if v == "" || strings.HasPrefix(v, "v") || v[0] < '0' || v[0] > '9' {
		return v
	}
	return "v" + v
}
