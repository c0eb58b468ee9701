package reproduce

import (
	"regexp"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/internal/inspect"
	"github.com/ingot-os/ingot/internal/reference"
)

// Cause is one difference and what makes builders differ so.
type Cause struct {
	Kind string `json:"cause"` // "mtime", "file order", "salt": see kindOf
	inspect.Difference
}

// String is one line for people: the kind, the place, the field and both values.
func (c Cause) String() string { return c.Kind + ": " + c.Difference.String() }

// kinds are the usual causes by the field that differs.
var kinds = map[string]string{
	"mtime": "mtime", "times": "mtime", "write time": "mtime", "creation time": "mtime", "access date": "mtime", "epoch": "mtime",
	"order": "file order", "data at": "file order", "inode at": "file order", "first cluster": "file order",
	"uuid": "UUID", "guid": "UUID", "disk guid": "UUID", "type": "partition type",
	"serial": "FAT serial", "label": "FAT label", "oem": "FAT label",
	"time date stamp": "PE time stamp", "check sum": "PE check sum", "signed": "signature",
	"salt":             "verity salt",
	"inode":            "inode number",
	"compressor level": "compressor level", "stored size": "compressor level", "stored data": "compressor level", "compression": "compressor", "flags": "compressor options",
	"mode": "mode", "owner": "owner", "target": "link target", "link": "hard link", "device": "device number",
	"sha256": "content", "size": "size", "text": "text", "problem": "damage", "kind": "format",
}

// attributes are the classes of extended attributes that Linux has.
var attributes = []string{"user.", "trusted.", "security.", "system."}

var uuid = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// kindOf names what usually makes such a difference.
func kindOf(d inspect.Difference) string {
	last := d.Where[strings.LastIndex(d.Where, "→")+1:]
	switch {
	case kinds[d.Field] != "":
		return kinds[d.Field]
	case uuid.MatchString(d.A) && uuid.MatchString(d.B):
		return "UUID"
	case slices.ContainsFunc(attributes, func(class string) bool { return strings.HasPrefix(d.Field, class) }):
		return "xattr"
	case strings.HasPrefix(d.Field, "zstd frame") || strings.Contains(last, "zstd frame"):
		return "compressor level"
	case !strings.HasPrefix(d.Field, "byte "):
		if d.Field == "" {
			return "only on one side"
		}
		return "value"
	case strings.Contains(last, "padding") || strings.Contains(last, "no file") || strings.Contains(last, "outside of partitions"):
		return "padding"
	case strings.Contains(last, "hash tree"):
		return "hash tree"
	}
	return "content"
}

// repeats says whether an earlier cause is the same thing in another file of the
// set: the root is also on the disk, the disk is in every format.
func (c Cause) repeats(e Cause) bool {
	if c.Field != e.Field || c.A != e.A || c.B != e.B {
		return false
	}
	x, y := strings.Split(c.Where, " → "), strings.Split(e.Where, " → ")
	least, n := min(len(x), len(y)), 0
	for n < least && x[len(x)-1-n] == y[len(y)-1-n] {
		n++
	}
	kind := func(label string) string { word, _, _ := strings.Cut(label, " "); return word }
	return n >= least-1 && (n > 0 || kind(x[len(x)-1]) == kind(y[len(y)-1]))
}

// inDocument says whether a difference is in a file that describes the others.
func inDocument(d inspect.Difference) bool {
	file, _, _ := strings.Cut(d.Where, " → ")
	return strings.HasSuffix(file, ".json")
}

// ofReference says whether a difference is in the reference, which has nothing
// of its own: it follows from boot file and disk.
func ofReference(d inspect.Difference) bool {
	file, _, _ := strings.Cut(d.Where, " → ")
	return strings.HasSuffix(file, reference.FileName)
}

// ofDisk says whether a difference is in another form of the disk, or in its
// block map. The ISO has a volume of its own.
func ofDisk(d inspect.Difference) bool {
	file, _, _ := strings.Cut(d.Where, " → ")
	own := []string{".img", ".efi", ".root", ".json", ".iso"}
	return !slices.ContainsFunc(own, func(suffix string) bool { return strings.HasSuffix(file, suffix) })
}

// isDigest says whether only digests or sizes differ.
func isDigest(d inspect.Difference) bool {
	hex := func(s string) bool {
		return (len(s) == 64 || len(s) == 40) && strings.Trim(s, "0123456789abcdef") == ""
	}
	return d.Field == "size" || hex(d.A) && hex(d.B)
}

// signed says whether a difference is only that the rebuilt file is unsigned.
func signed(d inspect.Difference) bool {
	return d.Field == "signed" || d.Field == "check sum" && strings.Contains(d.Where, "pe ")
}
