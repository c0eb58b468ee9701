package attest

import (
	"bytes"
	"fmt"

	"github.com/ingot-os/ingot/attest/eventlog"
	"github.com/ingot-os/ingot/boot/efivar"
)

// driverPCRs are where firmware measures drivers: its own, those of option ROMs,
// and with the same event those that a Driver#### variable names (PFP sections
// 3.3.4.1 and 3.3.4.3; EDK2 takes PCR 2 for every driver that is not its own).
const driverPCRs = 4

// Types and subtypes of nodes of a device path (UEFI 2.10 section 10.3).
const (
	nodeHardware, nodeMemoryMapped                                = 1, 3
	nodeMedia, nodeDrive, nodeCD, nodeFVFile, nodeFV, nodeROMPart = 4, 1, 2, 6, 7, 8
)

// drivers looks at the programs that ran before the boot manager. One from a
// disk is refused, whoever let it in. A device path is in no digest, so what the
// log says of the others is no proof: each is reported until an operator, or the
// first trusted verdict, has accepted the register's value.
func (k *check) drivers() {
	var roms []*eventlog.Event // said last: notes are bounded
	for i := range driverPCRs {
		for _, e := range k.events[i] {
			if e.Type != eventlog.BootServicesApp && e.Type != eventlog.BootServicesDrv && e.Type != eventlog.RuntimeDriver {
				continue
			}
			image, err := e.Image()
			switch {
			case err == nil && hasNode(image.Path, nodeMedia, nodeDrive, nodeCD):
				k.at(e, BootEarly, "%s from %.200s, digest %x", e.Type, image.Path, []byte(e.Digest(k.bank)))
			case k.accepted(i):
			case err == nil && ofFirmware(image.Path):
				roms = append(roms, e)
			default:
				k.note(FirmwareForeign, i, "%s, %s, digest %x", e.Type, origin(image.Path, err), []byte(e.Digest(k.bank)))
			}
		}
	}
	for _, e := range roms {
		image, _ := e.Image()
		k.note(FirmwareDriver, int(e.PCR), "%s of %.200s, digest %x", e.Type, image.Path, []byte(e.Digest(k.bank)))
	}
}

// accepted reports whether the register has an accepted value, and this one.
func (k *check) accepted(i int) bool {
	want := k.c.Record.Firmware[k.bank][i]
	return len(want) > 0 && bytes.Equal(want, k.value(i))
}

func origin(p efivar.DevicePath, err error) string {
	switch {
	case err != nil:
		return err.Error()
	case len(p) == 0:
		return "from nowhere that it says"
	}
	return fmt.Sprintf("from %.200s", p)
}

// ofFirmware reports whether a path is that of a firmware volume or of a
// device's option ROM.
func ofFirmware(p efivar.DevicePath) bool {
	if len(p) == 0 {
		return false
	}
	last := p[len(p)-1]
	return last.Type == nodeMedia && (last.SubType == nodeFVFile || last.SubType == nodeFV || last.SubType == nodeROMPart) ||
		last.Type == nodeHardware && last.SubType == nodeMemoryMapped
}

func hasNode(p efivar.DevicePath, typ uint8, subtypes ...uint8) bool {
	for _, n := range p {
		if n.Type == typ && bytes.IndexByte(subtypes, n.SubType) >= 0 {
			return true
		}
	}
	return false
}

// AcceptsFirmware reports whether the firmware of a verdict may be taken as the
// host's own without an operator: the verdict is trusted, and no driver ran that
// came from elsewhere.
func (v *Verdict) AcceptsFirmware() bool {
	for _, n := range v.Notes {
		if n.Code == FirmwareForeign {
			return false
		}
	}
	return v.Trusted
}
