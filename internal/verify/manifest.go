package verify

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/gpt"
	"github.com/ingot-os/ingot/partition/verity"
)

// checkManifest parses the manifest and compares it with itself: what it says
// of the disk must be a disk that ingot makes.
func (v *verifier) checkManifest() bool {
	c := v.begin(CheckManifest)
	m, err := release.Parse(v.raw)
	if err != nil {
		c.malformed(ManifestMalformed, at(release.ManifestName), err)
		return false
	}
	again, err := m.Marshal()
	if err != nil {
		c.malformed(ManifestMalformed, at(release.ManifestName), err)
		return false
	}
	if off := firstDifference(again, v.raw); off >= 0 {
		c.refuse(ManifestMalformed, at(release.ManifestName).byte(off), "the encoding that ingot writes", "another one")
		return false
	}
	v.m, c.Count = m, 1
	v.report.Name, v.report.Version, v.report.Build = m.Name, m.Version, m.Build
	v.judgeNames(c)
	v.judgeDisk(c)
	v.judgeRoot(c)
	v.judgeCmdline(c)
	return c.State == Passed
}

func inManifest(path ...string) Place { return at(release.ManifestName, path...) }

// maxDocument bounds the documents of a set, which are read into memory, in bytes.
const maxDocument = 256 << 20

// judgeNames demands the files that every set has, each name once.
func (v *verifier) judgeNames(c *Check) {
	seen := map[string]bool{}
	for _, f := range v.m.Files {
		switch {
		case seen[f.Name] || f.Name == release.ManifestName || f.Name == release.EnvelopeName || strings.HasPrefix(f.Name, "."):
			c.refuse(ManifestInconsistent, inManifest("files", f.Name), "names that are there once", "")
		case f.Size < 0 || len(f.SHA256) != 64:
			c.refuse(ManifestInconsistent, inManifest("files", f.Name), "a size and a SHA-256", "")
		}
		small := strings.HasSuffix(f.Name, ".json") || strings.HasSuffix(f.Name, release.PolicySuffix)
		if small && f.Size > maxDocument {
			c.refuse(ManifestInconsistent, inManifest("files", f.Name, "size"), fmt.Sprintf("at most %d", maxDocument), fmt.Sprint(f.Size))
		}
		seen[f.Name] = true
	}
	need := append([]string{v.m.Stem() + ".efi", v.m.Stem() + ".img"}, documents...)
	if v.m.Root != nil {
		need = append(need, v.m.Stem()+".root")
	}
	if len(v.m.PolicyKey) > 0 {
		need = append(need, v.m.Stem()+release.PolicySuffix)
	}
	for _, name := range need {
		if !seen[name] {
			c.refuse(ManifestInconsistent, inManifest("files"), name, "no such file")
		}
	}
}

// judgeDisk turns the disk into a layout, which must be one of ingot's with
// the GUIDs that its name gives.
func (v *verifier) judgeDisk(c *Check) {
	d := v.m.Disk
	l, err := layoutOf(d)
	if err == nil {
		_, err = partition.FromTable(l.Table())
	}
	if err != nil {
		c.malformed(ManifestInconsistent, inManifest("disk"), err)
		return
	}
	c.differ(ManifestInconsistent, inManifest("disk", "guid"), partition.GUID(v.m.Name, d.Layout, "disk").String(), d.GUID)
	size := map[string]int64{}
	for _, p := range d.Partitions {
		size[p.Role] = p.Size
		c.differ(ManifestInconsistent, inManifest("disk", p.Role, "guid"), partition.GUID(v.m.Name, d.Layout, p.Role).String(), p.GUID)
		if len(p.SHA256) != 64 {
			c.refuse(ManifestInconsistent, inManifest("disk", p.Role, "sha256"), "a SHA-256", p.SHA256)
		}
	}
	id := partition.LayoutID(partition.Spec{ESP: size[partition.ESP], Slot: size[partition.SlotA], Root: size[partition.RootA], State: size[partition.State]})
	c.differ(ManifestInconsistent, inManifest("disk", "layout"), id, d.Layout)
	if i, ok := v.fileEntry(".img"); ok && i.Size != d.Size {
		c.refuse(ManifestInconsistent, inManifest("files", i.Name, "size"), fmt.Sprint(d.Size), fmt.Sprint(i.Size))
	}
	v.layout = l
}

func layoutOf(d release.Disk) (partition.Layout, error) {
	l := partition.Layout{ID: d.Layout, SectorSize: d.SectorSize, Size: d.Size}
	var err error
	if l.Disk, err = gpt.ParseGUID(d.GUID); err != nil {
		return l, err
	}
	for _, p := range d.Partitions {
		q := partition.Part{Index: p.Index, Role: p.Role, Name: p.Role, Start: p.Start, Size: p.Size}
		if q.Type, err = gpt.ParseGUID(p.Type); err != nil {
			return l, err
		}
		if q.GUID, err = gpt.ParseGUID(p.GUID); err != nil {
			return l, err
		}
		l.Parts = append(l.Parts, q)
	}
	return l, nil
}

// judgeRoot demands a root payload that fits its partition.
func (v *verifier) judgeRoot(c *Check) {
	r := v.m.Root
	if r == nil {
		return
	}
	p, ok := v.layout.Part(partition.RootA)
	switch {
	case !ok:
		c.refuse(ManifestInconsistent, inManifest("root"), "a partition "+partition.RootA, "none")
	case r.DataSize <= 0 || r.DataSize%verity.BlockSize != 0 || r.HashStart != r.DataSize || r.HashStart >= p.Size:
		c.refuse(ManifestInconsistent, inManifest("root", "hashStart"), "whole blocks within the partition", fmt.Sprint(r.HashStart))
	case len(r.RootHash) != 64:
		c.refuse(ManifestInconsistent, inManifest("root", "rootHash"), "a SHA-256", r.RootHash)
	}
}

// judgeCmdline: what the kernel is told names the same build and root.
func (v *verifier) judgeCmdline(c *Check) {
	root := ""
	if v.m.Root != nil {
		root = v.m.Root.RootHash
	}
	words := map[string]string{"ingot.build=": v.m.Build, "ingot.roothash=": root}
	for _, word := range sorted(words) {
		want := words[word]
		var got []string
		for _, w := range strings.Fields(v.m.Cmdline) {
			if value, ok := strings.CutPrefix(w, word); ok {
				got = append(got, value)
			}
		}
		if want == "" && len(got) == 0 {
			continue
		}
		if !slices.Equal(got, []string{want}) {
			c.refuse(ManifestInconsistent, inManifest("cmdline", word), want, strings.Join(got, " "))
		}
	}
}

// fileEntry is a file of the manifest by what follows NAME-VERSION.
func (v *verifier) fileEntry(suffix string) (release.File, bool) { return v.entry(v.m.Stem() + suffix) }

func (v *verifier) entry(name string) (release.File, bool) {
	i := slices.IndexFunc(v.m.Files, func(f release.File) bool { return f.Name == name })
	if i < 0 {
		return release.File{}, false
	}
	return v.m.Files[i], true
}
