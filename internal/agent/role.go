package agent

import (
	"errors"
	"os"
	"strings"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/agent/disk"
	"github.com/ingot-os/ingot/internal/agent/listener"
	"github.com/ingot-os/ingot/internal/agent/nvram"
	"github.com/ingot-os/ingot/internal/agent/slots"
	"github.com/u-root/u-root/pkg/mount"
)

// The roles of a boot (S1).
const (
	roleAppliance = "appliance" // started from a slot
	roleSelector  = "selector"  // started from the ESP: chooses a slot and resets
	roleRAM       = "ram"       // netboot or direct kernel: no disk is touched
)

// pathKexec is the path of a slot that was started by the program before it, not
// by the firmware.
const pathKexec = "kexec"

// systemdBoot is the value of boot.loader that puts the choice of the slot into
// systemd-boot's hands.
const systemdBoot = "systemd-boot"

// Partition roles, as in package partition, which PID 1 does not link.
const (
	partESP   = "esp"
	partSlotA = "slot-a"
	partSlotB = "slot-b"
	partState = "state"
	partData  = "data"
)

// findRole learns how this system was started and finds its disk. When it
// returns, the machine is an appliance: the selector role ends in a reset or,
// where that is impossible, goes on as an appliance and says so.
func (m *Machine) findRole() {
	m.update(func(s *listener.Status) {
		s.Boot = listener.Boot{Role: roleRAM, Path: roleRAM, State: "absent"}
		s.Machine.State = "absent"
		s.SecureBoot = "unknown"
	})
	m.vars = nvram.Store{Dir: nvram.Dir}
	if err := m.mountEFIVars(); err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			m.problem("open uefi variables: %v", err)
		}
		if m.launched() == "" {
			return
		}
	}
	loader := m.loaderPartition()
	m.update(func(s *listener.Status) {
		s.SecureBoot, s.PlatformKey, s.Boot.Partition = m.vars.SecureBoot(), m.vars.PlatformKey(), loader
	})
	if loader == "" {
		return
	}
	if !m.findDisk(loader) {
		return
	}
	m.enterRole(m.disk.Role(loader))
}

// loaderPartition is where the stub was read from. Stubs before version 257
// know only the older name, which a boot loader in front of them sets to its
// own partition.
func (m *Machine) loaderPartition() string {
	if part := m.vars.Text("StubDevicePartUUID"); part != "" {
		return part
	}
	if part := m.vars.Text("LoaderDevicePartUUID"); part != "" {
		return part
	}
	return m.spec.Layout.Part["slot-"+m.launched()] // behind kexec, where the firmware is out of reach
}

// launched is the slot that another program has started by kexec: a, b, or empty.
func (m *Machine) launched() string {
	x, _ := m.cmdline.Get(strings.TrimSuffix(slots.Argument, "="))
	if (x == "a" || x == "b") && m.spec.Boot.Loader != systemdBoot {
		return x
	}
	return ""
}

func (m *Machine) mountEFIVars() error {
	if _, err := os.Stat("/sys/firmware/efi"); err != nil {
		return err
	}
	_ = m.devices.Load("efivarfs") // built in, or the mount says what is missing
	_, err := mount.Mount("efivarfs", nvram.Dir, "efivarfs", "", noExec)
	return err
}

// slowDevice is how long a device is waited for that must be there, for the firmware has
// started this system from it: controllers of many disks begin anew with all of them, and
// cards with their own firmware, which takes them a minute.
const slowDevice = time.Minute

// settleLimit bounds how long a found disk waits for the drivers of the others.
const settleLimit = 3 * time.Second

// findDisk waits for the disk with the loader's partition. Then it gives the
// drivers of the other devices a moment: a second disk with the same GUIDs must
// be seen before anything is written.
func (m *Machine) findDisk(loader string) bool {
	finder := &disk.Finder{}
	found, err := (*disk.Disk)(nil), error(nil)
	look := func() bool {
		found, err = finder.Find(loader, m.spec.Layout)
		return !errors.Is(err, disk.ErrNotFound)
	}
	there := m.devices.Wait(m.ctx, settleTime, look)
	if !there {
		m.log.Printf("the firmware has started from partition %s, which no disk has yet: waiting for it", loader)
		there = m.devices.Wait(m.ctx, slowDevice, look)
	}
	if there && err == nil {
		m.devices.Wait(m.ctx, settleLimit, m.devices.IsSettled)
		look()
	}
	if err != nil {
		state := "missing"
		var twins *disk.AmbiguousError
		if errors.As(err, &twins) {
			state = "refused"
		}
		m.update(func(s *listener.Status) { s.Boot.Role, s.Boot.Path, s.Boot.State = roleAppliance, "disk", state })
		m.problem("%v", err)
		return false
	}
	m.disk = found
	if mended, err := m.disk.Mend(); err != nil {
		m.problem("%v", err)
	} else if mended {
		m.log.Printf("partition table: the primary copy was damaged and is written again")
	}
	m.devices.Wait(m.ctx, settleTime, func() bool { return m.disk.NodeOf(partState) != "" })
	m.update(func(s *listener.Status) {
		s.Boot.Disk, s.Boot.DiskGUID, s.Boot.State = m.disk.Node, m.disk.Table.Disk.String(), "ok"
	})
	return true
}

func (m *Machine) enterRole(part string) {
	b := listener.Boot{Role: roleAppliance, Path: "disk"}
	switch {
	case m.launched() != "":
		b.Path, b.Slot = pathKexec, m.launched() // the variables speak of what the firmware started
	case part == partSlotA || part == partSlotB:
		b.Slot = part[len("slot-"):]
	case part == partESP && m.spec.Boot.Loader == systemdBoot:
		b.Path = systemdBoot // its menu lists the image that lies on the ESP (S21)
	case part == partESP:
		b.Path = roleSelector
		err := errors.New("no slot was chosen")
		m.withoutKeeper(slot.None, func() { err = m.selectSlot() })
		b.Role = roleAppliance
		m.problem("select a slot: %v: going on from the ESP", err)
	default:
		b.Path = "other"
		m.problem("started from partition %q of the disk: neither a slot nor the ESP", part)
	}
	m.update(func(s *listener.Status) { s.Boot.Role, s.Boot.Path, s.Boot.Slot = b.Role, b.Path, b.Slot })
}

// selectSlot starts the slot that the journal says, by the firmware or from
// here. It returns only when that is not possible; the keeper then waits for
// somebody who writes a slot.
func (m *Machine) selectSlot() error {
	m.update(func(s *listener.Status) { s.Boot.Role = roleSelector })
	m.log.Printf("selector: the firmware started no slot")
	m.passOnHang()
	k := m.newKeeper(slot.None, false)
	if err := k.Boot(); err != nil {
		return err
	}
	if notice := k.State().Notice; notice != "" {
		return errors.New(notice)
	}
	return errors.New("no slot was started")
}
