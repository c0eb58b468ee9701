package recipe

import (
	"fmt"
	"net"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/ingot-os/ingot/internal/machine"
)

// Validate applies the rules that one key's description cannot say: relations
// between keys, and values that need more than a pattern. It expects the
// defaults to be applied and touches no file.
func Validate(r *Recipe) Errors {
	c := &checker{r: r}
	c.head()
	c.cmdline()
	c.modules()
	c.programs()
	c.files()
	c.users()
	c.errs = append(c.errs, machine.CheckNetwork(r.doc, "network", r.Network)...)
	c.errs = append(c.errs, machine.CheckServers(r.doc, "ntp", r.NTP)...)
	c.services()
	c.smoke()
	c.management()
	c.disk()
	c.data()
	c.root()
	c.boot()
	c.outputs()
	c.attest()
	c.update()
	c.netboot()
	c.encrypt()
	c.scan()
	c.errs.Sort()
	return c.errs
}

// checker collects findings with their places.
type checker struct {
	r    *Recipe
	errs Errors
}

func (c *checker) add(path, hint, format string, args ...any) {
	c.errs = append(c.errs, c.r.finding(path, hint, format, args...))
}

// finding points at a path of the document, or only names the file when the
// Recipe was made in Go.
func (r *Recipe) finding(path, hint, format string, args ...any) Error {
	e := r.doc.Errorf(path, hint, format, args...)
	if e.File == "" {
		e.File = r.Path
	}
	return e
}

func (c *checker) head() {
	if c.r.Epoch != "" {
		t, err := time.Parse(time.RFC3339, strings.ToUpper(c.r.Epoch))
		switch {
		case err != nil:
			c.add("epoch", `want "2026-01-31T12:00:00Z"`, "epoch is %q: not a time", c.r.Epoch)
		case t.Year() < 1980 || t.Year() > 2107:
			// FAT counts years in 7 bits from 1980 (FAT specification, section 6.5).
			c.add("epoch", "use a year from 1980 to 2107", "epoch is %s: a FAT file system cannot hold that year", c.r.Epoch)
		}
	}
	c.address("mirror", c.r.Mirror)
	c.address("snapshot", c.r.Snapshot)
	c.kernelPackage()
}

func (c *checker) address(at, text string) {
	if text == "" {
		return
	}
	u, err := url.Parse(text)
	ok := err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" || err == nil && u.Scheme == "file" && strings.HasPrefix(u.Path, "/")
	if !ok {
		c.add(at, "want an address such as https://mirror.example.org/debian", "%s is %q: not an http, https or file address", at, text)
	}
}

// kernelPackage finds a package whose name says another processor.
func (c *checker) kernelPackage() {
	k := c.r.Kernel
	for _, other := range []string{"amd64", "arm64", "i386", "686-pae", "armmp", "riscv64", "ppc64el", "s390x"} {
		if other != c.r.Arch && strings.HasSuffix(k.Package, "-"+other) {
			c.add("kernel.package", fmt.Sprintf("use %s%s, or set arch:", strings.TrimSuffix(k.Package, other), c.r.Arch),
				"kernel.package %s is for %s, the recipe's arch is %s", k.Package, other, c.r.Arch)
		}
	}
	if k.Package != "" && !strings.HasPrefix(k.Package, "linux-image") {
		c.add("kernel.package", "Debian's kernels are named linux-image-...", "kernel.package %s holds no kernel", k.Package)
	}
	if strings.HasSuffix(k.Package, "-dbg") || strings.HasSuffix(k.Package, "-unsigned") && strings.Contains(k.Package, "dbg") {
		c.add("kernel.package", "use the package without -dbg", "kernel.package %s holds debug symbols, no kernel", k.Package)
	}
}

// twice reports the second use of a name in a list.
func (c *checker) twice(list, key string, names []string) {
	first := map[string]int{}
	for i, n := range names {
		if n == "" {
			continue
		}
		if f, ok := first[n]; ok {
			at := fmt.Sprintf("%s[%d]", list, i)
			if key != "" {
				at += "." + key
			}
			c.add(at, "give each its own name, or remove one", "%s %q is already taken by %s[%d]", at, n, list, f)
			continue
		}
		first[n] = i
	}
}

// cleanPath reports paths that are not in their shortest form: two spellings
// of one path would pass the duplicate check.
func (c *checker) cleanPath(at, p string) bool {
	if p == "" {
		return false
	}
	if strings.ContainsRune(p, 0) || p != path.Clean(p) || !path.IsAbs(p) {
		c.add(at, "write "+path.Clean("/"+strings.ReplaceAll(p, "\x00", "")), "%s is %q: not a clean absolute path", at, p)
		return false
	}
	return true
}

func (c *checker) management() {
	host, port, err := net.SplitHostPort(c.r.Management.Listen)
	n, perr := strconv.Atoi(port)
	if err != nil || perr != nil || n < 1 || n > 65535 {
		c.add("management.listen", `want ":9443"`, "management.listen is %q: the port must be from 1 to 65535", c.r.Management.Listen)
		return
	}
	if host != "" && host != "localhost" && net.ParseIP(host) == nil {
		c.add("management.listen", `want ":9443" or "192.0.2.10:9443"`, "management.listen is %q: not an address of the machine", c.r.Management.Listen)
	}
}
