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
		c := n.child("partition", fmt.Sprintf("%d %s", p.Index, p.Name))
		c.add("type", p.Type)
		c.add("guid", p.GUID)
		c.add("start", p.Start)
		c.add("size", p.Size)
		if p.Attributes != 0 {
			c.add("attributes", fmt.Sprintf("%#x", p.Attributes))
		}
	}
	return t.Partitions, nil
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
		in := c.child("state", p.Name)
		in.add("size", p.Size)
		return readState(in, section, p.Size)
	}
	in, err := Reader(section, p.Size, p.Name)
	if err != nil {
		return err
	}
	if in.Kind != "file" { // an unknown content is described by its digest already
		c.Children = append(c.Children, in)
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
	return addTree(n, t, true)
}
