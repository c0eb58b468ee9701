package qemu

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// handles are what the machine gets besides its description: numbers of
// descriptors that QEMU inherits. Everything that can be is a descriptor, not
// a path: no name to race for, no limit on its length, nothing left behind.
type handles struct {
	disk, vars         int // files
	erst               int // file; 0 = none
	qmp, serial, smoke int // stream sockets
	tpm                int // control socket of swtpm; 0 = none
	tap                int // network cable; 0 = QEMU's user network

	options []string // files of Options, in the order of optionNames
}

// arguments gives QEMU's command line, chosen for a fast start under TCG
// (measured on QEMU 7.2): -nodefaults saves the VGA console and its drivers,
// about 0.5 s; smm=off, hpet=off and i8042=off save emulated work nobody looks
// at; an empty romfile keeps the cards' option ROMs out.
func (m *Machine) arguments(h handles) []string {
	a := []string{"-nodefaults", "-no-user-config", "-display", "none", "-name", "ingot",
		"-accel", m.accelerator(), "-machine", m.board(), "-cpu", m.cpu(),
		"-m", strconv.Itoa(m.Memory), "-smp", strconv.Itoa(m.CPUs)}
	if !m.BIOS {
		a = append(a, m.flash(h)...)
	}
	a = append(a, "-chardev", fd("qmp", h.qmp), "-mon", "chardev=qmp,mode=control",
		"-chardev", fd("serial", h.serial), "-serial", "chardev:serial",
		"-device", "virtio-rng-pci,romfile=",
		"-device", "virtio-serial-pci,romfile=", "-chardev", fd("smoke", h.smoke),
		"-device", "virtserialport,chardev=smoke,name="+SmokePort,
		// A panic is an event; what follows it (panic= on the guest's command
		// line, then the other slot) is the guest's own business.
		"-device", "pvpanic-pci", "-action", "panic=none,watchdog=reset",
		"-boot", "menu=off")
	if m.Image != "" {
		a = append(a, m.diskArguments(h)...)
	}
	if !m.bare {
		a = append(a, m.netArguments(h)...)
	}
	a = append(a, m.evidence(h)...)
	a = append(a, m.identity(h)...)
	if m.NoReboot {
		a = append(a, "-no-reboot")
	}
	return append(a, m.ExtraArgs...)
}

func (m *Machine) accelerator() string {
	if m.Accel == AccelKVM {
		return "kvm"
	}
	return "tcg,thread=multi,tb-size=512" // MiB; the default grows with memory and costs page faults
}

func (m *Machine) board() string {
	b := "virt"
	if m.Arch == AMD64 {
		smm := "off"
		if m.Firmware != nil && m.Firmware.Secure {
			smm = "on"
		}
		b = "q35,smm=" + smm + ",hpet=off,i8042=off,vmport=off"
	}
	if m.BIOS {
		return b + ",graphics=off" // SeaBIOS talks on the serial line then
	}
	return b + ",pflash0=code,pflash1=vars"
}

// cpu is the model that boots fastest while it runs what people compile:
// Nehalem is x86-64-v2 (programs of current distributions start), and rdrand
// lets the kernel have random numbers at once.
// Programs for x86-64-v2 refuse to start without cx16, so it stays on although a
// guest of QEMU 7.2's TCG with the model max was once seen to double fault right
// after a cmpxchg16b.
func (m *Machine) cpu() string {
	switch {
	case m.Accel == AccelKVM:
		return "host"
	case m.Arch == ARM64:
		return "cortex-a72"
	}
	return "Nehalem,+rdrand"
}

func (m *Machine) flash(h handles) []string {
	a := []string{"-blockdev", "driver=file,node-name=code-file,read-only=on,filename=" + escape(m.Firmware.Code),
		"-blockdev", "driver=raw,node-name=code,read-only=on,file=code-file",
		"-add-fd", fdset(h.vars),
		"-blockdev", "driver=file,node-name=vars-file,filename=" + fdpath(h.vars),
		"-blockdev", "driver=raw,node-name=vars,file=vars-file"}
	if m.Firmware.Secure {
		a = append(a, "-global", "driver=cfi.pflash01,property=secure,value=on")
	}
	return a
}

// diskArguments attaches the disk. Flushes of the guest are not passed on: the
// host's page cache survives QEMU, and nobody relies on the copy after a crash
// of the host. bootindex makes OVMF connect this disk instead of every device.
func (m *Machine) diskArguments(h handles) []string {
	at := m.diskBootIndex()
	sector := fmt.Sprintf("drive=disk,bootindex=%d,logical_block_size=%d,physical_block_size=%[2]d", at, m.SectorSize)
	a := []string{"-add-fd", fdset(h.disk),
		"-blockdev", "driver=file,node-name=disk-file,cache.no-flush=on,discard=unmap,filename=" + fdpath(h.disk),
		"-blockdev", "driver=" + m.Format + ",node-name=disk,cache.no-flush=on,discard=unmap,file=disk-file"}
	switch m.DiskBus {
	case BusNVMe:
		return append(a, "-device", "nvme,serial=ingot,"+sector)
	case BusSATA:
		return append(a, "-device", "ich9-ahci,id=sata", "-device", fmt.Sprintf("ide-hd,bus=sata.0,drive=disk,bootindex=%d", at))
	case BusSCSI:
		return append(a, "-device", "virtio-scsi-pci,id=scsi,romfile=", "-device", "scsi-hd,bus=scsi.0,"+sector)
	case BusCD:
		return append(a, "-device", "virtio-scsi-pci,id=scsi,romfile=", "-device", fmt.Sprintf("scsi-cd,bus=scsi.0,drive=disk,bootindex=%d", at))
	case BusUSB:
		return append(a, "-device", "qemu-xhci,id=usb", "-device", "usb-storage,bus=usb.0,removable=on,"+sector)
	}
	return append(a, "-device", "virtio-blk-pci,romfile=,"+sector)
}

// diskBootIndex is the disk's place among what is booted.
func (m *Machine) diskBootIndex() int {
	if m.Net != nil && m.Net.First {
		return 1
	}
	return 0
}

// netArguments attaches the network card. It has a bootindex only when it is to be
// booted: OVMF connects those devices alone, and trying a network costs a minute.
func (m *Machine) netArguments(h handles) []string {
	if m.Net == nil {
		return []string{"-netdev", "user,id=net" + m.hostForwards(), "-device", "virtio-net-pci,netdev=net,romfile="}
	}
	card := "virtio-net-pci,netdev=net"
	if !m.Net.ROM {
		// Naming one instead is of no use: QEMU gives the default ROM alone the
		// card's device id, and no firmware runs one with another.
		card += ",romfile="
	}
	if m.Net.MAC != "" {
		card += ",mac=" + m.Net.MAC
	}
	if m.Net.First {
		card += ",bootindex=0"
	}
	return []string{"-netdev", fmt.Sprintf("tap,id=net,fd=%d", h.tap), "-device", card}
}

// optionNames are the names of Options, in order.
func (m *Machine) optionNames() []string { return slices.Sorted(maps.Keys(m.Options)) }

// identity is who the machine is, and what its firmware is told.
func (m *Machine) identity(h handles) []string {
	var a []string
	if m.UUID != "" {
		a = append(a, "-uuid", m.UUID)
	}
	if m.SerialNumber != "" {
		a = append(a, "-smbios", "type=1,serial="+escape(m.SerialNumber))
	}
	for i, name := range m.optionNames() {
		a = append(a, "-fw_cfg", "name="+name+",file="+escape(h.options[i]))
	}
	return a
}

// hostForwards lists the forwarded ports; port 0 lets QEMU take a free one.
func (m *Machine) hostForwards() string {
	var s string
	for _, f := range m.Forwards {
		s += fmt.Sprintf(",hostfwd=tcp:127.0.0.1:%d-:%d", f.Host, f.Guest)
	}
	return s
}

// evidence attaches the TPM, the storage for a dying kernel's last words and the
// watchdog that ends a hang. The watchdog is idle until a guest arms it, and it
// comes last: the cards before it keep their addresses. arm64 has none: Debian's
// kernel for virtual machines has no driver for it there.
func (m *Machine) evidence(h handles) []string {
	var a []string
	if h.tpm != 0 {
		// A command goes into the buffer of a CRB at once, and into the FIFO of a TIS
		// byte by byte: an emulated boot to HTTP is a second faster.
		device := "tpm-crb"
		if m.Arch == ARM64 {
			device = "tpm-tis-device" // virt has no CRB in QEMU 7.2
		}
		a = append(a, "-chardev", fd("tpm", h.tpm), "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", device+",tpmdev=tpm0")
	}
	if h.erst != 0 {
		a = append(a, "-object", fmt.Sprintf("memory-backend-file,id=erst,share=on,size=%d,mem-path=/dev/fd/%d", erstSize, h.erst),
			"-device", "acpi-erst,memdev=erst")
	}
	if m.Arch == AMD64 {
		a = append(a, "-device", "i6300esb")
	}
	return a
}

func fd(id string, n int) string { return fmt.Sprintf("socket,id=%s,fd=%d", id, n) }

// A descriptor set makes an inherited descriptor a file name for QEMU.
func fdset(n int) string  { return fmt.Sprintf("fd=%d,set=%d", n, n) }
func fdpath(n int) string { return fmt.Sprintf("/dev/fdset/%d", n) }

// escape doubles commas, which separate QEMU's options.
func escape(path string) string { return strings.ReplaceAll(path, ",", ",,") }
