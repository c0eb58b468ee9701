package inspect

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/boot/varstore"
	"github.com/ingot-os/ingot/partition/state"
)

func isState(head []byte) bool { return at("INGOTST1", 0)(head) }

func readState(n *Node, r io.ReaderAt, _ int64) error {
	for _, s := range state.Scan(r) {
		if errors.Is(s.Err, state.ErrEmpty) && !errors.Is(s.Err, state.ErrDamaged) {
			continue
		}
		c := n.child("region", fmt.Sprintf("%s copy %d", s.Name, s.Copy))
		c.add("offset", s.Offset)
		if s.Err != nil {
			c.add("problem", s.Err)
			continue
		}
		c.add("sequence", s.Seq)
		c.add("current", s.Current)
		c.add("size", len(s.Payload))
		if err := readRegion(c, s); err != nil {
			c.add("problem", err)
			c.add("bytes", hex.EncodeToString(s.Payload))
		}
	}
	return nil
}

// readRegion shows the payload of a region.
func readRegion(n *Node, s state.Status) error {
	switch {
	case s.Region == state.Machine || s.Region == state.Evidence || s.Region == state.Update:
		n.add("text", strings.TrimRight(string(s.Payload), "\n"))
	case s.Region == state.Journal && len(s.Payload) > 0:
		return addJournal(n, s.Payload)
	case s.Region == state.Rejected:
		return addRejections(n, s.Payload)
	case s.Region == state.Clock && len(s.Payload) == 8:
		n.add("time", date(int64(binary.LittleEndian.Uint64(s.Payload))))
	default:
		n.add("bytes", hex.EncodeToString(s.Payload))
	}
	return nil
}

func readVariables(n *Node, r io.ReaderAt, size int64) error {
	data, err := readAll(r, size)
	if err != nil {
		return err
	}
	s, err := varstore.Open(data)
	if err != nil {
		return err
	}
	for _, v := range s.List() {
		c := n.child("variable", v.Name)
		c.add("vendor", v.GUID)
		c.add("attributes", fmt.Sprintf("%#x", v.Attributes))
		c.add("value", variableText(v))
	}
	return nil
}

// variableText decodes what the boot manager and the loader keep; the rest is hex.
func variableText(v varstore.Variable) string {
	if _, ok := efivar.ParseBootName(v.Name); ok && v.GUID == efivar.Global {
		if o, err := efivar.ParseLoadOption(v.Data); err == nil {
			return fmt.Sprintf("%q %s", o.Description, o.Path())
		}
	}
	if order, err := efivar.ParseOrder(v.Data); err == nil && (v.Name == efivar.BootOrder || v.Name == efivar.BootNext) {
		var names []string
		for _, n := range order {
			names = append(names, efivar.BootName(n))
		}
		return strings.Join(names, ", ")
	}
	if len(v.Data) > 64 {
		return fmt.Sprintf("%d bytes", len(v.Data))
	}
	return hex.EncodeToString(v.Data)
}
