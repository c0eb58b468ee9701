package kmod

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/partition/tree"
)

// Tree returns lib/modules/VERSION with the selected modules, decompressed and
// otherwise untouched (a signature stays where it is), and the files that
// depmod would make for exactly these: modules.dep, modules.alias and
// modules.softdep, beside modules.order and modules.builtin.
func (sel Selection) Tree() (*tree.Tree, error) {
	t := &tree.Tree{}
	dir := "lib/modules/" + sel.Version + "/"
	lists, err := sel.lists()
	if err != nil {
		return nil, fmt.Errorf("write modules of %s: %w", sel.Version, err)
	}
	for name, content := range lists {
		if err := t.Add(tree.Node{Path: dir + name, Mode: 0o644, Content: tree.Bytes(content)}); err != nil {
			return nil, err
		}
	}
	for _, m := range sel.chosen {
		c, err := m.load()
		if err != nil {
			return nil, err
		}
		if err := t.Add(tree.Node{Path: dir + m.path, Mode: 0o644, Content: tree.Bytes(c.raw)}); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// lists are the text files in the format of modules.dep(5) and its siblings.
func (sel Selection) lists() (map[string][]byte, error) {
	var dep, alias, softdep, order bytes.Buffer
	alias.WriteString("# Aliases extracted from modules themselves.\n")
	softdep.WriteString("# Soft dependencies extracted from modules themselves.\n")
	for _, m := range sel.chosen {
		c, err := m.load()
		if err != nil {
			return nil, err
		}
		fmt.Fprintln(&order, m.path)
		fmt.Fprintln(&dep, sel.set.depLine(m))
		for _, a := range c.info.alias {
			fmt.Fprintln(&alias, "alias", a, m.name)
		}
		for _, d := range c.info.softdep {
			fmt.Fprintln(&softdep, "softdep", m.name, d)
		}
	}
	return map[string][]byte{
		"modules.dep": dep.Bytes(), "modules.alias": alias.Bytes(), "modules.softdep": softdep.Bytes(),
		"modules.order": order.Bytes(), "modules.builtin": sel.set.lists["modules.builtin"],
	}, nil
}

// depLine is "path: deps", all of them and not only the direct ones; modprobe
// loads them from the last to the first.
func (s *Set) depLine(m *module) string {
	deps := s.loadOrder(m)
	slices.Reverse(deps)
	var b strings.Builder
	b.WriteString(m.path + ":")
	for _, d := range deps {
		b.WriteString(" " + d.path)
	}
	return b.String()
}
