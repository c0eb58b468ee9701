package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/initramfs"
	"github.com/ingot-os/ingot/initramfs/kmod"
	"github.com/ingot-os/ingot/internal/recipe"
	"github.com/ingot-os/ingot/internal/source/deb"
	"github.com/ingot-os/ingot/partition/tree"
)

// kernel is what the build takes out of the kernel package.
type kernel struct {
	image   tree.Blob
	version string     // as in lib/modules/VERSION
	modules *tree.Tree // the selection, decompressed, with its own modules.dep
}

// modulesOf is the recipe's modules plus those that its other keys need.
func modulesOf(r *recipe.Recipe) []string {
	names := slices.Clone(r.Modules)
	names = append(names, "efi")
	if !r.Data.Disabled {
		names = append(names, "ext4")
	}
	if r.Root != nil {
		names = append(names, "verity")
	}
	for _, n := range r.Network {
		if n.VLAN != 0 {
			names = append(names, "8021q")
		}
		if n.Bond != nil {
			names = append(names, "bonding")
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// extractKernel caches two results by the package's digest: the image, and the
// module selection as one cpio archive. Reading the xz-compressed package is
// the slowest step of a cold build (seconds), so it happens once per kernel.
func (b *builder) extractKernel(ctx context.Context, st *Step) error {
	path, in, err := b.fetch(ctx, "kernel")
	if err != nil {
		return err
	}
	if b.o.Recipe.Kernel.File != "" {
		return b.localKernel(ctx, path)
	}
	names := modulesOf(b.o.Recipe)
	st.In, st.Detail = in.SHA256, in.Version
	image, err := b.cached(derived("kernel-image", in.SHA256), st, func(w *os.File) error {
		return copyKernelImage(path, w)
	})
	if err != nil {
		return err
	}
	if b.kernel.image, err = newFileBlob(image); err != nil {
		return err
	}
	archive, err := b.cached(derived("kernel-modules", in.SHA256, strings.Join(names, " ")), st, func(w *os.File) error {
		return packModules(path, names, w)
	})
	if err != nil {
		return err
	}
	return b.openModules(archive)
}

func (b *builder) openModules(archive *os.File) error {
	info, err := archive.Stat()
	if err != nil {
		return err
	}
	b.kernel.modules, _, err = initramfs.Open(archive, info.Size())
	if err != nil {
		return err
	}
	b.kernel.version, err = moduleVersion(b.kernel.modules)
	return err
}

// moduleVersion reads the kernel version from the one directory in lib/modules.
func moduleVersion(t *tree.Tree) (string, error) {
	for _, n := range t.Nodes() {
		if dir, name := filepath.Split(n.Path); dir == "lib/modules/" && n.Mode.IsDir() {
			return name, nil
		}
	}
	return "", errors.New("find kernel version: no lib/modules directory")
}

func (b *builder) localKernel(ctx context.Context, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	if b.kernel.image, err = newFileBlob(f); err != nil {
		return err
	}
	b.kernel.modules = new(tree.Tree)
	if b.o.Recipe.Kernel.Modules == "" {
		return nil
	}
	dir, in, err := b.fetch(ctx, "kernel/modules")
	if err != nil {
		return err
	}
	t, err := dirTree(dir, *in)
	if err != nil {
		return err
	}
	whole := new(tree.Tree)
	for _, n := range t.Nodes() {
		m := *n
		m.Path = filepath.Join("lib/modules", filepath.Base(dir), n.Path)
		if err := whole.Add(m); err != nil {
			return err
		}
	}
	b.kernel.modules, err = selectModules(whole, modulesOf(b.o.Recipe))
	if err != nil {
		return err
	}
	b.kernel.version = filepath.Base(dir)
	return nil
}

// copyKernelImage streams boot/vmlinuz-* out of a kernel package.
func copyKernelImage(path string, w io.Writer) error {
	found := false
	err := deb.Walk(path, func(n *tree.Node, r io.Reader) error {
		if found || !strings.HasPrefix(n.Path, "boot/vmlinuz-") || !n.Mode.IsRegular() {
			return nil
		}
		found = true
		if _, err := io.Copy(w, r); err != nil {
			return err
		}
		return fs.SkipAll
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", filepath.Base(path), err)
	}
	if !found {
		return fmt.Errorf("read %s: no boot/vmlinuz-* in the package", filepath.Base(path))
	}
	return nil
}

// packModules writes the selection as an uncompressed cpio archive: a form
// that this repository reads back as a tree.
func packModules(path string, names []string, w io.Writer) error {
	all, cleanup, err := deb.Tree(path, "lib/modules", "usr/lib/modules")
	if err != nil {
		return err
	}
	defer cleanup()
	t, err := selectModules(all, names)
	if err != nil {
		return err
	}
	a, err := initramfs.Plan([]initramfs.Segment{{Name: "modules", Tree: t}}, initramfs.Options{})
	if err != nil {
		return err
	}
	_, err = a.WriteTo(w)
	return err
}

func selectModules(all *tree.Tree, names []string) (*tree.Tree, error) {
	set, err := kmod.Open(all)
	if err != nil {
		return nil, err
	}
	sel, err := set.Select(names)
	if err != nil {
		return nil, err
	}
	return sel.Tree()
}
