package inspect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"time"

	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/partition/tree"
)

// maxDocument bounds manifests and locks.
const maxDocument = 64 << 20

func readAll(r io.ReaderAt, size int64) ([]byte, error) {
	if size > maxDocument {
		return nil, fmt.Errorf("%d bytes, at most %d are read", size, maxDocument)
	}
	return io.ReadAll(io.NewSectionReader(r, 0, size))
}

func readManifest(n *Node, r io.ReaderAt, size int64) error {
	data, err := readAll(r, size)
	if err != nil {
		return err
	}
	m, err := release.Parse(data)
	if err != nil {
		return err
	}
	n.add("name", m.Name)
	n.add("version", m.Version)
	n.add("arch", m.Arch)
	n.add("epoch", date(m.Epoch))
	n.add("security epoch", m.SecurityEpoch)
	if m.DataAccepts > 0 {
		n.add("data schema", m.DataSchema)
		n.add("data accepts", m.DataAccepts)
	}
	n.add("build", m.Build)
	n.add("cmdline", m.Cmdline)
	n.add("ingot", m.Tools.Ingot)
	n.add("ingot-init", m.Tools.Init)
	n.add("go", m.Tools.Go)
	for _, f := range m.Files {
		c := n.child("file", f.Name)
		c.add("size", f.Size)
		c.add("sha256", f.SHA256)
	}
	for _, p := range m.Disk.Partitions {
		c := n.child("file", fmt.Sprintf("partition %d %s", p.Index, p.Role))
		c.add("start", p.Start)
		c.add("size", p.Size)
		c.add("guid", p.GUID)
		c.add("sha256", p.SHA256)
	}
	for _, in := range m.Inputs {
		c := n.child("input", in.Name)
		c.add("version", in.Version)
		c.add("sha256", in.SHA256)
	}
	return nil
}

func readLock(n *Node, r io.ReaderAt, size int64) error {
	data, err := readAll(r, size)
	if err != nil {
		return err
	}
	l, err := lock.Parse("lock", data)
	if err != nil {
		return err
	}
	n.add("name", l.Name)
	n.add("version", l.Version)
	n.add("arch", l.Arch)
	n.add("epoch", date(l.Epoch))
	n.add("recipe", l.Recipe)
	n.add("go", l.Go)
	n.add("format", l.Ingot.Format)
	n.add("ingot-init", l.Ingot.Init)
	for _, in := range l.Inputs {
		c := n.child("input", in.Name)
		var fields map[string]any
		raw, err := json.Marshal(in)
		if err != nil {
			return err
		}
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.UseNumber() // a size as float64 would print as 1.2e+07
		if err := dec.Decode(&fields); err != nil {
			return err
		}
		for _, k := range []string{"kind", "package", "version", "arch", "suite", "pocket", "via", "path", "size", "sha256"} {
			if v, ok := fields[k]; ok {
				c.add(k, v)
			}
		}
	}
	return nil
}

// addConfiguration shows what the machine is told (package appliance) as one
// field for each value: "services[0].command".
func addConfiguration(n *Node, e *tree.Node) error {
	r, err := e.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	if err := addJSON(n.child("configuration", path.Base(e.Path)), io.LimitReader(r, maxDocument)); err != nil {
		return fmt.Errorf("parse configuration: %w", err)
	}
	return nil
}

func date(epoch int64) string { return time.Unix(epoch, 0).UTC().Format(time.RFC3339) }
