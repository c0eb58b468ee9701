// Package chain is the way to a release for what cannot start its UKI from the
// network: a BIOS, and UEFI firmware whose TFTP does not take large files. Both load
// iPXE, and iPXE loads the rest by HTTP:
//
//	BIOS      iPXE (undionly.kpxe) -> boot.ipxe -> kernel and initrd out of the UKI
//	UEFI      iPXE (snponly.efi)   -> boot.ipxe -> the UKI itself
//	iPXE is the firmware           -> boot.ipxe -> either
//
// Firmware that can start the UKI is never sent this way unless a rule says so: who
// has Secure Boot on does not say so over DHCP, iPXE of a distribution is not signed by
// the keys of a release, and iPXE changes what is measured.
//
//	progs, err := chain.Load(config)                 // once: iPXE, checked by digest
//	step := chain.Next(client, chain.Options{...})   // what this client fetches now
//	parts, err := chain.Split(uki, size, manifest, digest) // kernel, initrd, command line
//	text, err := parts.BIOSScript()
package chain

import (
	"fmt"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// The last part of a path below boot/MAC/: the script there, what it loads in Parts.Dir.
const (
	Script    = "boot.ipxe"
	Kernel    = "vmlinuz"
	Initrd    = "initrd"
	Microcode = "ucode"
)

// Step is what a client is to fetch next.
type Step struct {
	// Name is the last part of the path; "" when there is nothing that it could start.
	Name string
	// Program is iPXE for this client, when Name is one's.
	Program *Loaded
	// HTTP says that it takes a URL; else TFTP.
	HTTP bool
	// Reason is for people and for the log.
	Reason string
}

// Options are what a step depends on beside the client.
type Options struct {
	UKI      string       // NAME-VERSION.efi
	IPXE     bool         // a rule sends this machine by way of iPXE
	Programs *ProgramsSet // nil: none
	// Unscripted is why no script could load the release: the error of Split, or of
	// Parts.ScriptFor. Nobody is sent to iPXE then, which would end in its error.
	Unscripted error
}

// Next decides what a client fetches. It depends on its arguments alone.
func Next(c netboot.Client, o Options) Step {
	switch {
	case c.IPXE && o.Unscripted != nil:
		return Step{Reason: fmt.Sprintf("iPXE asks, and cannot load the release: %v", o.Unscripted)}
	case c.IPXE:
		return Step{Name: Script, HTTP: true, Reason: "iPXE asks: a script loads the release by HTTP"}
	case c.Arch.UEFI() && c.Arch.GOARCH() != "" && !o.IPXE:
		return Step{Name: o.UKI, HTTP: c.HTTP(), Reason: "the release's UKI"}
	case c.Arch.UEFI() && c.Arch.GOARCH() != "":
		return o.program(c, "a rule says by way of iPXE")
	case c.Arch == netboot.BIOS || c.Arch == netboot.HTTPBIOS:
		return o.program(c, "a BIOS starts no UKI")
	}
	return Step{Reason: fmt.Sprintf("nothing here runs on %s", c.Arch)}
}

func (o Options) program(c netboot.Client, why string) Step {
	if o.Unscripted != nil {
		return Step{Reason: fmt.Sprintf("%s, and iPXE cannot load the release: %v", why, o.Unscripted)}
	}
	p, key := o.Programs.forArch(c.Arch)
	if p == nil {
		return Step{Reason: fmt.Sprintf("%s, and serve.yaml names no iPXE for %s (ipxe.%s)", why, c.Arch, key)}
	}
	return Step{Name: p.Name, Program: p, HTTP: c.HTTP(), Reason: why + ": iPXE first"}
}
