package recipe

import (
	"net/url"
	"path"
	"strings"

	"github.com/ingot-os/ingot/internal/appliance"
)

func (c *checker) netboot() {
	if n := c.r.Netboot; n != nil && n.Server != "" {
		u, err := url.Parse(n.Server)
		if err != nil || u.Scheme != "http" || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			c.add("netboot.server", "want an address such as http://192.0.2.1:8080; https is not needed, the digest is in the boot file",
				"netboot.server is %q: not an http address", n.Server)
		}
	}
	if c.r.Install != nil {
		c.install()
	}
}

func (c *checker) install() {
	to := c.r.Install.To
	if c.r.Attest == nil {
		c.add("install", "add attest: {server: https://...}", "install is given, but there is no attest: no server would give a ticket")
	}
	if t := c.r.Trust; t == nil || t.Keys == "" && len(t.Image) == 0 {
		c.add("install", "add trust: {keys: DIR}, which ingot keys export writes, or trust.image", "install is given, but trust has no image keys: no release could be told from a forged one")
	}
	if c.r.Boot.Loader == "systemd-boot" {
		c.add("install", "use boot.loader: firmware", "install is given, but boot.loader is systemd-boot: a release has no slots to write then")
	}
	if strings.HasPrefix(to.Path, "/dev/") && !strings.HasPrefix(to.Path, appliance.ByPath) {
		c.add("install.to.path", "write a place on the bus: pci-0000:00:04.0, as in ls /dev/disk/by-path, or use serial or minSize", "install.to.path is %q: a name that is another disk's after the next start", to.Path)
	}
	for _, p := range []struct{ at, pattern string }{{"path", to.Path}, {"serial", to.Serial}, {"model", to.Model}} {
		if _, err := path.Match(p.pattern, ""); err != nil {
			c.add("install.to."+p.at, `write * and ? for other characters, and \ before a [ that is meant`, "install.to.%s is %q: not a pattern", p.at, p.pattern)
		}
	}
	if least := c.r.diskSize(); to.MaxSize > 0 && to.MaxSize < least {
		c.add("install.to.maxSize", "leave it out, or name a larger size", "install.to.maxSize is %s, the layout needs %s", to.MaxSize, least)
	}
	if to.MaxSize > 0 && to.MinSize > to.MaxSize {
		c.add("install.to.minSize", "use at most install.to.maxSize", "install.to.minSize is %s, install.to.maxSize is %s: no disk could be both", to.MinSize, to.MaxSize)
	}
}

// diskSize is what the layout takes.
func (r *Recipe) diskSize() Size {
	n := 2*MiB + r.Disk.ESP + 2*r.Disk.Slot + StateSize + r.Data.Size
	if r.Root != nil {
		n += 2 * r.Disk.Root
	}
	return n
}
