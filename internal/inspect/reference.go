package inspect

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/reference"
)

// readReference shows each measurement once, with its digests, and for each way
// to boot which of them it makes in which register.
func readReference(n *Node, r io.ReaderAt, size int64) error {
	data, err := readAll(r, size)
	if err != nil {
		return err
	}
	v, err := reference.Parse(data)
	if err != nil {
		return err
	}
	n.add("name", v.Name)
	n.add("version", v.Version)
	n.add("security epoch", v.Epoch)
	n.add("words of ingot-init", strings.Join(v.Phases, ", "))
	known := map[string]*Node{}
	for _, p := range v.Paths {
		for _, e := range p.Events {
			name := measurement(e)
			if ofName(e) {
				continue
			}
			if known[name] == nil {
				known[name] = n.child("measurement", name)
			}
			addDigests(known[name], p, e)
		}
	}
	for _, p := range v.Paths {
		addPath(n.child("boot", pathName(p)), p)
	}
	return nil
}

func measurement(e attest.Expected) string { return fmt.Sprintf("PCR %d %s", e.PCR, e.Name) }

// ofName tells the digest of a section's name, which says nothing.
func ofName(e attest.Expected) bool { return strings.HasSuffix(e.Name, " (name)") }

func pathName(p attest.Path) string {
	if p.SecureBoot {
		return p.Boot + " with Secure Boot"
	}
	return p.Boot + " without Secure Boot"
}

// addDigests adds the digests of a measurement; those that another way to boot
// has otherwise get its name.
func addDigests(n *Node, p attest.Path, e attest.Expected) {
	for _, bank := range slices.Sorted(maps.Keys(e.Digests)) {
		key, value := bank.String(), e.Digests[bank].String()
		switch n.Field(key) {
		case value:
			continue
		case "":
		default:
			key += " " + pathName(p)
		}
		n.add(key, value)
	}
}

// addPath lists the measurements of a way to boot by register, in their order.
func addPath(n *Node, p attest.Path) {
	registers := map[int][]string{}
	for _, e := range p.Events {
		if ofName(e) {
			continue
		}
		registers[e.PCR] = append(registers[e.PCR], e.Name)
	}
	for _, i := range slices.Sorted(maps.Keys(registers)) {
		n.add(fmt.Sprintf("PCR %d", i), strings.Join(registers[i], ", "))
	}
	for _, i := range p.Empty {
		n.add(fmt.Sprintf("PCR %d", i), "nothing")
	}
	if p.Replaced {
		n.add("command line", "the loader's")
	}
	if p.Layout == nil {
		return
	}
	n.add("disk", p.Layout.Disk)
	for i, q := range p.Layout.Partitions {
		n.add(fmt.Sprintf("partition %d", i+1), fmt.Sprintf("type %v, id %v, %d bytes at %d", q.Type, q.GUID, q.Size, q.Start))
	}
}
