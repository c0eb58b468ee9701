package lock

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Change is one thing that differs between two locks.
type Change struct {
	Name string `json:"name"`          // of the input, or epoch, go, ingot, version, arch, mirror, recipe
	Old  string `json:"old,omitempty"` // "" = was not there
	New  string `json:"new,omitempty"` // "" = is gone
}

// String writes it for people, in one line.
func (c Change) String() string {
	switch {
	case c.Old == "":
		return fmt.Sprintf("%s: new: %s", c.Name, c.New)
	case c.New == "":
		return fmt.Sprintf("%s: removed: %s", c.Name, c.Old)
	}
	return fmt.Sprintf("%s: %s -> %s", c.Name, c.Old, c.New)
}

// Diff lists what moved, inputs first, in the order of their names. old may be nil.
func Diff(old, new *Lock) []Change {
	if old == nil {
		old = &Lock{}
	}
	var list []Change
	a, b := index(old), index(new)
	all := maps.Clone(a)
	maps.Copy(all, b)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		list = appendChange(list, name, inputText(a[name], b[name]), inputText(b[name], a[name]))
	}
	list = appendChange(list, "version", old.Version, new.Version)
	list = appendChange(list, "arch", old.Arch, new.Arch)
	list = appendChange(list, "mirror", old.Mirror, new.Mirror)
	list = appendChange(list, "go", old.Go, new.Go)
	list = appendChange(list, "ingot", ingotText(old.Ingot), ingotText(new.Ingot))
	list = appendChange(list, "epoch", epochText(old.Epoch), epochText(new.Epoch))
	return appendChange(list, "recipe", short(old.Recipe), short(new.Recipe))
}

func index(l *Lock) map[string]*Input {
	m := map[string]*Input{}
	for i := range l.Inputs {
		m[l.Inputs[i].Name] = &l.Inputs[i]
	}
	return m
}

func appendChange(list []Change, name, old, new string) []Change {
	if old == new {
		return list
	}
	return append(list, Change{name, old, new})
}

// inputText is the shortest text that shows how in differs from other.
func inputText(in, other *Input) string {
	if in == nil {
		return ""
	}
	if in.Kind != KindDeb {
		return fmt.Sprintf("%s %s", in.Kind, short(in.SHA256))
	}
	text := in.Package + " " + in.Version
	if other != nil && other.Kind == KindDeb && other.Package == in.Package {
		text = in.Version
	}
	if other != nil && other.Version == in.Version && other.SHA256 != in.SHA256 {
		text += " " + short(in.SHA256)
	}
	if in.Pocket != "" && in.Pocket != "main" {
		text += " (" + in.Pocket + ")"
	}
	return text
}

func ingotText(i Ingot) string {
	if i == (Ingot{}) {
		return ""
	}
	return fmt.Sprintf("format %d, init %s", i.Format, short(i.Init))
}

func epochText(n int64) string {
	if n == 0 {
		return ""
	}
	return time.Unix(n, 0).UTC().Format(time.RFC3339)
}

func short(sha string) string { return sha[:min(len(sha), 12)] }
