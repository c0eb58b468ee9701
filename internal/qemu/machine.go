// Package qemu boots a raw disk image in QEMU the way a real machine would:
// UEFI firmware, a TPM 2.0 (swtpm), a disk, a network card, a serial console,
// a power button, storage for a dying kernel's last words (ERST) and a hardware
// watchdog (i6300esb; both on amd64). It needs no root, and no KVM: KVM is used only after a probe
// has shown that a guest really starts, else TCG.
//
// The image is opened read-only and never changed: the machine runs on a
// sparse copy. Every process belongs to the VM and dies with it, with its
// context, or with this program (Linux PR_SET_PDEATHSIG); the copy has no name
// in any directory, so nothing is left behind either. Guests are amd64 (q35,
// OVMF) and arm64 (virt, AAVMF); the network is QEMU's user network, reached
// from 127.0.0.1 only, or a tap device that the caller opens. A machine may have
// no disk, and an old BIOS, to boot from that network.
//
//	vm, err := qemu.Start(ctx, qemu.Machine{Arch: "amd64", Image: "hello.img", TPM: true,
//		Forwards: []qemu.Forward{{Guest: 8080}}})
//	defer vm.Close()
//	line, err := vm.WaitLine(ctx, regexp.MustCompile("healthy after"))
//	url := "http://" + vm.Forward(8080)
package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// Architectures of guests, as Go names them.
const (
	AMD64 = "amd64"
	ARM64 = "arm64"
)

// Ways to attach the disk.
const (
	BusVirtio = "virtio" // virtio-blk
	BusNVMe   = "nvme"
	BusSATA   = "sata" // 512-byte sectors only
	BusSCSI   = "scsi" // virtio-scsi
	BusUSB    = "usb"
	BusCD     = "cd" // a CD drive: for an ISO
)

// Accelerators.
const (
	AccelKVM = "kvm"
	AccelTCG = "tcg" // emulation in software
)

// Machine describes a virtual machine. Arch is required, and Image or Net.
type Machine struct {
	Arch  string // AMD64 or ARM64
	Image string // disk image; never modified. Empty: no disk
	// Format of Image in QEMU's words: "raw" (also when empty), "qcow2", "vpc".
	// Only a raw image can be grown, or changed by State.
	Format string

	SectorSize int    // logical sector size of the disk in bytes: 512 (default) or 4096
	DiskBus    string // BusVirtio (default) and others
	DiskSize   int64  // bytes; the copy is grown to it with a hole; 0 or less than the image means as it is
	// Disk is a file that keeps the disk from run to run; it is copied from
	// Image when it does not exist. Firmware variables, TPM and ERST are kept
	// beside it in Disk+".machine/", of a machine without an image as well.
	// Empty means a throwaway machine.
	Disk string

	Memory   int       // MiB; default 1024
	CPUs     int       // default 2; 1 where amd64 is emulated
	TPM      bool      // a TPM 2.0 by swtpm
	Banks    []uint16  // active PCR banks of a new TPM; default SHA256 alone
	Forwards []Forward // TCP ports of the guest that are reached from 127.0.0.1
	Net      *Net      // replaces QEMU's user network: nothing is forwarded then
	Accel    string    // AccelKVM, AccelTCG, or empty: KVM when the probe succeeds
	Firmware *Firmware // default: FindFirmware(Arch)
	BIOS     bool      // amd64 without UEFI: SeaBIOS. Firmware and Vars are not used

	// UUID and SerialNumber are the machine's own, as SMBIOS (type 1) says them.
	// Empty: all zero, and none.
	UUID, SerialNumber string
	// Options are settings of firmware by their names: QEMU's fw_cfg, for example
	// opt/org.tianocore/IPv4PXESupport or etc/edk2/https/cacerts.
	Options map[string][]byte

	// Serial gets everything the guest writes to its console, as it comes. An
	// error from it is ignored. Input, when set, is typed into the console.
	Serial io.Writer
	Input  io.Reader

	// State is called with the disk copy before every start, for example to
	// write machine.yaml into its state partition.
	State func(disk *os.File) error
	// Vars is called with the firmware's empty variable store and returns the
	// one to start with. It is not called when Disk kept an older store: that
	// one belongs to the guest.
	Vars func(firmware []byte) ([]byte, error)
	// Kept is called instead of Vars when Disk kept an older store; an error
	// ends the start.
	Kept func(store []byte) error

	NoReboot  bool     // a reset ends the machine
	ExtraArgs []string // appended to QEMU's arguments
	WorkDir   string   // where the private directory of the VM is made; default os.TempDir

	bare bool // no disk, no network: firmware alone
}

// Net is a network card on a cable of the caller's.
type Net struct {
	// Open opens the machine's end: a tap device (IFF_TAP, IFF_NO_PI, and
	// IFF_VNET_HDR for speed). It is called at each start; the file is closed
	// with the machine.
	Open func() (*os.File, error)
	MAC  string // default 52:54:00:12:34:56
	// ROM leaves the card the option ROM that QEMU has for it, which is iPXE
	// (Debian package ipxe-qemu). A BIOS has no driver of its own; OVMF and AAVMF
	// have one.
	ROM bool
	// First boots from the network before the disk, instead of not at all.
	First bool
}

// Forward is one TCP port of the guest. Host 0 takes a free port.
type Forward struct {
	Host, Guest int
}

func (m *Machine) defaults() error {
	if m.Arch != AMD64 && m.Arch != ARM64 {
		return fmt.Errorf("start machine: architecture %q is not amd64 or arm64", m.Arch)
	}
	if m.Image == "" && m.Net == nil && !m.bare {
		return errors.New("start machine: no image")
	}
	if m.BIOS && m.Arch != AMD64 {
		return fmt.Errorf("start machine: %s has no BIOS", m.Arch)
	}
	if m.Net != nil && len(m.Forwards) > 0 {
		return errors.New("start machine: ports are forwarded by QEMU's user network only")
	}
	setDefault(&m.SectorSize, 512)
	setDefault(&m.Memory, 1024)
	setDefault(&m.DiskBus, BusVirtio)
	setDefault(&m.Format, "raw")
	if len(m.Banks) == 0 {
		m.Banks = []uint16{SHA256}
	}
	if m.SectorSize != 512 && m.SectorSize != 4096 {
		return fmt.Errorf("start machine: sector size %d is not 512 or 4096", m.SectorSize)
	}
	if !slices.Contains([]string{BusVirtio, BusNVMe, BusSATA, BusSCSI, BusUSB, BusCD}, m.DiskBus) {
		return fmt.Errorf("start machine: disk bus %q is not virtio, nvme, sata, scsi, usb or cd", m.DiskBus)
	}
	if m.DiskBus == BusSATA && m.SectorSize != 512 {
		return fmt.Errorf("start machine: QEMU's sata disks have 512-byte sectors, not %d", m.SectorSize)
	}
	if m.Format != "raw" && (m.State != nil || m.DiskSize != 0) {
		return fmt.Errorf("start machine: a %s image is attached as it is, neither grown nor changed", m.Format)
	}
	for _, f := range m.Forwards {
		if f.Guest < 1 || f.Guest > 65535 || f.Host < 0 || f.Host > 65535 {
			return fmt.Errorf("start machine: forward %d:%d is not a pair of ports", f.Host, f.Guest)
		}
	}
	return nil
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// accelerate settles Accel, and CPUs with it.
func (m *Machine) accelerate(ctx context.Context) error {
	switch m.Accel {
	case AccelKVM, AccelTCG:
	case "":
		m.Accel = AccelTCG
		if ProbeKVM(ctx, m.Arch) == nil {
			m.Accel = AccelKVM
		}
	default:
		return fmt.Errorf("start machine: accelerator %q is not kvm or tcg", m.Accel)
	}
	// A kernel changes its own text under an int3. With two processors emulated by
	// QEMU 7.2, the other one meets it after the handler has gone, now and then:
	// "Oops: int3", and a panic.
	if m.Accel == AccelTCG && m.Arch == AMD64 {
		setDefault(&m.CPUs, 1)
	}
	setDefault(&m.CPUs, 2)
	return ctx.Err()
}
