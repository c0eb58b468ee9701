package recipe

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Limits of what loads a boot file.
const (
	// A PE image has 32-bit addresses, and firmware and stubs treat them as
	// signed: 2 GiB is the end.
	maxPE = 2 * GiB
	// TFTP numbers blocks in 16 bits. EDK2 asks for blocks of 1468 bytes and
	// wraps the number; other firmware stops at the last one.
	tftpWrap = 65535 * 1468
	// maxWalk bounds the entries of local directories that are sized.
	maxWalk = 20_000
)

// stub passes on what is wrong with the EFI stub.
func (e *examiner) stub() {
	err := e.facts.StubError
	if err == nil {
		return
	}
	hint := "take the one of Debian's package systemd-boot-efi: leave out stub"
	if h, ok := errors.AsType[interface {
		error
		Hint() string
	}](err); ok {
		hint = h.Hint()
	}
	at := "stub"
	if e.r.Stub.File != "" {
		at = "stub.file"
	}
	e.add(at, hint, "the stub cannot be used: %v", err)
}

// bootFileSize compares the boot file with everything it must fit into. Before
// the first build its size is a sum of what is known: too large is then
// certain, small enough is not.
func (e *examiner) bootFileSize() {
	size, missing := e.bootFile()
	known := len(missing) == 0
	about := ""
	if e.facts.UKI == 0 {
		about = "about "
		if !known {
			about = "at least "
		}
	}
	if !known {
		e.skip("the boot file fits into ESP, slots and firmware", "unknown until ingot build: size of "+strings.Join(missing, ", "))
	}
	is := about + mebibytes(size)
	d := e.r.Disk
	switch {
	case size > maxPE:
		e.add("", "move content into a root payload: root:", "the boot file has %s: EFI programs end at 2 GiB", is)
	case size > fatRoom(d.Slot):
		e.add("disk.slot", "use "+e.roundUp(2*size), "disk.slot is %s, the boot file has %s: it does not fit", d.Slot, is)
	case 2*size > fatRoom(d.Slot):
		e.add("disk.slot", "use "+e.roundUp(2*size), "disk.slot is %s, the boot file has %s: no room for one twice as large, and a slot cannot grow on a machine in the field", d.Slot, is)
	}
	if size <= maxPE && 2*size > fatRoom(d.ESP) {
		e.add("disk.esp", "use "+e.roundUp(2*size), "disk.esp is %s, the boot file has %s: the ESP holds it twice", d.ESP, is)
	}
	if b := e.r.Boot.Budget; b > 0 && size > b {
		e.add("boot.budget", "remove programs or modules, set compress: zstd, or raise the budget", "the boot file has %s, its budget is %s", is, b)
	}
	if size > tftpWrap && size <= maxPE {
		e.warn("", "boot it over HTTP, or move content into a root payload", "the boot file has %s: some firmware cannot load more than 91 MiB over TFTP", is)
	}
}

// fatRoom is what files can take of a FAT32 volume: two tables of 4 bytes for
// every cluster of at least 512 bytes, and the reserved sectors.
func fatRoom(volume Size) Size { return volume - volume/64 - 64*KiB }

func (e *examiner) roundUp(s Size) string { return ((s*65/64)/(32*MiB)*(32*MiB) + 32*MiB).String() }

func mebibytes(s Size) string { return fmt.Sprintf("%.1f MiB", float64(s)/float64(MiB)) }

// bootFile returns the size as far as it is known, and what is not.
func (e *examiner) bootFile() (size Size, missing []string) {
	if e.facts.UKI > 0 {
		return Size(e.facts.UKI), nil
	}
	add := func(what string, n int64) {
		if n > 0 {
			size += Size(n)
		} else {
			missing = append(missing, what)
		}
	}
	add("the EFI stub", e.facts.Stub)
	add("ingot-init", e.facts.Init)
	if k := e.facts.Kernel; k != nil {
		add("the kernel", k.Image)
	} else {
		add("the kernel", 0)
	}
	if len(e.r.Modules) > 0 {
		add("the modules", e.facts.Sizes["modules"])
	}
	for _, p := range e.r.Go {
		add("program "+p.Name, e.facts.Sizes["go/"+p.Name])
	}
	if len(e.r.URoot) > 0 {
		add("the u-root commands", e.facts.Sizes["uroot"])
	}
	for _, f := range e.r.Firmware {
		if name := f.Package; name != "" {
			add(name, e.facts.Sizes["firmware/"+name])
		} else {
			add(f.Source, e.localSize(f.Source))
		}
	}
	for _, f := range e.r.Files {
		switch {
		case f.Content != nil:
			size += Size(len(*f.Content))
		case f.Source != "":
			add(f.Source, e.localSize(f.Source))
		case f.URL != "":
			add(f.URL, e.facts.Sizes["file"+f.Path])
		}
	}
	if e.r.Compress == "zstd" {
		// Only what is certain counts: the compressed initramfs of a real image
		// is about half its size, so a third is a safe lower bound.
		return size / 3, append(missing, "the compressed initramfs")
	}
	return size, missing
}

// localSize adds up a file or directory; 0 when it cannot be known quickly.
func (e *examiner) localSize(name string) (size int64) {
	n := 0
	err := filepath.WalkDir(e.r.local(name), func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if n++; n > maxWalk {
			return fs.ErrInvalid
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return nil
	})
	if err != nil {
		return 0
	}
	return max(size, 1)
}

func (e *examiner) rootSize() {
	root := e.r.Root
	if root == nil {
		return
	}
	size := Size(e.facts.RootSize)
	if size == 0 {
		e.skip("the root payload fits into disk.root", "its size is known after ingot build")
		return
	}
	switch d := e.r.Disk.Root; {
	case size > d:
		e.add("disk.root", "use "+e.roundUp(2*size), "disk.root is %s, the root payload has %s: it does not fit", d, mebibytes(size))
	case 2*size > d:
		e.add("disk.root", "use "+e.roundUp(2*size), "disk.root is %s, the root payload has %s: no room for one twice as large, and a partition cannot grow on a machine in the field", d, mebibytes(size))
	}
}

// firmwareFiles finds patterns that match nothing in the package.
func (e *examiner) firmwareFiles() {
	for i, f := range e.r.Firmware {
		if f.Package == "" || len(f.Files) == 0 {
			continue
		}
		names, ok := e.facts.Firmware[f.Package]
		if !ok {
			e.skip("firmware files are in "+f.Package, "the package is not in the cache yet: run ingot lock")
			continue
		}
		for j, p := range f.Files {
			if !slices.ContainsFunc(names, func(n string) bool { ok, _ := path.Match(p, n); return ok }) {
				e.add(fmt.Sprintf("firmware[%d].files[%d]", i, j), "look into the package with dpkg -c", "%s: %s has no such file", p, f.Package)
			}
		}
	}
}

// bootEntries warns about entries whose program ingot does not put there.
func (e *examiner) bootEntries() {
	loader := map[string]string{"amd64": "BOOTX64.EFI", "arm64": "BOOTAA64.EFI"}[e.r.Arch]
	for i, b := range e.r.Boot.Entries {
		p := strings.ToUpper(strings.ReplaceAll(b.EFI, `\`, "/"))
		if p != "/EFI/BOOT/"+loader && p != "/EFI/INGOT/"+loader {
			e.warn(fmt.Sprintf("boot.entries[%d].efi", i), "the ESP holds /EFI/BOOT/"+loader+" and /EFI/INGOT/"+loader, "boot entry %q starts %s, which ingot does not put on the ESP", b.Title, b.EFI)
		}
	}
}

// words warns about ingot's own words given twice.
func (e *examiner) words() {
	seen := map[string]bool{}
	for i, w := range e.r.Cmdline {
		key, _, _ := strings.Cut(w, "=")
		if strings.HasPrefix(key, "ingot.") && seen[key] {
			e.warn(fmt.Sprintf("cmdline[%d]", i-e.cmdlineOffset()), "keep one", "cmdline has %s more than once: only one counts", key)
		}
		seen[key] = true
	}
}
