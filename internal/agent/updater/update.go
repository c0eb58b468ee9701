package updater

import (
	"encoding/hex"
	"encoding/json"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/accept"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// update is a release on its way into a slot.
type update struct {
	target  slot.Slot
	content slot.Content
	parts   []accept.Part // still to come; the first is the one being written
	from    int64         // bytes of it that are durable
	head    []byte        // its first 4 KiB, kept until the end; nil: not known
	saved   int64         // from as it is kept over resets
	approve bool
	server  bool // it was the server that approved
	recover bool // restores what the journal says, and answers Restored
}

// kept is what of an update is remembered over resets.
type kept struct {
	Slot     byte        `json:"slot"`
	Image    slot.Digest `json:"image"`
	Root     slot.Digest `json:"root"`
	Part     string      `json:"part,omitempty"` // those before it are complete
	From     int64       `json:"from,omitempty"`
	Head     []byte      `json:"head,omitempty"`
	Approved bool        `json:"approved,omitempty"`
	Server   bool        `json:"server,omitempty"` // it approved, and may take that back
}

// wants lists the parts that are still to come.
func (p *update) wants(s slot.State) []updateapi.Want {
	var list []updateapi.Want
	base := s.Of(p.target.Other())
	for i, part := range p.parts {
		w := updateapi.Want{Part: part.Name, Size: part.Size}
		if i == 0 {
			w.From = p.from
		}
		sum := base.Image
		if part.Name == updateapi.PartRoot {
			sum = base.Root
		}
		if base.Condition == slot.Good && sum != (slot.Digest{}) {
			w.Base = hex.EncodeToString(sum[:])
		}
		list = append(list, w)
	}
	return list
}

// keep is what to remember now.
func (p *update) keep() []byte {
	k := kept{Slot: byte(p.target), Image: p.content.Image, Root: p.content.Root, Approved: p.approve, Server: p.server}
	if len(p.parts) > 0 {
		k.Part, k.From, k.Head = p.parts[0].Name, p.from, p.head
	}
	return k.marshal()
}

func (k kept) marshal() []byte {
	b, err := json.Marshal(k)
	if err != nil {
		return nil // of numbers and bytes: does not happen
	}
	return b
}

// parseKept reads what was remembered; what is not understood is nothing.
func parseKept(b []byte) (k kept) {
	if len(b) == 0 || json.Unmarshal(b, &k) != nil {
		return kept{}
	}
	return k
}

// is says whether it is about this content in this slot.
func (k kept) is(target slot.Slot, c slot.Content) bool {
	return slot.Slot(k.Slot) == target && k.Image == c.Image && k.Root == c.Root && c.Image != (slot.Digest{})
}

// resume goes on where an earlier boot was cut.
func (p *update) resume(b []byte) {
	k := parseKept(b)
	if !k.is(p.target, p.content) {
		return
	}
	for i, part := range p.parts {
		if part.Name != k.Part {
			continue
		}
		p.parts = p.parts[i:]
		if len(k.Head) == slot.HeaderSize && k.From >= slot.HeaderSize && k.From <= part.Size && k.From%align == 0 {
			p.from, p.head, p.saved = k.From, k.Head, k.From
		}
		return
	}
}
