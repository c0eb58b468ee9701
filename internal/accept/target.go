package accept

import (
	"maps"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// Target is the machine that a release is for.
type Target struct {
	Name   string // of the appliance
	Arch   string
	Root   bool // its image has a root partition
	Layout appliance.Layout
	// Size gives the size of a partition in bytes by its role; 0: not known. nil:
	// none is known.
	Size func(role string) int64
}

// TargetOf is the machine that runs an image.
func TargetOf(spec appliance.Spec) *Target {
	return &Target{Name: spec.Name, Arch: spec.Arch, Root: spec.Root != nil, Layout: spec.Layout}
}

const wrongMachine = "look which appliance and version this machine runs: ingot slots HOST"

// Fits says why a release is not for this machine: a *updateapi.Error, or nil.
func (t *Target) Fits(r *Release) error {
	m := r.Manifest
	differs := func(what, want, got string) error {
		return refuse(updateapi.Mismatched, wrongMachine, "%s: the release is for %.100q, this machine is %q", what, got, want)
	}
	switch {
	case m.Name != t.Name:
		return differs("appliance", t.Name, m.Name)
	case m.Arch != t.Arch:
		return differs("architecture", t.Arch, m.Arch)
	case m.Disk.Layout != t.Layout.ID:
		return differs("disk layout", t.Layout.ID, m.Disk.Layout)
	case (m.Root != nil) != t.Root:
		return refuse(updateapi.Mismatched, wrongMachine, "only one of this release and this machine has a root partition")
	case !same(m.Disk.GUID, t.Layout.Disk):
		return differs("disk id", t.Layout.Disk, m.Disk.GUID)
	}
	if err := t.fitPartitions(m); err != nil {
		return err
	}
	return t.fitSizes(r)
}

// fitPartitions compares partition ids, by which init finds its disk. The data
// partition belongs to no layout id: a release without one may run beside it.
func (t *Target) fitPartitions(m *release.Manifest) error {
	left := maps.Clone(t.Layout.Part)
	for _, p := range m.Disk.Partitions {
		if want, ok := left[p.Role]; !ok || !same(want, p.GUID) {
			return refuse(updateapi.Mismatched, wrongMachine, "partition %.40q of the release has id %.40q, here it has %q", p.Role, p.GUID, want)
		}
		delete(left, p.Role)
	}
	delete(left, "data")
	for _, role := range slices.Sorted(maps.Keys(left)) {
		return refuse(updateapi.Mismatched, wrongMachine, "the release has no partition %s", role)
	}
	return nil
}

// fitSizes compares the parts with the machine's partitions: the digest is that
// of a whole partition, so they are as large or they do not fit.
func (t *Target) fitSizes(r *Release) error {
	if t.Size == nil {
		return nil
	}
	for _, p := range parts {
		i := slices.IndexFunc(r.Parts, func(q Part) bool { return q.Name == p.name })
		if i < 0 {
			continue
		}
		for _, role := range p.roles {
			size := t.Size(role)
			if size == 0 {
				return refuse(updateapi.Mismatched, wrongMachine, "the release has a partition %s, and it is not found here", role)
			}
			if size != r.Parts[i].Size {
				return refuse(updateapi.Mismatched, wrongMachine, "%s of the release has %d bytes, here it has %d", role, r.Parts[i].Size, size)
			}
		}
	}
	return nil
}

func same(a, b string) bool { return a != "" && strings.EqualFold(a, b) }
