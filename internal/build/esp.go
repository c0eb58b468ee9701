package build

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/ingot-os/ingot/boot"
	"github.com/ingot-os/ingot/boot/bls"
	"github.com/ingot-os/ingot/internal/source/deb"
	"github.com/ingot-os/ingot/partition/tree"
)

// systemdBoot is the value of boot.loader for systemd-boot.
const systemdBoot = "systemd-boot"

// espTree is what the EFI system partition holds. With the firmware's boot
// manager that is the selector and its spare copy, both the release's UKI (S1);
// with systemd-boot the loader, its configuration and the UKI that it lists.
func (b *builder) espTree(ctx context.Context) (*tree.Tree, error) {
	t := new(tree.Tree)
	var err error
	if b.o.Recipe.Boot.Loader == systemdBoot {
		t, err = b.loaderTree(ctx)
	} else {
		err = b.addUKI(t, boot.FallbackPath(b.o.Lock.Arch), boot.SparePath(b.o.Lock.Arch))
	}
	if err != nil {
		return nil, err
	}
	for _, e := range b.o.Recipe.Boot.Entries {
		if e.Source == "" {
			continue
		}
		path, in, err := b.fetch(ctx, "boot"+e.ESPPath())
		if err != nil {
			return nil, err
		}
		if err := b.addLocal(t, tree.Node{Path: strings.TrimPrefix(e.ESPPath(), "/"), Mode: 0o644}, path, *in); err != nil {
			return nil, fmt.Errorf("boot entry %s: %w", e.Title, err)
		}
	}
	return t, nil
}

// loaderTree has systemd-boot from its locked package, loader.conf, the UKI as
// a type #2 entry and the recipe's entries as type #1.
func (b *builder) loaderTree(ctx context.Context) (*tree.Tree, error) {
	loader, err := b.loader(ctx)
	if err != nil {
		return nil, err
	}
	esp := bls.ESP{
		Fallback: boot.FallbackPath(b.o.Lock.Arch), Loader: loader,
		Conf:   bls.LoaderConf{Timeout: b.o.Recipe.Boot.Timeout},
		Images: []bls.Image{{Name: bls.ImageName{Stem: b.stem()}, Content: b.draft.UKI}},
	}
	for i, e := range b.o.Recipe.Boot.Entries {
		esp.Entries = append(esp.Entries, bls.Entry{Name: fmt.Sprintf("entry-%d", i+1), Title: e.Title, EFI: e.ESPPath()})
	}
	t, err := bls.Files(esp)
	if err != nil {
		return nil, err
	}
	t.Get(esp.Fallback).Origin = "loader"
	return t, nil
}

func (b *builder) loader(ctx context.Context) (tree.Blob, error) {
	path, in, err := b.fetch(ctx, "loader")
	if err != nil {
		return nil, err
	}
	name := boot.LoaderPath(b.o.Lock.Arch)
	f, err := b.cached(derived("loader", in.SHA256, name), &Step{}, func(w *os.File) error {
		return deb.Extract(path, name, w)
	})
	if err != nil {
		return nil, err
	}
	return newFileBlob(f)
}
