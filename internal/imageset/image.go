package imageset

import (
	"cmp"
	"fmt"
	"io"
	"os"

	"golang.org/x/sync/errgroup"

	"github.com/ingot-os/ingot/boot"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/fat"
	"github.com/ingot-os/ingot/partition/tree"
)

// WriteImage writes the raw disk: GPT, ESP, both slots with the same UKI (S9),
// both roots. State and data are left empty for the machine to fill. It
// describes in the manifest what it read back, runs beside on another
// processor, and returns the SHA-256 of the disk in hex.
func (d *Draft) WriteImage(beside ...func() error) (string, error) {
	contents, err := d.contents()
	if err != nil {
		return "", err
	}
	f, err := os.OpenFile(d.path(".img"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if err := f.Truncate(d.Layout.Size); err != nil {
		return "", fmt.Errorf("size image: %w", err)
	}
	if err := d.Layout.Table().Write(f); err != nil {
		return "", err
	}
	var described errgroup.Group // on the processor that the whole disk's digest leaves free
	described.Go(d.describeUKI)
	described.Go(d.predict)
	for _, do := range beside {
		described.Go(do)
	}
	digests, whole, err := hashDisk(f, d.Layout, func(done func(partition.Part)) error {
		return partition.Fill(f, d.Layout, contents, done)
	})
	if err := cmp.Or(err, described.Wait()); err != nil {
		return "", err
	}
	d.describeDisk(digests)
	d.addFile(release.File{Name: d.Manifest.Stem() + ".efi", Size: d.UKI.Size(), SHA256: d.UKI.SHA256()})
	d.addFile(release.File{Name: d.Manifest.Stem() + ".img", Size: d.Layout.Size, SHA256: whole})
	return whole, f.Close()
}

// addFile puts a file of the set into the manifest, in place of an older entry
// of that name.
func (d *Draft) addFile(f release.File) {
	for i := range d.Manifest.Files {
		if d.Manifest.Files[i].Name == f.Name {
			d.Manifest.Files[i] = f
			return
		}
	}
	d.Manifest.Files = append(d.Manifest.Files, f)
}

func (d *Draft) contents() (map[string]partition.Content, error) {
	c := map[string]partition.Content{}
	var err error
	if c[partition.ESP], err = d.fat(partition.ESP, partition.ESP, d.ESP); err != nil {
		return nil, fmt.Errorf("esp: %w", err)
	}
	if d.Slot != nil {
		// One serial for both slots, so that slot A and slot B are the same bytes.
		slot, err := d.fat("slot", partition.SlotA, d.Slot)
		if err != nil {
			return nil, fmt.Errorf("slot: %w", err)
		}
		c[partition.SlotA], c[partition.SlotB] = slot, slot
	}
	if d.Root != nil {
		c[partition.RootA] = partition.Blob(d.Root)
		c[partition.RootB] = partition.Blob(d.Root)
	}
	return c, nil
}

// fat plans the volume of a role for the partition at.
func (d *Draft) fat(role, at string, t *tree.Tree) (partition.Content, error) {
	p, _ := d.Layout.Part(at)
	m := &d.Manifest
	img, err := fat.Plan(t, fat.Options{
		Size: p.Size, Epoch: m.Epoch, Label: fatLabel(role), Serial: partition.FATSerial(m.Name, d.Layout.ID, role),
	})
	if err != nil {
		return nil, err
	}
	return partition.ContentFunc(func(w io.WriterAt, _ int64) error { return img.Write(w) }), nil
}

func fatLabel(role string) string {
	if role == partition.ESP {
		return "ESP"
	}
	return "SLOT"
}

func (d *Draft) describeDisk(digests map[int]string) {
	l := d.Layout
	disk := release.Disk{Layout: l.ID, SectorSize: l.SectorSize, Size: l.Size, GUID: l.Disk.String()}
	for _, p := range l.Parts {
		disk.Partitions = append(disk.Partitions, release.Partition{
			Index: p.Index, Role: p.Role, Type: p.Type.String(), GUID: p.GUID.String(), Start: p.Start, Size: p.Size, SHA256: digests[p.Index],
		})
	}
	d.Manifest.Disk = disk
}

// describeUKI reads the finished UKI with the reader that everyone uses.
func (d *Draft) describeUKI() error {
	f, err := os.Open(d.path(".efi"))
	if err != nil {
		return err
	}
	defer f.Close()
	uki, err := boot.Inspect(f, d.UKI.Size())
	if err != nil {
		return err
	}
	d.Manifest.Sections = nil
	for _, s := range uki.Sections {
		d.Manifest.Sections = append(d.Manifest.Sections, release.Part{Name: s.Name, Offset: s.Offset, Size: s.Size, SHA256: s.SHA256})
	}
	return nil
}
