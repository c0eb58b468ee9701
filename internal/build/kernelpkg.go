package build

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/ingot-os/ingot/initramfs"
	"github.com/ingot-os/ingot/internal/recipe"
	"github.com/ingot-os/ingot/internal/source/deb"
	"github.com/ingot-os/ingot/partition/tree"
)

// kernelPackage reads a Debian kernel package at most once, when the first of
// its parts is not in the cache.
type kernelPackage struct {
	path    string
	tree    *tree.Tree
	cleanup func()
}

func (k *kernelPackage) open() (*tree.Tree, error) {
	if k.tree != nil {
		return k.tree, nil
	}
	var err error
	k.tree, k.cleanup, err = deb.Tree(k.path, "boot", "lib/modules", "usr/lib/modules")
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Base(k.path), err)
	}
	return k.tree, nil
}

func (k *kernelPackage) close() {
	if k.cleanup != nil {
		k.cleanup()
	}
}

// find returns the one regular file whose path starts with a prefix.
func (k *kernelPackage) find(prefix string) (*tree.Node, error) {
	t, err := k.open()
	if err != nil {
		return nil, err
	}
	for _, n := range t.Nodes() {
		if strings.HasPrefix(n.Path, prefix) && n.Mode.IsRegular() {
			return n, nil
		}
	}
	return nil, fmt.Errorf("read %s: no %s* in the package", filepath.Base(k.path), prefix)
}

func (k *kernelPackage) copyImage(w *os.File) error {
	n, err := k.find("boot/vmlinuz-")
	if err != nil {
		return err
	}
	r, err := n.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(w, r)
	return err
}

// packModules writes the selection as an uncompressed cpio archive: a form
// that this repository reads back as a tree.
func (k *kernelPackage) packModules(names []string, w io.Writer) error {
	all, err := k.open()
	if err != nil {
		return err
	}
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

// writeFacts writes recipe.KernelFacts as JSON.
func (k *kernelPackage) writeFacts(name string, w io.Writer) error {
	facts := recipe.KernelFacts{Package: name, Modules: map[string]string{}, Builtin: map[string]bool{}}
	image, err := k.find("boot/vmlinuz-")
	if err != nil {
		return err
	}
	facts.Image = image.Size()
	for _, n := range k.tree.Nodes() {
		_, rel, found := strings.Cut(n.Path, "lib/modules/")
		version, rel, nested := strings.Cut(rel, "/")
		if !found || !nested {
			continue
		}
		facts.Version = version
		if stem, _, ok := strings.Cut(path.Base(rel), ".ko"); ok {
			facts.Modules[moduleName(stem)] = rel
		}
		if rel == "modules.builtin" {
			err = eachLine(n, func(l string) { facts.Builtin[moduleName(strings.TrimSuffix(path.Base(l), ".ko"))] = true })
		}
		if err != nil {
			return err
		}
	}
	if facts.Config, err = k.config(); err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(facts)
}

// config reads boot/config-VERSION; a package without one has no options to check.
func (k *kernelPackage) config() (map[string]string, error) {
	n, err := k.find("boot/config-")
	if err != nil {
		return nil, nil
	}
	options := map[string]string{}
	return options, eachLine(n, func(l string) {
		if name, value, ok := strings.Cut(l, "="); ok && strings.HasPrefix(name, "CONFIG_") {
			options[name] = strings.Trim(value, `"`)
		}
	})
}

func eachLine(n *tree.Node, f func(string)) error {
	r, err := n.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	s := bufio.NewScanner(r)
	for s.Scan() {
		f(s.Text())
	}
	return s.Err()
}

func moduleName(s string) string { return strings.ReplaceAll(s, "-", "_") }
