package recipe

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"github.com/ingot-os/ingot/initramfs/kmod"
)

// Groups are the driver groups that modules: knows, with what they are for.
// Their members are kmod.Groups.
var Groups = []Group{
	{"virtio", "virtual machines of QEMU and its kin: disk, network, console, random numbers, watchdog"},
	{"vm", "virtual machines of VMware, Hyper-V, Xen and the large clouds"},
	{"server", "rack servers: storage controllers, network cards of 1 to 400 Gbit/s, USB, IPMI"},
	{"edge", "small boards and industrial PCs: network, SATA, NVMe, SD and eMMC, USB"},
	{"usb", "USB host controllers, keyboards, storage and network adapters"},
	{"raid", "software RAID and device mapper redundancy"},
	{"watchdog", "hardware watchdogs"},
	{"verity", "dm-verity, squashfs, erofs; comes by itself with a root payload"},
	{"crypt", "dm-crypt and the ciphers of LUKS"},
	{"tpm", "TPM 2.0; comes by itself"},
	{"efi", "EFI variables and the FAT of the ESP"},
}

// Group is a name for the drivers of one kind of machine.
type Group struct{ Name, For string }

// IsGroup tells whether a word under modules: is a group.
func IsGroup(name string) bool { return kmod.Groups[name] != nil }

func (c *checker) modules() {
	names := make([]string, len(c.r.Modules))
	for i, m := range c.r.Modules {
		names[i] = moduleName(m)
	}
	c.twice("modules", "", names)
	if c.r.Kernel.File != "" && c.r.Kernel.Modules == "" && len(c.r.Modules) > 0 {
		c.add("modules", "add kernel.modules: with the lib/modules/VERSION directory of that kernel", "modules are wanted, but kernel.file comes without modules")
	}
	for i, f := range c.r.Firmware {
		for j, p := range f.Files {
			at := fmt.Sprintf("firmware[%d].files[%d]", i, j)
			if _, err := path.Match(p, ""); err != nil {
				c.add(at, "use * and ? and [a-z]", "%s is %q: not a pattern", at, p)
			} else if path.IsAbs(p) || strings.HasPrefix(p, "lib/firmware") || p != path.Clean(p) || strings.HasPrefix(p, "..") {
				c.add(at, "want a name such as rtl_nic/rtl8168g-2.fw", "%s is %q: names are below lib/firmware", at, p)
			}
		}
	}
}

func (c *checker) programs() {
	var names []string
	for i, p := range c.r.Go {
		at := fmt.Sprintf("go[%d]", i)
		names = append(names, p.Name)
		c.goPackage(at+".package", p.Package)
		if p.Name == "" && p.Package != "" {
			c.add(at, "add name:", "%s needs a name: its package path ends in none", at)
		}
		if strings.Contains(p.LDFlags, "-extld") || strings.Contains(p.LDFlags, "external") {
			c.add(at+".ldflags", "remove it: programs are linked statically by Go itself", "%s.ldflags asks for an external linker", at)
		}
		if slices.Contains(c.r.URoot, p.Name) {
			c.add(at, "give the program another name:, or remove the command from uroot:", "/bin/%s would be both a Go program and a u-root command", p.Name)
		}
	}
	c.twice("go", "name", names)
	c.twice("uroot", "", c.r.URoot)
}

// goPackage accepts "./dir" and "module/path@v1.2.3" only.
func (c *checker) goPackage(at, pkg string) {
	if pkg == "" || isLocalPackage(pkg) {
		return
	}
	if path.IsAbs(pkg) {
		c.add(at, "write a path relative to the recipe: ./cmd/app", "%s is %q: an absolute path exists on one host only", at, pkg)
		return
	}
	p, version, found := strings.Cut(pkg, "@")
	if !found {
		hint := "write ./" + pkg + " for a local directory"
		if strings.Contains(strings.Split(pkg, "/")[0], ".") {
			hint = "add the exact version: " + pkg + "@v1.2.3"
		}
		c.add(at, hint, "%s is %q: neither a local directory nor a module with a version", at, pkg)
		return
	}
	if err := module.CheckImportPath(p); err != nil || !strings.Contains(strings.Split(p, "/")[0], ".") {
		c.add(at, "want github.com/owner/module@v1.2.3", "%s is %q: not a module path", at, pkg)
		return
	}
	switch {
	case version == "latest" || version == "upgrade" || version == "patch":
		c.add(at, "name the version, such as "+p+"@v1.2.3: an image must not depend on the day it is built", "%s asks for @%s, which is not one version", at, version)
	case !semver.IsValid(version) || semver.Canonical(version)+semver.Build(version) != version:
		c.add(at, "want a full version such as v1.2.3 or a pseudo-version", "%s is %q: %s is not an exact version", at, pkg, version)
	}
}

func isLocalPackage(pkg string) bool {
	return pkg == "." || pkg == ".." || strings.HasPrefix(pkg, "./") || strings.HasPrefix(pkg, "../")
}

func (c *checker) users() {
	byUID, names := map[uint32]string{}, []string{}
	for i, u := range c.r.Users {
		at := fmt.Sprintf("users[%d]", i)
		names = append(names, u.Name)
		if u.Name == "root" || u.Name == "nobody" {
			c.add(at+".name", "remove the entry", "user %s always exists", u.Name)
		}
		if first, ok := byUID[u.UID]; ok && u.UID != 0 {
			c.add(at+".uid", "give each user its own number", "uid %d is already that of %s", u.UID, first)
		}
		byUID[u.UID] = u.Name
	}
	c.twice("users", "name", names)
}

// knownUser accepts names that exist on the machine, and numbers.
func (c *checker) knownUser(name string) bool {
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		return n < 1<<32-1 // the last number means "do not change" to chown(2)
	}
	return name == "nogroup" || slices.Contains(c.r.userNames(), name)
}

func (r *Recipe) userNames() []string {
	out := []string{"root", "nobody"}
	for _, u := range r.Users {
		out = append(out, u.Name)
	}
	return out
}

// systemPaths are made or mounted by ingot-init; what lies there is hidden or breaks it.
var systemPaths = []string{"/proc", "/sys", "/dev", "/run", "/tmp"}

func (c *checker) files() {
	first := map[string]int{}
	for i := range c.r.Files {
		f := &c.r.Files[i]
		at := fmt.Sprintf("files[%d]", i)
		if !c.cleanPath(at+".path", f.Path) {
			continue
		}
		if j, ok := first[f.Path]; ok {
			c.add(at+".path", "remove one of the two", "%s %s is already made by files[%d]", at, f.Path, j)
		}
		first[f.Path] = i
		c.filePlace(at, f.Path)
		c.fileOwner(at, f)
		if f.Symlink != "" {
			c.link(at, f)
		}
	}
	c.fileParents(first)
}

func (c *checker) filePlace(at, p string) {
	at += ".path"
	switch mount := c.r.Data.Mount; {
	case p == "/init" || within(p, "/etc/ingot"):
		c.add(at, "choose another path", "%s belongs to ingot-init", p)
	case slices.ContainsFunc(systemPaths, func(s string) bool { return within(p, s) }):
		c.add(at, "choose a path outside of "+strings.Join(systemPaths, ", "), "%s would be hidden: ingot-init mounts a file system over it", p)
	case mount != "" && within(p, mount):
		c.add(at, "choose a path outside of "+mount+", and copy it there when the service starts", "%s would be hidden by the data partition on %s", p, mount)
	case strings.HasPrefix(p, "/bin/") && c.isProgram(strings.TrimPrefix(p, "/bin/")):
		c.add(at, "choose another path or name", "%s is already a program of go: or uroot:", p)
	}
}

func (c *checker) isProgram(name string) bool {
	return slices.Contains(c.r.URoot, name) || slices.ContainsFunc(c.r.Go, func(p Program) bool { return p.Name == name })
}

// within tells whether p is dir or below it.
func within(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

func (c *checker) fileOwner(at string, f *File) {
	for part := range strings.SplitSeq(f.Owner, ":") {
		if f.Owner != "" && !c.knownUser(part) {
			c.add(at+".owner", "declare it under users:, or use a number", "%s belongs to %q, which is no user of this recipe", f.Path, part)
			return
		}
	}
}

func (c *checker) link(at string, f *File) {
	target := f.Symlink
	if !path.IsAbs(target) {
		target = path.Join(path.Dir(f.Path), target)
	}
	switch {
	case path.Clean(target) == f.Path:
		c.add(at+".symlink", "point it at another path", "%s points at itself", f.Path)
	case f.Mode != 0:
		c.add(at+".mode", "remove mode:", "%s is a symbolic link: the mode of its target counts", f.Path)
	case strings.ContainsRune(f.Symlink, 0):
		c.add(at+".symlink", "remove the zero byte", "%s: a path cannot hold a zero byte", at)
	}
}

// fileParents finds files in places whose parent is itself a file or a link.
func (c *checker) fileParents(byPath map[string]int) {
	for i := range c.r.Files {
		for dir := path.Dir(c.r.Files[i].Path); dir != "/" && dir != "."; dir = path.Dir(dir) {
			j, ok := byPath[dir]
			if ok && c.r.Files[j].Source == "" {
				c.add(fmt.Sprintf("files[%d].path", i), "choose another path, or make the parent a directory", "%s cannot exist: files[%d] makes %s a file", c.r.Files[i].Path, j, dir)
				break
			}
		}
	}
}
