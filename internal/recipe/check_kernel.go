package recipe

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/initramfs/kmod"
	"github.com/ingot-os/ingot/internal/strictyaml"
)

// metalHint is how to get drivers for physical machines.
func (e *examiner) metalHint() string {
	return "the cloud kernels are for virtual machines; use kernel: {package: linux-image-" + e.r.Arch + "}"
}

// modulesExist looks every name up in the kernel package.
func (e *examiner) modulesExist() {
	k := e.kernel("modules are in the kernel package")
	if k == nil {
		return
	}
	for i, m := range e.r.Modules {
		if IsGroup(m) || k.has(m) {
			continue
		}
		e.add(fmt.Sprintf("modules[%d]", i), e.moduleHint(k, m), "module %s is not in %s", m, e.kernelName())
	}
}

func (e *examiner) moduleHint(k *KernelFacts, name string) string {
	var known []string
	for _, g := range Groups {
		known = append(known, g.Name)
	}
	for m := range k.Modules {
		known = append(known, m)
	}
	slices.Sort(known)
	if near := strictyaml.Nearest(moduleName(name), known); near != "" {
		return "did you mean " + near + "?"
	}
	if strings.Contains(e.kernelName(), "cloud") {
		return e.metalHint()
	}
	return "it may be part of another kernel package, or have another name: see modinfo"
}

// groupsFit finds groups of which the kernel has nothing, and metal drivers
// asked of a kernel for virtual machines.
func (e *examiner) groupsFit() {
	cloud := strings.HasPrefix(e.r.Kernel.Package, "linux-image-cloud")
	for i, g := range e.r.Modules {
		at := fmt.Sprintf("modules[%d]", i)
		switch {
		case !IsGroup(g):
		case cloud && (g == "server" || g == "edge" || g == "usb"):
			e.add(at, e.metalHint(), "group %s is for physical machines, kernel %s has no drivers for them", g, e.r.Kernel.Package)
		case e.facts.Kernel != nil && !slices.ContainsFunc(kmod.Groups[g], e.facts.Kernel.has):
			e.add(at, "remove the group, or use another kernel", "group %s: %s has none of its %d modules", g, e.kernelName(), len(kmod.Groups[g]))
		}
	}
}

// need is a driver that a key of the recipe cannot work without.
type need struct {
	when       bool
	at, module string
	why        string
}

// neededModules looks for the drivers that other keys imply.
func (e *examiner) neededModules() {
	k := e.kernel("the kernel has what root, data and network need")
	if k == nil {
		return
	}
	root := e.r.Root
	needs := []need{
		{true, "kernel", "efivarfs", "the slots are switched through EFI variables"},
		{root != nil, "root", "dm_verity", "the root payload is under dm-verity"},
		{root != nil && root.Format == "squashfs", "root.format", "squashfs", "the root payload is a squashfs"},
		{root != nil && root.Format == "erofs", "root.format", "erofs", "the root payload is an erofs"},
		{!e.r.Data.Disabled, "data", "ext4", "the data partition is an ext4"},
		{e.r.Data.Encrypt != "", "data.encrypt", "dm_crypt", "the data partition is encrypted"},
		{e.r.Data.Encrypt != "", "data.encrypt", "xts", "the data partition is encrypted by AES-XTS"},
	}
	for i, l := range e.r.Network {
		at := fmt.Sprintf("network[%d]", i)
		needs = append(needs,
			need{l.VLAN != 0, at + ".vlan", "8021q", "the link is a VLAN"},
			need{l.Bond != nil, at + ".bond", "bonding", "the link is a bond"},
			need{l.DHCP, at + ".dhcp", "af_packet", "DHCP reads raw packets"})
	}
	for _, n := range needs {
		if n.when && !k.has(n.module) {
			e.add(n.at, "use another kernel package, such as linux-image-"+e.r.Arch, "%s has no %s, but %s", e.kernelName(), n.module, n.why)
		}
	}
}

// linkDrivers finds links whose driver will not be in the image.
func (e *examiner) linkDrivers() {
	const rule = "drivers of network links are in the image"
	selected := map[string]bool{}
	for _, m := range e.r.Modules {
		selected[moduleName(m)] = true
		for _, member := range kmod.Groups[m] {
			selected[moduleName(member)] = true
		}
	}
	for i, l := range e.r.Network {
		driver := moduleName(l.Match.Driver)
		if driver == "" || selected[driver] {
			continue
		}
		at := fmt.Sprintf("network[%d].match.driver", i)
		switch k := e.facts.Kernel; {
		case k == nil:
			e.skip(rule, fmt.Sprintf("whether %s is built into the kernel is known after ingot lock", driver))
		case k.Modules[driver] != "":
			e.add(at, "add it to modules:", "%s wants driver %s, which is not among the modules of the image", at, l.Match.Driver)
		case !k.Builtin[driver] && !strings.ContainsAny(driver, "*?["):
			e.add(at, e.moduleHint(k, driver), "%s wants driver %s, which %s does not have", at, l.Match.Driver, e.kernelName())
		}
	}
}

// consoleModules are consoles that exist only once a module is loaded.
var consoleModules = []struct{ prefix, module, hint string }{
	{"hvc", "virtio_console", "add the group virtio to modules:"},
	{"ttyUSB", "usbserial", "a USB console needs its driver in the kernel image: use another port"},
}

func (e *examiner) consoles() {
	for i, w := range e.r.Cmdline {
		dev, ok := strings.CutPrefix(w, "console=")
		if !ok {
			continue
		}
		at := fmt.Sprintf("cmdline[%d]", i-e.cmdlineOffset())
		if e.r.Arch == "arm64" && strings.HasPrefix(dev, "ttyS") {
			e.warn(at, "QEMU's and most boards' first port is ttyAMA0", "cmdline word %s: many arm64 machines have no such serial port", w)
		}
		for _, c := range consoleModules {
			if strings.HasPrefix(dev, c.prefix) && !e.loads(c.module) {
				e.add(at, c.hint, "cmdline word %s: the console needs module %s, which is not in the image", w, c.module)
			}
		}
	}
	if n := len(e.r.Cmdline); n > 0 && !slices.ContainsFunc(e.r.Cmdline, realConsole) {
		e.add("cmdline", "add console=ttyS0 or console=tty0", "cmdline has no console that shows anything: a machine that does not boot could not say why")
	}
}

func realConsole(w string) bool {
	dev, ok := strings.CutPrefix(w, "console=")
	return ok && dev != "" && dev != "null" && dev != "ttynull"
}

// loads tells whether a module is selected or built in.
func (e *examiner) loads(module string) bool {
	if e.facts.Kernel != nil && e.facts.Kernel.Builtin[module] {
		return true
	}
	for _, m := range e.r.Modules {
		if moduleName(m) == module || slices.Contains(kmod.Groups[m], module) {
			return true
		}
	}
	return false
}

// kernelOptions are what ingot-init and the boot file rely on.
var kernelOptions = []struct{ option, why string }{
	{"CONFIG_EFI_STUB", "the boot file starts the kernel through its EFI entry"},
	{"CONFIG_BLK_DEV_INITRD", "the appliance is in the initramfs"},
	{"CONFIG_DEVTMPFS", "ingot-init mounts /dev"},
	{"CONFIG_TMPFS", "ingot-init mounts /run and /tmp"},
	{"CONFIG_UNIX", "programs talk over local sockets"},
	{"CONFIG_INET", "the machine has a network"},
	{"CONFIG_BINFMT_ELF", "programs are ELF files"},
	{"CONFIG_EFI_PARTITION", "the disk has a GUID partition table"},
}

func (e *examiner) kernelOptions() {
	k := e.facts.Kernel
	if k == nil {
		return // neededModules has said so
	}
	if k.Config == nil {
		e.skip("the kernel is configured for ingot", "its configuration is not known")
		return
	}
	options := kernelOptions
	if e.r.Compress == "zstd" {
		options = append(slices.Clone(options), struct{ option, why string }{"CONFIG_RD_ZSTD", "compress: zstd makes a zstd initramfs"})
	}
	for _, o := range options {
		if k.Config[o.option] != "y" {
			e.add("kernel", "use a Debian kernel, or build yours with "+o.option+"=y", "%s has no %s, but %s", e.kernelName(), o.option, o.why)
		}
	}
}
