package flash

import (
	"fmt"
	"slices"
)

// Check decides whether an image of imageSize bytes may be written to the
// device. The error is a *RefusedError with every reason. It is a function of
// its arguments alone; Write runs it on facts from Probe, and then opens block
// devices exclusively, so that the kernel has the last word on what is in use.
func Check(d Device, imageSize int64, c Confirm) error {
	var out []Refusal
	refuse := func(r Reason, hint, format string, args ...any) {
		out = append(out, Refusal{r, fmt.Sprintf(format, args...), hint})
	}
	if d.Kind == Partition {
		refuse(NotWhole, fmt.Sprintf("flash the whole disk %s", d.Parent), "%s is a partition", d.Name)
	}
	system := slices.ContainsFunc(d.Uses, Use.system)
	for _, u := range d.Uses {
		switch {
		case system && !u.system(): // one reason is enough, and that disk has dozens of mounts
		case system:
			refuse(System, "", "%s holds %s of the running system", u.Device, u.Where)
		case u.What == "mount":
			refuse(Mounted, "unmount it first", "%s is mounted on %s", u.Device, u.Where)
		case u.What == "swap":
			refuse(Swap, "run swapoff first", "%s is swap space in use", u.Device)
		default:
			refuse(Held, "stop it first (dmsetup, vgchange, mdadm)", "%s is held by %s", u.Device, u.Where)
		}
	}
	if d.ReadOnly {
		refuse(ReadOnly, "look for a write-protect switch", "%s is read-only", d.Name)
	}
	if d.Kind != File && d.SectorSize != 512 && d.SectorSize != 4096 {
		refuse(BadSector, "", "%s has sectors of %d bytes; a partition table can be written for 512 and 4096", d.Name, d.SectorSize)
	}
	if d.Size < imageSize {
		refuse(TooSmall, "", "%s has %d bytes, the image needs %d", d.Name, d.Size, imageSize)
	}
	confirmed := c.Device != "" && (c.Device == d.Path || c.Device == d.Name)
	if d.Kind != File && !d.Removable && !confirmed {
		refuse(NotRemovable, fmt.Sprintf("confirm its exact name: %s", d.Path), "%s is not removable and was not confirmed by name", d.Name)
	}
	if c.Seen != nil {
		if what := d.exchanged(*c.Seen); what != "" {
			refuse(Exchanged, "look which device is which (lsblk), and start again", "%s is another device than was confirmed: %s", d.Path, what)
		}
	}
	if len(out) == 0 {
		return nil
	}
	return &RefusedError{d.Path, out}
}

// system tells the mounts whose disk is never a target from those that only
// have to be undone.
func (u Use) system() bool {
	if u.What != "mount" {
		return false
	}
	switch u.Where {
	case "/", "/boot", "/boot/efi", "/boot/firmware", "/efi", "/usr", "/etc", "/var", "/home", "/nix", "/nix/store":
		return true
	}
	return false
}
