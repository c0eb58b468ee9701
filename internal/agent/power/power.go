// Package power waits for the power button, and ends the machine. ACPI machines, the common case,
// report it as a generic netlink event of the kernel's button driver
// (drivers/acpi/event.c, family "acpi_event"): that needs only button.ko, where
// an input device would need evdev.ko and a search among keyboards.
package power

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	family    = "acpi_event"
	attrEvent = 1 // ACPI_GENL_ATTR_EVENT
	class     = "button/power"
)

// Buttons is an open subscription.
type Buttons struct{ f *os.File }

// Listen subscribes. The family exists in every kernel with ACPI; without one
// (device tree machines) this is an error and there is no button.
func Listen() (*Buttons, error) {
	fam, err := netlink.GenlFamilyGet(family)
	if err != nil {
		return nil, fmt.Errorf("find netlink family %s: %w", family, err)
	}
	if len(fam.Groups) == 0 {
		return nil, fmt.Errorf("find netlink family %s: it has no group", family)
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_GENERIC)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, int(fam.Groups[0].ID))
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("join %s: %w", family, err)
	}
	return &Buttons{os.NewFile(uintptr(fd), family)}, nil
}

// Run calls pressed for each press of the power button until the context ends.
func (b *Buttons) Run(ctx context.Context, pressed func()) error {
	stop := context.AfterFunc(ctx, func() { b.f.Close() })
	defer stop()
	buf := make([]byte, 8<<10)
	for {
		n, err := b.f.Read(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read acpi event: %w", err)
		}
		if isPower(buf[:n]) {
			pressed()
		}
	}
}

// isPower reads one netlink message: nlmsghdr (16 bytes), genlmsghdr (4), one
// nlattr (4: length, type) and struct acpi_genl_event, which starts with the
// NUL-padded device class of 20 bytes.
func isPower(msg []byte) bool {
	const attr, event, classLen = 16 + 4, 16 + 4 + 4, 20
	if len(msg) < event+classLen || binary.NativeEndian.Uint16(msg[attr+2:]) != attrEvent {
		return false
	}
	name, _, _ := bytes.Cut(msg[event:event+classLen], []byte{0})
	return string(name) == class
}
