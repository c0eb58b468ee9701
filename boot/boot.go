// Package boot puts together what a machine's firmware starts: the unified
// kernel image (UKI), after UAPI.5 "Unified Kernel Image" and systemd-stub(7)
// of systemd 252 to 257.
//
// Assemble checks the parts of a UKI and plans the PE file; nothing larger
// than the stub is held in memory. Inspect describes a UKI made by any tool.
// Signing is not done here.
//
// Shape of use:
//
//	plan, err := boot.Assemble(boot.UKI{Arch: boot.AMD64, Stub: stub, Kernel: k, Initrd: i, Cmdline: "console=ttyS0", OSRelease: osrel})
//	n, err := plan.WriteTo(file)
//	info, err := boot.Inspect(file, plan.Size())
package boot

import (
	"github.com/ingot-os/ingot/boot/pe"
	"github.com/ingot-os/ingot/partition/tree"
)

// UKI is the parts of a unified kernel image. Stub, Kernel, Initrd, Cmdline
// and OSRelease are required.
type UKI struct {
	Arch   string    // AMD64 or ARM64
	Stub   tree.Blob // systemd-stub, unsigned or signed; a signature is dropped
	Kernel tree.Blob // bzImage or arm64 Image, each with an EFI stub of its own
	Initrd tree.Blob // cpio archives, each plain or compressed
	// Microcode is an uncompressed early cpio that is loaded before Initrd
	// (.ucode). It needs a stub of systemd 256 or later.
	Microcode tree.Blob
	Splash    tree.Blob // BMP picture shown by the stub
	Cmdline   string    // must name a console; see Assemble
	OSRelease string    // os-release(5); a boot menu takes the title from it
	Uname     string    // kernel release as "uname -r" says it; optional
	// Budget is the largest size of the UKI in bytes; 0 means no limit but
	// the format's 2 GiB per section.
	Budget int64
}

// Plan is the layout of a UKI: where each section is, and how to write it. It
// is a tree.Blob, so it can be a file of a tree.
type Plan struct {
	*pe.Plan
	Stub string // version of the stub as it names itself: "systemd-stub 257.13-1~deb13u1"
}
