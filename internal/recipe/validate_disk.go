package recipe

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// The bounds of partition sizes.
const (
	minFAT  = 34 * MiB // 65525 clusters of 512 bytes, two FATs and the reserved sectors: below it a FAT is not FAT32
	minRoot = 4 * MiB
	minData = 16 * MiB // an ext4 with a journal
	maxPart = TiB      // a slip of the unit, not a wish
)

func (c *checker) disk() {
	d := c.r.Disk
	c.size("disk.esp", d.ESP, minFAT, "FAT32")
	c.size("disk.slot", d.Slot, minFAT, "FAT32")
	switch {
	case c.r.Root != nil:
		c.size("disk.root", d.Root, minRoot, "a root payload")
	case d.Root != 0:
		c.add("disk.root", "remove it, or describe the payload under root:", "disk.root is given, but there is no root payload")
	}
}

func (c *checker) size(at string, s, least Size, what string) {
	switch {
	case s < least:
		c.add(at, fmt.Sprintf("use %s or more", least), "%s is %s: %s needs at least %s", at, s, what, least)
	case s > maxPart:
		c.add(at, "check the unit: M is mebibytes", "%s is %s: larger than %s", at, s, maxPart)
	case s%MiB != 0:
		c.add(at, fmt.Sprintf("use %s", (s/MiB+1)*MiB), "%s is %s: not a multiple of 1 MiB, to which partitions are aligned", at, s)
	}
}

// mountConflicts are places where a data partition would hide the system.
var mountConflicts = append([]string{"/bin", "/bbin", "/sbin", "/lib", "/lib64", "/usr", "/etc", "/boot", "/init", "/root"}, systemPaths...)

func (c *checker) data() {
	d := c.r.Data
	if d.Disabled {
		for _, key := range []string{"mount", "filesystem", "size", "encrypt", "schema", "accepts"} {
			if c.r.doc.Has("data." + key) {
				c.add("data."+key, "remove one of the two", "data.%s is given, but data.disabled is true", key)
			}
		}
		return
	}
	c.size("data.size", d.Size, minData, "ext4")
	if d.Accepts < d.Schema {
		c.add("data.accepts", fmt.Sprintf("use %d or more, or leave it out", d.Schema), "data.accepts is %d, data.schema is %d: this version could not read what it writes", d.Accepts, d.Schema)
	}
	if !c.cleanPath("data.mount", d.Mount) {
		return
	}
	for _, p := range mountConflicts {
		if within(d.Mount, p) {
			c.add("data.mount", "use a directory of its own such as /data or /var", "data.mount is %s: it would hide what ingot-init needs in %s", d.Mount, p)
			return
		}
	}
}

var (
	ociName   = regexp.MustCompile(`^[a-z0-9]+([._-][a-z0-9]+|__[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$`)
	ociHost   = regexp.MustCompile(`^([a-zA-Z0-9.-]+|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?$`)
	ociTag    = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
	ociDigest = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
)

func (c *checker) root() {
	if c.r.Root == nil || c.r.Root.OCI == "" {
		return
	}
	const at = "root.oci"
	ref := c.r.Root.OCI
	name, digest, pinned := strings.Cut(ref, "@")
	switch {
	case strings.Contains(ref, "://"):
		c.add(at, "write it without scheme: registry.example.com/team/app:1.0", "root.oci is %q: an image reference is not an address", ref)
	case pinned && !ociDigest.MatchString(digest):
		c.add(at, "want @sha256: and 64 lower case hexadecimal digits", "root.oci is %q: not a SHA-256 digest", ref)
	case isLocalImage(name) && !pinned:
		c.add(at, "add @sha256: with the digest of the manifest, which index.json lists", "root.oci is %q: an OCI layout can hold many images", ref)
	case isLocalImage(name):
	default:
		c.remoteImage(at, ref, name, pinned)
	}
}

// isLocalImage tells an OCI layout directory from a registry's image.
func isLocalImage(name string) bool {
	return strings.HasPrefix(name, "./") || strings.HasPrefix(name, "../") || strings.HasPrefix(name, "/")
}

func (c *checker) remoteImage(at, ref, name string, pinned bool) {
	host, repo, _ := strings.Cut(name, "/")
	repo, tag, tagged := strings.Cut(repo, ":")
	switch {
	case repo == "" || !strings.ContainsAny(host, ".:") && host != "localhost":
		c.add(at, "name the registry: registry.example.org/library/alpine:3.20; a local OCI layout begins with ./", "root.oci is %q: no registry", ref)
	case !ociHost.MatchString(host) || !ociName.MatchString(repo):
		c.add(at, "want registry.example.com/team/app in lower case", "root.oci is %q: not an image name", ref)
	case tagged && !ociTag.MatchString(tag):
		c.add(at, "want a tag such as 1.0", "root.oci is %q: not a tag", ref)
	case !tagged && !pinned:
		c.add(at, "add :TAG (the lock pins what it means today) or @sha256:DIGEST", "root.oci is %q: neither tag nor digest", ref)
	}
}

func (c *checker) boot() {
	b := c.r.Boot
	if b.Loader == "systemd-boot" && c.r.Stub.File != "" {
		c.add("boot.loader", "use stub.package, or loader: firmware", "boot.loader systemd-boot comes from the stub's package, but stub.file is given")
	}
	if b.Loader == "systemd-boot" && b.Policy != "" {
		c.add("boot.policy", "leave it out, or use boot.loader: firmware", "boot.policy is given, but boot.loader is systemd-boot: no boot entries are written then")
	}
	var titles []string
	for i, e := range b.Entries {
		at := fmt.Sprintf("boot.entries[%d]", i)
		titles = append(titles, e.Title)
		p := strings.ToUpper(strings.ReplaceAll(e.EFI, `\`, "/"))
		if slices.Contains(strings.Split(p, "/"), "..") || strings.Contains(p, "//") {
			c.add(at+".efi", "want a plain path such as /EFI/memtest/memtest.efi", "%s.efi is %q: not a clean path", at, e.EFI)
		}
		if len(e.Title) > 128 {
			c.add(at+".title", "use at most 128 characters", "%s.title is %d bytes long", at, len(e.Title))
		}
	}
	c.twice("boot.entries", "title", titles)
}

// outputs refuses what a container cannot hold.
func (c *checker) outputs() {
	for i, name := range c.r.Outputs {
		at := fmt.Sprintf("outputs[%d]", i)
		switch {
		case slices.Contains(c.r.Outputs[:i], name):
			c.add(at, "name it once", "%s is %q: named twice", at, name)
		case name == "iso" && c.r.Root != nil:
			c.add(at, "leave one of the two out: an ISO holds the boot file alone", "%s is iso, but a root payload needs a partition of a disk", at)
		case (name == "vhd" || name == "vmdk") && c.r.Disk.Sector == 4096:
			c.add(at, "use disk.sector 512, or qcow2", "%s is %s, whose disks have sectors of 512 bytes, but disk.sector is 4096", at, name)
		}
	}
}
