package verify

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"

	"github.com/ingot-os/ingot/internal/sbom"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/fat"
	"github.com/ingot-os/ingot/partition/tree"
)

// contents is what was read again out of the image, by the partition names of
// the SBOM. A partition that could not be read is missing.
type contents map[string]map[string]content

// content is one name of a regular file.
type content struct {
	size   int64
	sha256 string
	leader string // the name that has the content; others are hard links to it
	shared string // the least of the names of a file that has several
}

func (c contents) merge(more contents) { maps.Copy(c, more) }

// add hashes the regular files of a tree. Hard links are one file.
func (c contents) add(ctx context.Context, name string, t *tree.Tree) error {
	files := map[string]content{}
	var links []*tree.Node
	for _, n := range t.Nodes() {
		switch {
		case !n.Mode.IsRegular():
		case n.Link != "":
			links = append(links, n)
		default:
			sum, err := sumNode(ctx, n)
			if err != nil {
				return fmt.Errorf("read %s: %w", n.Path, err)
			}
			files[n.Path] = content{size: n.Size(), sha256: sum, leader: n.Path}
		}
	}
	for _, n := range links {
		f := files[n.Link]
		f.shared = min(n.Path, cmp.Or(f.shared, n.Link))
		files[n.Link] = f
	}
	for _, n := range links {
		files[n.Path] = files[n.Link]
	}
	c[name] = files
	return nil
}

func sumNode(ctx context.Context, n *tree.Node) (string, error) {
	r, err := n.Open()
	if err != nil {
		return "", err
	}
	defer r.Close()
	return sumReader(ctx, r)
}

// readerOf is random access to a part of a file.
func readerOf(s tree.Section) *io.SectionReader { return io.NewSectionReader(s.R, s.Off, s.N) }

// readVolumes reads ESP and slots that are what the manifest says.
func (v *verifier) readVolumes(c *Check) error {
	for _, role := range []string{partition.ESP, partition.SlotA, partition.SlotB} {
		p := v.part(role)
		if p == nil || !p.intact {
			continue
		}
		if p.nonzero < 0 {
			v.found[role] = nil
			continue
		}
		if err := v.readVolume(c, p); err != nil {
			return err
		}
	}
	return nil
}

// readVolume reads one; equal volumes, as both slots are, only once.
func (v *verifier) readVolume(c *Check, p *partFacts) error {
	volume, err := fat.Open(v.section(p.Part), p.Size)
	if err == nil {
		p.tree, err = volume.Tree()
	}
	if err != nil {
		c.malformed(PartitionFormat, at(v.image.name, p.Role), err)
		return nil
	}
	for _, q := range v.parts {
		if q != p && q.tree != nil && q.sum == p.sum && v.found[q.Role] != nil {
			v.found[p.Role] = v.found[q.Role]
			return nil
		}
	}
	return v.found.add(v.ctx, p.Role, p.tree)
}

// checkSBOM compares the SBOM with what was read: every file of every partition
// belongs to exactly one component, with its size and digest.
func (v *verifier) checkSBOM(c *Check) error {
	data, why, err := v.document(sbom.CycloneDXName)
	if err != nil {
		return err
	}
	if data == nil {
		c.skip(why)
		return nil
	}
	list, err := sbom.Parse(data)
	if err != nil {
		c.malformed(SBOMMalformed, at(sbom.CycloneDXName), err)
		return nil
	}
	m := v.m
	for _, f := range []struct{ field, want, got string }{
		{"name", m.Name, list.Name}, {"version", m.Version, list.Version}, {"arch", m.Arch, list.Arch}, {"build", m.Build, list.Build},
		{"epoch", fmt.Sprint(m.Epoch), fmt.Sprint(list.Epoch)}, {"ingot", m.Tools.Ingot, list.Ingot},
	} {
		c.differ(SBOMIdentity, at(sbom.CycloneDXName, f.field), f.want, f.got)
	}
	v.judgeInventory(c, list)
	return nil
}

// judgeInventory counts each file that was read down to its one component.
func (v *verifier) judgeInventory(c *Check, list *sbom.Inventory) {
	owner := map[string]string{} // partition:path → component
	copies := map[string]bool{}  // partition:digest of what is listed
	noted := map[string]bool{}
	for i := range list.Components {
		for _, f := range list.Components[i].Files {
			files, read := v.found[f.Partition]
			if !read {
				if !noted[f.Partition] {
					c.note(f.Partition, v.whyUnread(f.Partition), "")
				}
				noted[f.Partition] = true
				continue
			}
			copies[f.Partition+":"+f.SHA256] = true
			judgeFile(c, f, list.Components[i].Ref, files, owner)
		}
	}
	for _, name := range sorted(v.found) {
		for _, path := range sorted(v.found[name]) {
			f := v.found[name][path]
			if f.leader != path || owner[name+":"+path] != "" || v.mayCopy(name) && copies[name+":"+f.sha256] {
				continue
			}
			c.refuse(SBOMFiles, at(sbom.CycloneDXName, name, path), "one component", "none")
		}
	}
	if c.Count == 0 && c.State == Passed {
		c.skip(v.nothing())
	}
}

func judgeFile(c *Check, f sbom.Content, ref string, files map[string]content, owner map[string]string) {
	place := at(sbom.CycloneDXName, f.Partition, f.Path)
	have, ok := files[f.Path]
	key := f.Partition + ":" + have.leader
	switch {
	case !ok:
		c.refuse(SBOMFiles, place, "sha256 "+f.SHA256, "no such file")
		return
	case owner[key] != "":
		c.refuse(SBOMFiles, place, "one component", owner[key]+", "+ref)
		return
	}
	owner[key] = ref
	c.Count++
	c.differ(SBOMFiles, place, "sha256 "+f.SHA256, "sha256 "+have.sha256)
	c.differ(SBOMFiles, place, fmt.Sprint(f.Size), fmt.Sprint(have.size))
}

// mayCopy tells whether a partition may hold copies of files in place of hard
// links, as erofs makes them (package erofs, CopyLinks).
func (v *verifier) mayCopy(name string) bool {
	return v.m.Root != nil && v.m.Root.Format == "erofs" && (name == partition.RootA || name == partition.RootB)
}

// whyUnread says why a partition of the SBOM was not read.
func (v *verifier) whyUnread(name string) Why {
	p := v.part(name)
	switch {
	case v.image == nil:
		return WhyNoImage
	case p != nil && !p.judged:
		return WhyOtherSlot
	}
	return WhyRefused
}

// sectionOf is random access to a file of a volume. Files of a volume that is
// as it was written are in one piece; others are read whole.
func sectionOf(n *tree.Node) (*io.SectionReader, error) {
	if s, ok := n.Content.(tree.Section); ok {
		return readerOf(s), nil
	}
	r, err := n.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxLoose))
	return io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data))), err
}

// maxLoose bounds what is read of a file in pieces, in bytes.
const maxLoose = 64 << 20
