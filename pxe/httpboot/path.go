package httpboot

import (
	"io/fs"
	"net/url"
	"strings"
)

// maxPath bounds a path, in bytes.
const maxPath = 512

// clean gives the path of a request as a source knows it, or false for one that
// no file can have: with empty, "." or ".." segments, with an encoded slash, with
// what is not printable ASCII, or with a sign that some reader takes for a
// separator or for one more encoding. It is decoded once; nothing is repaired.
func clean(u *url.URL) (string, bool) {
	path, ok := strings.CutPrefix(u.Path, "/")
	if !ok || len(path) > maxPath || !fs.ValidPath(path) || path == "." {
		return "", false
	}
	for i := range len(path) {
		if c := path[i]; c <= ' ' || c > '~' || c == '\\' || c == '%' {
			return "", false
		}
	}
	// RFC 3986 section 2.2: an encoded slash is not a separator.
	if strings.Contains(strings.ToLower(u.RawPath), "%2f") {
		return "", false
	}
	return path, true
}
