package predict

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/ingot-os/ingot/attest/eventlog"
	"github.com/ingot-os/ingot/boot/pe"
)

// Texts that firmware measures, without a NUL (PFP sections 10.4.4 and 3.3.4).
const (
	calling     = "Calling EFI Application from Boot Option"
	returning   = "Returning from EFI Application from Boot Option"
	exitInvoked = "Exit Boot Services Invocation"
	exitDone    = "Exit Boot Services Returned with Success"
)

// bootOption is the boot manager up to the image. EDK2 measures "Calling" and
// then separates PCR 0 to 6 in one go; boot options that fail come after. QEMU's
// loader has read the kernel before.
func (b *boot) bootOption() error {
	if b.o.Boot == Kernel {
		if err := b.authenticode("UKI", b.uki.r, b.uki.size); err != nil {
			return err
		}
	}
	b.addBytes(4, eventlog.EFIAction, calling, []byte(calling))
	for _, register := range []int{4, 5} {
		b.addBytes(register, eventlog.Separator, "separator", zeros[:4])
	}
	for range b.o.Failed {
		b.addBytes(4, eventlog.EFIAction, returning, []byte(returning))
		b.addBytes(4, eventlog.EFIAction, calling, []byte(calling))
	}
	return nil
}

// disk is the partition table, which is measured when the first program is
// loaded from a disk.
func (b *boot) disk() error {
	switch {
	case b.o.Boot != Disk:
	case b.o.Table == nil:
		b.p.Open[5] = "no partition table is given"
	default:
		b.addBytes(5, eventlog.GPT, "GPT", b.o.Table.event())
	}
	if b.o.LoaderConf != nil {
		b.addBytes(5, eventlog.EventTag, "loader.conf", b.o.LoaderConf)
	}
	return nil
}

// image is the UKI as firmware loads it. iPXE has it loaded twice: once to see
// whether it can be, once to start it.
func (b *boot) image() error {
	loads := 1
	switch b.o.Boot {
	case Kernel:
		return nil
	case IPXE:
		loads = 2
	}
	if l := b.o.Loader; l != nil {
		if err := b.loader(*l); err != nil {
			return fmt.Errorf("loader: %w", err)
		}
	}
	for range loads {
		if err := b.authenticode("UKI", b.uki.r, b.uki.size); err != nil {
			return err
		}
	}
	return nil
}

// authenticode measures a program that firmware loads.
func (b *boot) authenticode(name string, r io.ReaderAt, size int64) error {
	return b.add(4, eventlog.BootServicesApp, name, func(w io.Writer) error { return pe.WriteAuthenticode(w, r, size) })
}

// loader measures a program that is not part of the image. What iPXE does is
// the same in all versions that are known; systemd-boot of 252 measured no
// loader.conf and passed the image's own command line on.
func (b *boot) loader(l Program) error {
	name := "iPXE"
	if b.o.Boot == Disk {
		f, err := pe.Parse(l.Image, l.Size)
		if err != nil {
			return err
		}
		if name, err = loaderInfo(f, l.Image); err != nil {
			return err
		}
		if majorVersion(name, "systemd-boot ") != loaderVersion {
			return &VersionError{name}
		}
		name = "systemd-boot"
	}
	if l.Size > maxLoader {
		return fmt.Errorf("%d bytes are more than %d", l.Size, maxLoader)
	}
	var image bytes.Buffer // of what a signature covers
	if err := pe.WriteAuthenticode(&image, l.Image, l.Size); err != nil {
		return err
	}
	b.addBytes(4, eventlog.BootServicesApp, name, image.Bytes())
	return nil
}

// loaderVersion is the major version of systemd-boot that has been compared
// with boots.
const loaderVersion = 257

// maxLoader bounds a loader, which has about 1 MB.
const maxLoader = 64 << 20

// exitBootServices is what firmware measures when the kernel takes over.
func (b *boot) exitBootServices() error {
	for _, text := range []string{exitInvoked, exitDone} {
		b.addBytes(5, eventlog.EFIAction, text, []byte(text))
	}
	return nil
}

// stub is what systemd-stub measures: its sections, the load options that it
// obeys, and, through the firmware, the kernel.
func (b *boot) stub() error {
	if b.uki.rules.bootSecret && b.o.Boot == Disk && b.o.Loader != nil {
		return fmt.Errorf("%q beside systemd-boot: PCR 9 depends on the machine, whose boot secret is put into the initrd", b.uki.stub)
	}
	if err := b.sections(); err != nil {
		return err
	}
	if err := b.chooseCmdline(); err != nil {
		return err
	}
	if b.uki.rules.addsConsole && !namesConsole(b.p.Cmdline) {
		return fmt.Errorf("command line %q has no console=: %q adds one that depends on the machine", b.p.Cmdline, b.uki.stub)
	}
	if b.o.SecureBoot || !b.uki.rules.startsByFirmware {
		return nil
	}
	linux := b.uki.section(".linux")
	if linux == nil {
		return fmt.Errorf("section .linux is empty")
	}
	return b.authenticode(".linux", linux.Data(b.uki.r), linux.DataSize())
}

// namesConsole says whether the stub finds a console in a command line. It
// looks for spaces, and does not know of quotes.
func namesConsole(cmdline string) bool {
	return strings.HasPrefix(cmdline, "console=") || strings.Contains(cmdline, " console=")
}

// sections is all of PCR 11.
func (b *boot) sections() error {
	for _, name := range b.uki.rules.sections {
		s := b.uki.section(name)
		if s == nil {
			continue
		}
		b.addBytes(11, eventlog.IPL, name+" (name)", append([]byte(name), 0))
		if err := b.add(11, eventlog.IPL, name, b.uki.content(s)); err != nil {
			return err
		}
	}
	return nil
}

// chooseCmdline settles which command line the kernel gets. The stub takes the
// load options when there are any, unless Secure Boot is on and the image
// brings its own; what it takes is measured.
func (b *boot) chooseCmdline() (err error) {
	if b.p.Cmdline, err = b.uki.cmdline(); err != nil {
		return err
	}
	own := b.uki.section(".cmdline") != nil
	if b.o.LoadOptions == "" || b.o.SecureBoot && own {
		return nil
	}
	b.p.Cmdline, b.p.Replaced = b.o.LoadOptions, own
	b.addBytes(12, eventlog.IPL, "load options", text16(b.o.LoadOptions))
	return nil
}

// kernel is what Linux's EFI stub measures.
func (b *boot) kernel() error {
	b.addBytes(9, eventlog.EventTag, "LOADED_IMAGE::LoadOptions", text16(b.p.Cmdline))
	parts, err := b.uki.initrd()
	if err != nil || len(parts) == 0 {
		return err
	}
	return b.initrd(parts)
}
