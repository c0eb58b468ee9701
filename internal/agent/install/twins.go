package install

import (
	"fmt"
	"os"
	"slices"

	"github.com/ingot-os/ingot/partition/gpt"
)

// Twin says why the plan must not be carried out beside other disks: one of them carries
// the disk GUID, or a partition GUID, that the plan would write once more. A machine with
// two such disks cannot tell them apart, and starts without slots and data; the GUIDs of a
// release are the same wherever it is flashed, so an older disk of the same machine has
// them. A second way to the target itself (multipath) is such a disk. All disks count, removable ones too, but the one that is to be written. Disks that
// cannot be read, or have no table, are passed over, as at the start from a disk.
func (p *Plan) Twin(target Disk, disks []Disk) error {
	for _, d := range disks {
		if d.Node == target.Node {
			continue
		}
		if d.WWID != "" && d.WWID == target.WWID {
			return fmt.Errorf("%s and %s are one disk by two ways (WWID %s), and the machine could not tell them apart at its start: leave one way connected", target.Node, d.Node, d.WWID)
		}
		t, err := readTable(d)
		if err != nil {
			continue
		}
		if what := p.shared(t); what != "" {
			return fmt.Errorf("%s carries %s, which %s would have too, and the machine could not tell them apart: detach it, erase its partition table, or give it other GUIDs (ingot flash --rekey)",
				d, what, target.Node)
		}
	}
	return nil
}

// shared names a GUID that both have.
func (p *Plan) shared(t gpt.Table) string {
	if t.Disk == p.Table.Disk {
		return "the disk GUID " + t.Disk.String()
	}
	for _, x := range t.Partitions {
		if slices.ContainsFunc(p.Table.Partitions, func(own gpt.Partition) bool { return own.GUID == x.GUID }) {
			return "the partition GUID " + x.GUID.String()
		}
	}
	return ""
}

func readTable(d Disk) (gpt.Table, error) {
	f, err := os.Open(d.Node)
	if err != nil {
		return gpt.Table{}, err
	}
	defer f.Close()
	t, _, err := gpt.Read(f, d.Size)
	return t, err
}
