package build

import (
	"cmp"
	"context"
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

// stateSize is p6, the region map of S13.
const stateSize = 16 << 20

// planLayout fixes the disk before anything is written, because the machine's
// configuration inside the UKI names the partitions.
func (b *builder) planLayout(context.Context, *Step) error {
	d := b.o.Recipe.Disk
	spec := partition.Spec{
		Name: b.o.Lock.Name, SectorSize: d.Sector,
		ESP: int64(d.ESP), Slot: int64(d.Slot), State: stateSize, Data: int64(b.o.Recipe.Data.Size),
	}
	if b.root != nil {
		spec.Root = int64(d.Root)
	}
	var err error
	b.layout, err = partition.Plan(spec)
	return err
}

// writeImage writes the raw disk: GPT, ESP, both slots with the same UKI (S9),
// both roots. State and data are left empty for the machine to fill.
func (b *builder) writeImage(ctx context.Context, st *Step) error {
	contents, err := b.contents(ctx)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(b.staged(".img"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(b.layout.Size); err != nil {
		return fmt.Errorf("size image: %w", err)
	}
	if err := b.layout.Table().Write(f); err != nil {
		return err
	}
	var described errgroup.Group // on the processor that the whole disk's digest leaves free
	described.Go(b.describeSections)
	described.Go(b.describeContents)
	digests, whole, err := hashDisk(f, b.layout, func(done func(partition.Part)) error {
		return partition.Fill(f, b.layout, contents, done)
	})
	if err := cmp.Or(err, described.Wait()); err != nil {
		return err
	}
	b.describeDisk(digests)
	st.Out = whole
	b.manifest.Files = append(b.manifest.Files, release.File{Name: b.stem() + ".img", Size: b.layout.Size, SHA256: whole})
	return f.Close()
}

func (b *builder) contents(ctx context.Context) (map[string]partition.Content, error) {
	esp, err := b.espTree(ctx)
	if err != nil {
		return nil, err
	}
	c := map[string]partition.Content{}
	if c[partition.ESP], err = b.fat(partition.ESP, b.partSize(partition.ESP), esp); err != nil {
		return nil, fmt.Errorf("esp: %w", err)
	}
	if b.o.Recipe.Boot.Loader != systemdBoot {
		if err := b.slotContents(c); err != nil {
			return nil, fmt.Errorf("slot: %w", err)
		}
	}
	if b.root != nil {
		c[partition.RootA] = partition.Blob(b.root.content)
		c[partition.RootB] = partition.Blob(b.root.content)
	}
	return c, nil
}

func (b *builder) partSize(role string) int64 {
	p, _ := b.layout.Part(role)
	return p.Size
}

func (b *builder) slotContents(c map[string]partition.Content) error {
	t := new(tree.Tree)
	if err := b.addUKI(t, boot.FallbackPath(b.o.Lock.Arch)); err != nil {
		return err
	}
	// One serial for both slots, so that slot A and slot B are the same bytes.
	slot, err := b.fat("slot", b.partSize(partition.SlotA), t)
	c[partition.SlotA], c[partition.SlotB] = slot, slot
	return err
}

func (b *builder) addUKI(t *tree.Tree, paths ...string) error {
	info, err := os.Stat(b.staged(".efi"))
	if err != nil {
		return err
	}
	for _, p := range paths {
		if err := t.Add(tree.Node{Path: p, Mode: 0o644, Content: localBlob{b.staged(".efi"), info.Size()}}); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) fat(role string, size int64, t *tree.Tree) (partition.Content, error) {
	img, err := fat.Plan(t, fat.Options{
		Size: size, Epoch: b.o.Lock.Epoch, Label: fatLabel(role), Serial: partition.FATSerial(b.o.Lock.Name, b.layout.ID, role),
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

func (b *builder) describeDisk(digests map[int]string) {
	d := release.Disk{Layout: b.layout.ID, SectorSize: b.layout.SectorSize, Size: b.layout.Size, GUID: b.layout.Disk.String()}
	for _, p := range b.layout.Parts {
		d.Partitions = append(d.Partitions, release.Partition{
			Index: p.Index, Role: p.Role, Type: p.Type.String(), GUID: p.GUID.String(), Start: p.Start, Size: p.Size, SHA256: digests[p.Index],
		})
	}
	b.manifest.Disk = d
}
