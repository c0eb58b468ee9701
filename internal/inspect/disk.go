package inspect

import (
	"fmt"
	"io"

	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/fat"
	"github.com/ingot-os/ingot/partition/gpt"
)

func readDisk(n *Node, r io.ReaderAt, size int64) error {
	parts, err := readTable(n, r, size)
	if err != nil {
		return err
	}
	for i, p := range parts {
		c := n.Children[i]
		if err := addDigest(c, r, p); err != nil {
			c.add("problem", err)
		} else if err := readPartition(c, r, p); err != nil {
			c.add("problem", err)
		}
	}
	return nil
}

// readTable adds a child for each partition, without what is in it.
func readTable(n *Node, r io.ReaderAt, size int64) ([]gpt.Partition, error) {
	t, info, err := gpt.Read(r, size)
	if err != nil {
		return nil, err
	}
	n.add("sector size", t.SectorSize)
	n.add("disk guid", t.Disk)
	if info.FromBackup {
		n.add("problem", fmt.Sprintf("primary partition table: %v", info.Primary))
	}
	if info.Backup != nil {
		n.add("problem", fmt.Sprintf("backup partition table: %v", info.Backup))
	}
	if l, err := partition.Read(r, size); err == nil {
		n.add("layout", l.ID)
		n.add("picture", "\n"+partition.Picture(l, 76))
	}
	for _, p := range t.Partitions {
		c := n.child("partition", fmt.Sprintf("%d %s", p.Index, p.Name)).placed(p.Start, p.Size)
		c.add("type", p.Type)
		c.add("guid", p.GUID)
		c.add("start", p.Start)
		c.add("size", p.Size)
		if p.Attributes != 0 {
			c.add("attributes", fmt.Sprintf("%#x", p.Attributes))
		}
	}
	n.tableRegions(t)
	return t.Partitions, nil
}

// tableRegions names what lies around the partitions (UEFI 5.2 and 5.3): in
// each copy of the table the header, 16 KiB of entries, and what is left.
func (n *Node) tableRegions(t gpt.Table) {
	const entries = 16 << 10
	sector := int64(t.SectorSize)
	n.region(0, sector, "protective MBR")
	n.region(sector, 2*sector+entries, "primary partition table")
	n.region(t.Size-sector-entries, t.Size, "backup partition table")
	n.region(0, t.Size, "space outside of partitions")
}

// addDigest adds the digest of a partition that is not empty.
func addDigest(c *Node, r io.ReaderAt, p gpt.Partition) error {
	empty, err := allZero(r, p.Start, p.Size)
	if err != nil || empty {
		return err
	}
	sum, err := digestRange(r, p.Start, p.Size)
	c.add("sha256", sum)
	return err
}

func readPartition(c *Node, r io.ReaderAt, p gpt.Partition) error {
	empty, err := allZero(r, p.Start, p.Size)
	if err != nil {
		return err
	}
	if empty {
		c.add("content", "empty")
		return nil
	}
	section := io.NewSectionReader(r, p.Start, p.Size)
	if p.Name == partition.State {
		// A region map whose first region is empty begins with zeros.
		in := c.child("state", p.Name).placed(0, p.Size)
		in.add("size", p.Size)
		return readState(in, section, p.Size)
	}
	in, err := Reader(section, p.Size, p.Name)
	if err != nil {
		return err
	}
	if in.Kind != "file" { // an unknown content is described by its digest already
		c.Children = append(c.Children, in.placed(0, p.Size))
	}
	return nil
}

func readFAT(n *Node, r io.ReaderAt, size int64) error {
	v, err := fat.Open(r, size)
	if err != nil {
		return err
	}
	info := v.Info()
	n.add("serial", info.Serial)
	n.add("label", info.Label)
	n.add("oem", info.OEM)
	n.add("cluster size", info.ClusterSize)
	n.add("clusters", info.Clusters)
	n.add("free clusters", info.FreeClusters)
	t, err := v.Tree()
	if err != nil {
		return err
	}
	if err := addTree(n, t, true); err != nil {
		return err
	}
	for _, c := range n.Children {
		e := v.Entries()[c.Name]
		c.detail("write time", e.Written)
		c.detail("creation time", e.Created)
		c.detail("access date", e.Accessed)
		c.detail("attributes", fmt.Sprintf("%#02x", e.Attributes))
		c.detail("first cluster", e.Cluster)
	}
	fatRegions(n, info)
	return nil
}

// fatRegions names what lies around files: after each the rest of its last
// cluster, before all of them the tables.
func fatRegions(n *Node, info fat.Info) {
	table := int64(info.ReservedSectors) * int64(info.SectorSize)
	data := table + int64(info.FATs)*int64(info.FATSectors)*int64(info.SectorSize)
	cluster := int64(info.ClusterSize)
	n.region(0, table, "reserved sectors")
	n.region(table, data, "file allocation table")
	for _, c := range n.Children {
		if c.end > 0 {
			n.region(c.end, data+(c.end-data+cluster-1)/cluster*cluster, "padding after file "+c.Name)
		}
	}
	n.region(data, info.Size, "clusters of no file")
	n.region(info.Size, 1<<62, "padding after the volume")
}
