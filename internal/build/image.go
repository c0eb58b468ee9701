package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ingot-os/ingot/boot"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/tree"
)

// stateSize is p6, the region map of S13.
const stateSize = 16 << 20

// planLayout fixes the disk before anything is written, because the machine's
// configuration inside the UKI names the partitions.
func (b *builder) planLayout(_ context.Context, st *Step) error {
	d := b.o.Recipe.Disk
	spec := partition.Spec{
		Name: b.o.Lock.Name, SectorSize: d.Sector,
		ESP: int64(d.ESP), Slot: int64(d.Slot), State: stateSize, Data: int64(b.o.Recipe.Data.Size),
	}
	if b.root != nil {
		spec.Root = int64(d.Root)
	}
	var err error
	if b.draft.Layout, err = partition.Plan(spec); err != nil {
		return err
	}
	text, err := json.Marshal(b.draft.Layout)
	st.made(digest(text))
	return err
}

// planBoot decides what the ESP and the slots hold.
func (b *builder) planBoot(ctx context.Context) error {
	var err error
	if b.draft.ESP, err = b.espTree(ctx); err != nil {
		return fmt.Errorf("esp: %w", err)
	}
	if b.o.Recipe.Boot.Loader == systemdBoot {
		return nil
	}
	b.draft.Slot = new(tree.Tree)
	return b.addUKI(b.draft.Slot, boot.FallbackPath(b.o.Lock.Arch))
}

func (b *builder) addUKI(t *tree.Tree, paths ...string) error {
	for _, p := range paths {
		if err := t.Add(tree.Node{Path: p, Mode: 0o644, Content: b.draft.UKI}); err != nil {
			return err
		}
	}
	return nil
}

// sign asks the authority for the signatures of the boot files.
func (b *builder) sign(ctx context.Context, st *Step) error {
	if err := b.planBoot(ctx); err != nil {
		return err
	}
	if err := b.wantPolicies(); err != nil {
		return err
	}
	if b.o.Authority == nil {
		st.Detail = "no keys"
		return b.draft.WritePolicies(nil)
	}
	if err := b.draft.Sign(b.o.Authority); err != nil {
		return err
	}
	return b.draft.WritePolicies(b.o.Authority)
}

// wantPolicies names the policy key of a recipe whose machines encrypt their
// data: the one that they trust.
func (b *builder) wantPolicies() error {
	if b.o.Recipe.Data.Encrypt == "" {
		return nil
	}
	keys, err := b.anchors()
	if err == nil && (keys == nil || len(keys.Policy) == 0) {
		err = errors.New("data.encrypt is tpm, but trust has no policy key")
	}
	if err != nil {
		return err
	}
	b.draft.Manifest.PolicyKey = keys.Policy
	return nil
}

func (b *builder) writeImage(_ context.Context, st *Step) error {
	if b.root != nil {
		b.draft.Root = b.root.content
	}
	var err error
	st.Out, err = b.draft.WriteImage(b.describeContents)
	return err
}
