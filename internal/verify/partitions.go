package verify

import (
	"context"
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/ingot-os/ingot/boot"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/fat"
	"github.com/ingot-os/ingot/partition/tree"
)

// partFacts is what is known of a partition.
type partFacts struct {
	partition.Part
	want     string // digest by the manifest
	sum      string
	nonzero  int64 // offset of the first byte that is not zero, -1: it is empty
	judged   bool  // by the manifest
	intact   bool
	other    string     // name and version of the release that is there instead
	programs []program  // its EFI programs
	tree     *tree.Tree // of an intact FAT volume
}

// checkPartitions hashes every partition that the manifest can judge. On the
// disk of a machine that leaves out state and data.
func (v *verifier) checkPartitions(ctx context.Context, c *Check) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(runtime.GOMAXPROCS(0), 1))
	if v.image.container != nil {
		g.SetLimit(1) // it unpacks one place at a time
	}
	for i, l := range v.layout.Parts {
		p := &partFacts{Part: l, want: v.m.Disk.Partitions[i].SHA256, nonzero: -1}
		v.parts = append(v.parts, p)
		if v.report.Kind == KindDisk && (p.Role == partition.State || p.Role == partition.Data) {
			c.note(p.Role, WhyMachine, "")
			continue
		}
		p.judged = true
		c.Count++
		if p.End() > v.image.size {
			continue
		}
		g.Go(func() (err error) {
			p.sum, p.nonzero, err = sumOf(ctx, v.image.r, p.Start, p.Size)
			p.intact = err == nil && p.sum == p.want
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if v.report.Kind == KindDisk {
		return v.otherReleases(c)
	}
	return nil
}

// part returns what is known of a partition; nil when the disk has none.
func (v *verifier) part(role string) *partFacts {
	i := slices.IndexFunc(v.parts, func(p *partFacts) bool { return p.Role == role })
	if i < 0 {
		return nil
	}
	return v.parts[i]
}

// rootOf is the payload that a slot boots.
var rootOf = map[string]string{partition.SlotA: partition.RootA, partition.SlotB: partition.RootB}

// otherReleases finds boot partitions of a machine's disk that hold another
// release than the manifest's, and takes them out of the judgement. At least
// one that the machine can boot must be the manifest's.
func (v *verifier) otherReleases(c *Check) error {
	intact := false
	for _, role := range []string{partition.ESP, partition.SlotA, partition.SlotB} {
		p := v.part(role)
		if p == nil || p.intact {
			intact = intact || p != nil && p.nonzero >= 0
			continue
		}
		if p.other, p.programs = v.releaseIn(p.Part); p.other == "" {
			continue
		}
		for _, out := range []*partFacts{p, v.part(rootOf[role])} {
			if out != nil {
				out.judged, out.other = false, p.other
				c.Count--
				c.note(out.Role, WhyOtherSlot, p.other)
			}
		}
	}
	if !intact {
		c.refuse(DiskRelease, at(v.image.name), v.m.Stem(), v.part(partition.SlotA).other)
	}
	return nil
}

// releaseIn finds the UKI on a FAT volume and names its release, when it is
// another than the manifest's: one of the same name and version is damaged
// instead. It returns all EFI programs of the volume: firmware need not start
// the one that has the name.
func (v *verifier) releaseIn(p partition.Part) (string, []program) {
	if p.End() > v.image.size {
		return "", nil
	}
	volume, err := fat.Open(v.section(p), p.Size)
	if err != nil {
		return "", nil
	}
	t, err := volume.Tree()
	if err != nil {
		return "", nil
	}
	release, list := "", []program(nil)
	for _, n := range t.Nodes() {
		s, ok := n.Content.(tree.Section)
		if !ok || !isProgram(readerOf(s)) {
			continue
		}
		list = append(list, program{r: readerOf(s), size: s.N, place: at(v.image.name, p.Role, n.Path), other: true})
		info, err := boot.Inspect(readerOf(s), s.N)
		if release != "" || err != nil || info.Problem != "" || info.OS.ImageID == "" {
			continue
		}
		if info.OS.ImageID != v.m.Name || info.OS.ImageVersion != v.m.Version {
			release = info.OS.ImageID + "-" + info.OS.ImageVersion
		}
	}
	if release == "" {
		return "", nil
	}
	return release, list
}

// explainPartitions refuses what differs and names the place as exactly as
// there is something intact to compare with.
func (v *verifier) explainPartitions(c *Check) error {
	for _, p := range v.parts {
		switch {
		case !p.judged || p.intact:
		case p.End() > v.image.size:
			c.refuse(DiskSize, at(v.image.name, p.Role), fmt.Sprint(v.layout.Size), fmt.Sprint(v.image.size))
		default:
			path, off, err := v.placeInPartition(p)
			if err != nil {
				return err
			}
			place := at(v.image.name, append([]string{p.Role}, path...)...)
			if off >= 0 {
				place = place.byte(p.Start + off)
			}
			c.refuse(PartitionDigest, place, p.want, p.sum)
		}
	}
	return nil
}
