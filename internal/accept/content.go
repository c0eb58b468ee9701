package accept

import (
	"encoding/hex"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// parts are the contents of a release, in the order in which they are written:
// the slot is last, because what makes it start is its first 4 KiB.
var parts = []struct {
	name  string
	roles [2]string // of both slots
}{
	{updateapi.PartRoot, [2]string{"root-a", "root-b"}},
	{updateapi.PartSlot, [2]string{"slot-a", "slot-b"}},
}

// Role is the partition of a part that belongs to a slot: "root-b".
func Role(part string, s slot.Slot) string { return part + "-" + string(rune(s)) }

// fill takes parts and content from the manifest.
func (r *Release) fill() error {
	m := r.Manifest
	if !printable(m.Version) {
		return refuse(updateapi.Malformed, "", "version %.64q is not 1 to %d printable characters", m.Version, slot.MaxVersion)
	}
	r.Content = slot.Content{Version: m.Version, Epoch: uint32(m.SecurityEpoch), Schema: uint16(m.DataSchema), Accepts: uint16(m.DataAccepts)}
	for _, p := range parts {
		part, found, err := read(m, p.roles)
		if err != nil {
			return err
		}
		if !found {
			continue
		}
		part.Name = p.name
		r.Parts = append(r.Parts, part)
		if p.name == updateapi.PartRoot {
			r.Content.Root = part.SHA256
		} else {
			r.Content.Image = part.SHA256
		}
	}
	root := r.Content.Root != (slot.Digest{})
	switch {
	case r.Content.Image == slot.Digest{}:
		return refuse(updateapi.Malformed, "", "the manifest has no slots")
	case root != (m.Root != nil):
		return refuse(updateapi.Malformed, "", "the manifest has a root or its partitions, but not both")
	}
	return nil
}

// read looks for the two partitions of a part, which must be alike: what is
// written to one slot today goes to the other tomorrow.
func read(m *release.Manifest, roles [2]string) (p Part, found bool, err error) {
	var both [2]*release.Partition
	for i := range m.Disk.Partitions {
		for k, role := range roles {
			if m.Disk.Partitions[i].Role != role {
				continue
			}
			if both[k] != nil {
				return p, false, refuse(updateapi.Malformed, "", "the manifest has two partitions %s", role)
			}
			both[k] = &m.Disk.Partitions[i]
		}
	}
	a, b := both[0], both[1]
	switch {
	case a == nil && b == nil:
		return p, false, nil
	case a == nil || b == nil:
		return p, false, refuse(updateapi.Malformed, "", "the manifest has only one of %s and %s", roles[0], roles[1])
	case a.SHA256 != b.SHA256 || a.Size != b.Size:
		return p, false, refuse(updateapi.Malformed, "", "%s and %s differ", roles[0], roles[1])
	case a.Size < slot.HeaderSize || a.Size%slot.HeaderSize != 0:
		return p, false, refuse(updateapi.Malformed, "", "%s has %d bytes, want a multiple of %d", roles[0], a.Size, slot.HeaderSize)
	}
	sum, err := hex.DecodeString(a.SHA256)
	if err != nil || len(sum) != len(p.SHA256) {
		return p, false, refuse(updateapi.Malformed, "", "digest of %s: %.80q is no SHA-256", roles[0], a.SHA256)
	}
	p.Size, p.SHA256 = a.Size, slot.Digest(sum)
	return p, true, nil
}

func printable(s string) bool {
	for _, r := range s {
		if r < ' ' || r > '~' {
			return false
		}
	}
	return s != "" && len(s) <= slot.MaxVersion
}
