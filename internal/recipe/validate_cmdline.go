package recipe

import (
	"fmt"
	"slices"
	"strings"
)

// cmdlineMax is COMMAND_LINE_SIZE of amd64 and arm64 (both 2048) without the
// final zero and the room that ingot's own words take.
const cmdlineMax = 2047 - 320

// forbiddenWords are words that would take the machine out of ingot's hands.
var forbiddenWords = []struct{ key, why, hint string }{
	{"init", "the kernel would not start ingot-init", "remove it; start programs as services:"},
	{"rdinit", "the kernel would not start ingot-init", "remove it; start programs as services:"},
	{"initrd", "the initramfs is inside the signed boot file", "remove it; add files with files:"},
	{"noinitrd", "the whole appliance is in the initramfs", "remove it"},
	{"root", "ingot-init mounts the root payload by its verity hash", "remove it; describe the payload under root:"},
	{"rootfstype", "ingot-init mounts the root payload by its verity hash", "remove it; set root.format"},
	{"ip", "the kernel's own network set-up gets in the way of ingot-init", "describe the network under network:"},
	{"noefi", "slots are switched through EFI variables", "remove it"},
	{"dm-mod.create", "the verity device is made by ingot-init", "remove it"},
	{"acpi_rsdp", "the firmware's tables would be replaced", "remove it"},
	{"ingot.build", "ingot writes it itself", "remove it"},
	{"ingot.roothash", "ingot writes it itself", "remove it"},
	{"ingot.slot", "ingot-init finds its slot itself", "remove it"},
}

func (c *checker) cmdline() {
	total, seen := 0, map[string]int{}
	at := c.cmdlineOffset()
	for i, w := range c.r.Cmdline {
		total += len(w) + 1
		if i < at {
			continue // the default console, not in the document
		}
		here := fmt.Sprintf("cmdline[%d]", i-at)
		if first, ok := seen[w]; ok {
			c.add(here, "remove one", "cmdline has %s twice, first as word %d", w, first+1)
		} else {
			seen[w] = i - at
		}
		c.word(here, w)
	}
	if total > cmdlineMax {
		c.add("cmdline", "the kernel cuts its command line at 2048 bytes", "cmdline has %d bytes, the limit is %d", total, cmdlineMax)
	}
}

// cmdlineOffset is the number of words that applyDefaults put before the document's.
func (c *checker) cmdlineOffset() int {
	if c.r.doc != nil && len(c.r.Cmdline) > 0 && !c.r.doc.Has(fmt.Sprintf("cmdline[%d]", len(c.r.Cmdline)-1)) {
		return 1
	}
	return 0
}

func (c *checker) word(here, w string) {
	key, value, _ := strings.Cut(w, "=")
	for _, f := range forbiddenWords {
		if key == f.key {
			c.add(here, f.hint, "cmdline word %s: %s", w, f.why)
			return
		}
	}
	switch {
	case w == "--":
		c.add(here, "remove it", "cmdline word --: all later words would go to init, not to the kernel")
	case strings.Count(w, `"`)%2 != 0:
		c.add(here, "close the quote", "cmdline word %s: an open quote swallows the words after it", w)
	case key == "panic" && value == "0":
		c.add(here, "use panic=30", "cmdline word panic=0: a panic would hang the machine instead of falling back to the other slot")
	case key == "efi" && slices.Contains(strings.Split(value, ","), "noruntime"):
		c.add(here, "remove noruntime", "cmdline word %s: slots are switched through EFI variables", w)
	case key == "console":
		c.console(here, w, value)
	case key == "modprobe.blacklist" || key == "module_blacklist":
		c.blacklist(here, value)
	}
}

func (c *checker) console(here, w, value string) {
	dev, _, _ := strings.Cut(value, ",")
	switch {
	case dev == "":
		c.add(here, "name a device: console=ttyS0", "cmdline word %s names no console", w)
	case strings.HasPrefix(dev, "/dev/"):
		c.add(here, "write console="+strings.TrimPrefix(value, "/dev/"), "cmdline word %s: the kernel wants the name without /dev/", w)
	case c.r.Arch == "amd64" && strings.HasPrefix(dev, "ttyAMA"):
		c.add(here, "use console=ttyS0", "cmdline word %s: amd64 machines have no such serial port", w)
	}
}

func (c *checker) blacklist(here, value string) {
	for m := range strings.SplitSeq(value, ",") {
		for _, want := range c.r.Modules {
			if moduleName(m) == moduleName(want) {
				c.add(here, "remove the module from one of the two", "cmdline forbids module %s, which modules: asks for", m)
			}
		}
	}
}

// moduleName is the kernel's spelling: dash and underscore are the same.
func moduleName(s string) string { return strings.ReplaceAll(s, "-", "_") }
