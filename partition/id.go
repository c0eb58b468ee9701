package partition

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/ingot-os/ingot/partition/gpt"
)

// digest hashes a list of strings so that no two lists give the same input:
// each is preceded by its length in 8 bytes, the first says what it is for.
func digest(domain string, fields ...string) [sha256.Size]byte {
	h := sha256.New()
	for _, f := range append([]string{"ingot " + domain}, fields...) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(f)))
		h.Write(n[:])
		h.Write([]byte(f))
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// uuid8 shapes a digest as a version 8 UUID, RFC 9562 section 5.8: 122 bits
// of the hash, version and variant in their places.
func uuid8(sum [sha256.Size]byte) gpt.GUID {
	u := [16]byte(sum[:16])
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return gpt.FromUUID(u)
}

// GUID derives the id of a partition, or of the disk for the role "disk", from
// the appliance name, the layout id and the role.
func GUID(name, layoutID, role string) gpt.GUID {
	return uuid8(digest("guid", name, layoutID, role))
}

// FATSerial derives the volume serial number of a FAT partition. It is never
// 0, which tools show as no serial at all.
func FATSerial(name, layoutID, role string) uint32 {
	sum := digest("fat serial", name, layoutID, role)
	return max(binary.BigEndian.Uint32(sum[:]), 1)
}

// Rekey returns the layout with ids that belong to one machine, so that two
// disks of a release can be told apart in it. Each new GUID is a hash of the
// old one, the role and hostID: a verifier that knows the release and the
// host's record computes the same.
func Rekey(l Layout, hostID string) Layout {
	l.Parts = slices.Clone(l.Parts)
	l.Disk = rekey(l.Disk, "disk", hostID)
	for i, p := range l.Parts {
		l.Parts[i].GUID = rekey(p.GUID, p.Role, hostID)
	}
	return l
}

func rekey(g gpt.GUID, role, hostID string) gpt.GUID {
	return uuid8(digest("host guid", g.String(), role, hostID))
}
