// Package kmod chooses kernel modules for an initramfs: from the modules of a
// kernel package and a list of names it computes what has to go along, and
// writes the subset with its own modules.dep, modules.alias and the rest.
//
// Debian's kernel packages carry modules.order, modules.builtin and
// modules.builtin.modinfo only; depmod makes the other files when the package
// is installed. So nothing here reads modules.dep: dependencies, aliases and
// soft dependencies come from the .modinfo section of each module, where
// modpost recorded them (kernel: scripts/mod/modpost.c, include/linux/module.h).
// Only modules that are needed are decompressed.
//
// Limits: 64-bit little-endian modules, one kernel per tree. Soft dependencies
// on bus aliases ("platform:leds-gpio") are left to coldplug on the machine.
//
//	set, err := kmod.Open(packageTree)
//	sel, err := set.Select([]string{"virtio", "dm-verity"})
//	t, err := sel.Tree()
package kmod

import (
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/ingot-os/ingot/partition/tree"
)

// maxList bounds the text files of a modules directory, in bytes.
const maxList = 16 << 20

// Set is every module of one kernel. Its methods may be called concurrently.
type Set struct {
	version string
	modules map[string]*module
	order   []*module           // in the order of modules.order
	builtin map[string]bool     // names of drivers in the kernel image
	lists   map[string][]byte   // modules.builtin and modules.alias as shipped
	aliases map[string][]string // alias -> built-in names

	crypto func() map[string][]*module // aliases of the crypto modules; read once
}

// module is one .ko file.
type module struct {
	name string // with underscores, as the kernel names it
	path string // below lib/modules/VERSION, without compression suffix
	node *tree.Node
	rank int // position in Set.order

	load func() (*content, error)
}

// content is a decompressed module.
type content struct {
	raw  []byte
	info info
}

// Open finds the modules in a tree that holds lib/modules/VERSION or
// usr/lib/modules/VERSION. Contents are read later, by Select.
func Open(t *tree.Tree) (*Set, error) {
	s := &Set{modules: map[string]*module{}, builtin: map[string]bool{}, lists: map[string][]byte{}, aliases: map[string][]string{}}
	for _, n := range t.Nodes() {
		version, rel, ok := locate(n.Path)
		if !ok || !n.Mode.IsRegular() {
			continue
		}
		if s.version == "" {
			s.version = version
		}
		if s.version != version {
			return nil, fmt.Errorf("open kernel modules: the tree has two kernels, %s and %s", s.version, version)
		}
		if err := s.add(t, n, rel); err != nil {
			return nil, fmt.Errorf("open kernel modules: %s: %w", n.Path, err)
		}
	}
	if s.version == "" {
		return nil, fmt.Errorf("open kernel modules: no file below lib/modules or usr/lib/modules")
	}
	s.readBuiltin()
	s.sort()
	s.crypto = sync.OnceValue(s.cryptoAliases)
	return s, nil
}

// locate splits lib/modules/VERSION/rel.
func locate(p string) (version, rel string, ok bool) {
	p = strings.TrimPrefix(p, "usr/")
	p, ok = strings.CutPrefix(p, "lib/modules/")
	if !ok {
		return "", "", false
	}
	return strings.Cut(p, "/")
}

func (s *Set) add(t *tree.Tree, n *tree.Node, rel string) error {
	switch rel {
	case "modules.order", "modules.builtin", "modules.builtin.modinfo", "modules.alias":
		b, err := readNode(t, n, maxList)
		s.lists[rel] = b
		return err
	}
	plain, ok := modulePath(rel)
	if !ok {
		return nil
	}
	m := &module{name: normal(strings.TrimSuffix(path.Base(plain), ".ko")), path: plain, node: n}
	if n.Link != "" {
		m.node = t.Get(n.Link)
	}
	m.load = sync.OnceValues(m.read)
	// updates/ overrides the kernel's own modules, as in depmod.d(5)'s default search.
	if old := s.modules[m.name]; old != nil && !strings.HasPrefix(rel, "updates/") {
		if !strings.HasPrefix(old.path, "updates/") {
			return fmt.Errorf("module %s is also at %s", m.name, old.path)
		}
		return nil
	}
	s.modules[m.name] = m
	return nil
}

// modulePath strips the compression suffix; ok is false when rel is no module.
func modulePath(rel string) (plain string, ok bool) {
	plain = strings.TrimSuffix(rel, path.Ext(rel))
	switch path.Ext(rel) {
	case ".ko":
		return rel, true
	case ".xz", ".zst", ".gz":
		return plain, path.Ext(plain) == ".ko"
	}
	return "", false
}

// normal spells a module name as the kernel does.
func normal(name string) string { return strings.ReplaceAll(name, "-", "_") }

// readNode reads a file that is at most limit bytes long.
func readNode(t *tree.Tree, n *tree.Node, limit int64) ([]byte, error) {
	if n.Link != "" {
		n = t.Get(n.Link)
	}
	if n == nil || n.Size() > limit {
		return nil, fmt.Errorf("larger than %d bytes", limit)
	}
	r, err := n.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, limit))
}

// readBuiltin takes names from modules.builtin and, with aliases, from
// modules.builtin.modinfo: strings "NAME.KEY=VALUE", each ended by NUL.
func (s *Set) readBuiltin() {
	for line := range strings.SplitSeq(string(s.lists["modules.builtin"]), "\n") {
		if name, ok := strings.CutSuffix(path.Base(line), ".ko"); ok {
			s.builtin[normal(name)] = true
		}
	}
	for entry := range strings.SplitSeq(string(s.lists["modules.builtin.modinfo"]), "\x00") {
		key, value, _ := strings.Cut(entry, "=")
		name, field, ok := strings.Cut(key, ".")
		if !ok {
			continue
		}
		s.builtin[normal(name)] = true
		if field == "alias" {
			s.aliases[normal(value)] = append(s.aliases[normal(value)], normal(name))
		}
	}
}

// sort ranks the modules by modules.order, the order in which depmod and
// modprobe prefer them; those it does not list follow by path.
func (s *Set) sort() {
	line := map[string]int{}
	for i, p := range strings.Split(string(s.lists["modules.order"]), "\n") {
		line[p] = i + 1
	}
	position := func(m *module) int {
		if n := line[m.path]; n > 0 {
			return n
		}
		return len(line) + 1
	}
	for _, m := range s.modules {
		s.order = append(s.order, m)
	}
	slices.SortFunc(s.order, func(a, b *module) int {
		if d := position(a) - position(b); d != 0 {
			return d
		}
		return strings.Compare(a.path, b.path)
	})
	for i, m := range s.order {
		m.rank = i
	}
}

// Version returns the kernel's release, the VERSION of lib/modules/VERSION.
func (s *Set) Version() string { return s.version }

// names lists modules and built-in drivers, sorted.
func (s *Set) names() []string {
	names := make([]string, 0, len(s.modules)+len(s.builtin))
	for n := range s.modules {
		names = append(names, n)
	}
	for n := range s.builtin {
		names = append(names, n)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
