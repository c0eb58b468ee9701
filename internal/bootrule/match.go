package bootrule

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// groupsOf are the groups that a machine is in, with what put it there.
func (r *Rules) groupsOf(f *Facts) map[string]string {
	out := map[string]string{}
	add := func(m member, why string) {
		if _, dup := out[m.group]; !dup {
			out[m.group] = why
		}
	}
	for _, key := range []string{"mac " + f.MAC.String(), "uuid " + f.UUID, "host " + f.Host, "serial " + f.Serial, "asset " + f.Asset} {
		for _, m := range r.members.exact[key] {
			add(m, key)
		}
	}
	for _, m := range r.members.pattern {
		g := m.one
		if yes, why := f.named(g.MAC, g.UUID, g.Host, g.Serial, g.Asset, g.EK); yes {
			add(m, why)
		}
	}
	return out
}

// named reports whether the values of one kind that are given name the machine.
func (f *Facts) named(mac []MACPattern, uuid []UUID, host, serial, asset []Glob, ek []EK) (bool, string) {
	d := &deciding{Case: Case{Facts: *f}}
	yes, no := d.compare(&Match{MAC: mac, UUID: uuid, Host: host, Serial: serial, Asset: asset, EK: ek})
	if no != nil {
		return false, ""
	}
	return true, strings.Join(yes, ", ")
}

// matches compares each key that is given, and says which decided.
func (d *deciding) matches(m *Match) (bool, string) {
	yes, no := d.compare(m)
	switch {
	case no != nil:
		return false, no.mismatch()
	case len(yes) == 0:
		return true, "every machine"
	}
	return true, strings.Join(yes, ", ")
}

// key is one key of a Match.
type key struct {
	name  string
	given int
	list  func() []string // the given values
	is    string          // of the machine
	ok    func() bool
}

// mismatch says what the machine is, and what it would have to be.
func (k *key) mismatch() string {
	list := k.list()
	const few = 3
	want := strings.Join(list[:min(few, len(list))], ", ")
	if more := len(list) - few; more > 0 {
		want += fmt.Sprintf(" or %d more", more)
	}
	switch {
	case k.is == "" && k.name == "group":
		return "it is in no group, want " + want
	case k.is == "":
		return k.name + " is not known, want " + want
	}
	return k.name + " " + k.is + " is not " + want
}

// compare gives the keys that match, and the first that does not; nil: all do.
func (d *deciding) compare(m *Match) (yes []string, no *key) {
	f := &d.Facts
	for _, k := range []key{
		{"group", len(m.Group), func() []string { return m.Group }, strings.Join(keysOf(d.groups), " "), func() bool { return slices.ContainsFunc(m.Group, func(g string) bool { return d.groups[g] != "" }) }},
		{"mac", len(m.MAC), func() []string { return textsOf(m.MAC) }, f.MAC.String(), func() bool { return slices.ContainsFunc(m.MAC, func(p MACPattern) bool { return p.matches(f.MAC) }) }},
		{"uuid", len(m.UUID), func() []string { return textsOf(m.UUID) }, f.UUID, func() bool { return Identifies(f.UUID) && slices.Contains(m.UUID, UUID(f.UUID)) }},
		{"host", len(m.Host), func() []string { return textsOf(m.Host) }, f.Host, func() bool { return anyGlob(m.Host, f.Host) }},
		{"serial", len(m.Serial), func() []string { return textsOf(m.Serial) }, f.Serial, func() bool { return anyGlob(m.Serial, f.Serial) }},
		{"asset", len(m.Asset), func() []string { return textsOf(m.Asset) }, f.Asset, func() bool { return anyGlob(m.Asset, f.Asset) }},
		{"ek", len(m.EK), func() []string { return textsOf(m.EK) }, strings.Join(f.EK[:min(1, len(f.EK))], ""), func() bool { return slices.ContainsFunc(m.EK, func(e EK) bool { return e.matches(f.EK) }) }},
		{"subnet", len(m.Subnet), func() []string { return textsOf(m.Subnet) }, addrText(m.Subnet, f.Addrs), func() bool { return inSubnet(m.Subnet, f.Addrs) }},
		{"arch", len(m.Arch), func() []string { return textsOf(m.Arch) }, f.Arch.String(), func() bool {
			return slices.ContainsFunc(m.Arch, func(a Arch) bool { return slices.Contains(a.is, f.Arch) })
		}},
	} {
		if k.given == 0 {
			continue
		}
		if !k.ok() {
			return nil, &k
		}
		yes = append(yes, k.name+" "+k.is)
	}
	return yes, nil
}

// textsOf are values as they are written.
func textsOf[T any](list []T) []string {
	out := make([]string, len(list))
	for i, x := range list {
		out[i] = fmt.Sprint(x)
	}
	return out
}

func anyGlob(list []Glob, s string) bool {
	return slices.ContainsFunc(list, func(g Glob) bool { return g.matches(s) })
}

func inSubnet(list []Subnet, addrs []netip.Addr) bool {
	return slices.ContainsFunc(list, func(n Subnet) bool {
		return slices.ContainsFunc(addrs, func(a netip.Addr) bool { return n.Contains(a.Unmap().WithZone("")) })
	})
}

// addrText are the addresses that are in a network of the list, else all.
func addrText(nets []Subnet, list []netip.Addr) string {
	in := slices.DeleteFunc(slices.Clone(list), func(a netip.Addr) bool { return !inSubnet(nets, []netip.Addr{a}) })
	if len(in) == 0 {
		in = list
	}
	return strings.Join(textsOf(in), " ")
}
