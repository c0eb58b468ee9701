package tftp

import (
	"errors"
	"strings"
)

// maxName is the length that any name of ours stays below.
const maxName = 255

var errName = errors.New("name that no file here can have")

// cleanName makes a path of netboot.Request of a name that a client sent. Firmware
// writes the same file as x, /x, //x (a URL's path behind a server's prefix) and, where
// it comes from Windows, \x. Everything that could mean a parent is refused in each of
// these forms and not resolved: no file of ours needs it. Percent signs and bytes
// outside of ASCII are refused too, whatever they would decode to (%2e%2e, c0 ae).
func cleanName(name string) (string, error) {
	if len(name) > maxName {
		return "", errName
	}
	for _, c := range []byte(name) {
		if c < ' ' || c > '~' || c == '%' {
			return "", errName
		}
	}
	var parts []string
	for p := range strings.SplitSeq(strings.ReplaceAll(name, `\`, "/"), "/") {
		switch p {
		case "", ".":
		case "..":
			return "", errName
		default:
			parts = append(parts, p)
		}
	}
	if len(parts) == 0 {
		return "", errName
	}
	return strings.Join(parts, "/"), nil
}
