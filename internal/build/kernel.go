package build

import (
	"context"
	"errors"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/initramfs"
	"github.com/ingot-os/ingot/initramfs/kmod"
	"github.com/ingot-os/ingot/internal/lock/local"
	"github.com/ingot-os/ingot/internal/recipe"
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
	names = append(names, "efivarfs", "button", "tpm") // boot entries; the power button; measurements
	if !r.Data.Disabled {
		names = append(names, "ext4")
	}
	if r.Data.Encrypt != "" {
		names = append(names, "crypt")
	}
	if r.Root != nil {
		names = append(names, "verity")
	}
	if r.Update != nil {
		names = append(names, "watchdog") // a trial that hangs has to end
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

// extractKernel caches what it takes out of a kernel package by the package's
// digest: the image, the selected modules as one cpio archive, and the facts
// that ingot check asks for. Reading the xz-compressed package is the slowest
// step of a cold build (seconds), so it happens once per kernel.
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
	pkg := &kernelPackage{path: path}
	defer pkg.close()
	image, err := b.cached(derived("kernel-image", in.SHA256), st, pkg.copyImage)
	if err != nil {
		return err
	}
	if b.kernel.image, err = newFileBlob(image); err != nil {
		return err
	}
	key := derived("kernel-modules", in.SHA256, strings.Join(names, " "))
	archive, err := b.cached(key, st, func(w *os.File) error { return pkg.packModules(names, w) })
	if err != nil {
		return err
	}
	if err := b.openModules(archive); err != nil {
		return err
	}
	facts, err := b.cached(factsKey(in.SHA256), &Step{}, func(w *os.File) error { return pkg.writeFacts(in.Package, w) })
	if err != nil {
		return err
	}
	return facts.Close()
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
	b.kernel.fromInput("kernel")
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
	t, err := local.Tree(dir, in.Files)
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
	b.kernel.fromInput(in.Name)
	b.kernel.version = filepath.Base(dir)
	return nil
}

// fromInput says where the modules are from; their indexes are the build's.
func (k kernel) fromInput(name string) {
	for _, n := range k.modules.Nodes() {
		if !strings.HasPrefix(path.Base(n.Path), "modules.") {
			n.Origin = name
		}
	}
}

// loadList is the file beside the modules that names those which no device
// asks for (dm-verity, squashfs, ...), one a line in load order; ingot-init
// gets them in its configuration.
const loadList = "modules.load"

func selectModules(all *tree.Tree, names []string) (*tree.Tree, error) {
	set, err := kmod.Open(all)
	if err != nil {
		return nil, err
	}
	sel, err := set.Select(names)
	if err != nil {
		return nil, err
	}
	t, err := sel.Tree()
	if err != nil {
		return nil, err
	}
	list := tree.Bytes(strings.Join(append(sel.Load, ""), "\n"))
	return t, t.Add(tree.Node{Path: path.Join("lib/modules", set.Version(), loadList), Mode: 0o644, Content: list})
}

// loaded reads the load list of the selection.
func (k kernel) loaded() ([]string, error) {
	n := k.modules.Get(path.Join("lib/modules", k.version, loadList))
	if n == nil {
		return nil, nil
	}
	var names []string
	err := eachLine(n, func(l string) { names = append(names, l) })
	return names, err
}
