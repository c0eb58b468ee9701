package build

import (
	"context"
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"github.com/ingot-os/ingot/internal/recipe"
	"github.com/ingot-os/ingot/internal/source/deb"
	"github.com/ingot-os/ingot/partition/tree"
)

// firmwareRoot is where the kernel's firmware loader looks.
const firmwareRoot = "lib/firmware"

// addFirmware puts device firmware below lib/firmware: what a Debian package
// holds there, or local files.
func (b *builder) addFirmware(ctx context.Context, t *tree.Tree, f recipe.Firmware) error {
	if f.Package == "" {
		return b.addLocalFirmware(ctx, t, f)
	}
	pkg, in, err := b.fetch(ctx, "firmware/"+f.Package)
	if err != nil {
		return err
	}
	all, cleanup, err := deb.Tree(pkg, firmwareRoot, "usr/"+firmwareRoot)
	if err != nil {
		return err
	}
	b.cleanup = append(b.cleanup, cleanup)
	found := 0
	for _, n := range all.Nodes() {
		name, ok := strings.CutPrefix(strings.TrimPrefix(n.Path, "usr/"), firmwareRoot+"/")
		if !ok || n.Mode.IsDir() || !wanted(name, f.Files) {
			continue
		}
		m := *n
		m.Path, m.Link, m.Origin = path.Join(firmwareRoot, name), strings.TrimPrefix(n.Link, "usr/"), in.Name
		if err := t.Add(m); err != nil {
			return fmt.Errorf("firmware %s: %w", name, err)
		}
		found++
	}
	if found == 0 {
		return fmt.Errorf("firmware: nothing in package %s matches %s", f.Package, strings.Join(f.Files, " "))
	}
	return nil
}

func wanted(name string, patterns []string) bool {
	for _, p := range patterns {
		if ok, err := path.Match(p, name); ok && err == nil {
			return true
		}
	}
	return len(patterns) == 0
}

func (b *builder) addLocalFirmware(ctx context.Context, t *tree.Tree, f recipe.Firmware) error {
	local, in, err := b.fetch(ctx, "firmware/"+path.Clean(f.Source))
	if err != nil {
		return err
	}
	return b.addLocal(t, tree.Node{Path: path.Join(firmwareRoot, filepath.Base(f.Source)), Mode: 0o644}, local, *in)
}
