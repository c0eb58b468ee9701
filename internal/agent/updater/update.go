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
	by      string // who approved
	past    *past
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
	By       string      `json:"by,omitempty"`     // who approved
	Past     *past       `json:"past,omitempty"`
}

// past is what was approved before, and became good.
type past struct {
	Image slot.Digest `json:"image"`
	By    string      `json:"by"`
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
	k := kept{Slot: byte(p.target), Image: p.content.Image, Root: p.content.Root, Approved: p.approve, Server: p.server, By: p.by, Past: p.past}
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

// approved says in a line who approved what is tried or has failed, or else what is good;
// empty: nobody has, as of a disk that was flashed.
func (k kept) approved(s slot.State) string {
	c := s.Of(s.Candidate)
	switch good := s.Of(s.Good); {
	case k.By != "" && (k.Approved || s.Phase == slot.Rejected) && k.is(s.Candidate, c):
		return "approved: version " + c.Version + ", by " + k.By
	case k.By != "" && k.is(s.Good, good):
		return "approved: version " + good.Version + ", by " + k.By
	case k.Past != nil && k.Past.Image == good.Image:
		return "approved: version " + good.Version + ", by " + k.Past.By
	}
	return ""
}

// inherit is what is remembered of the approval of what is good, when another update
// begins.
func (k kept) inherit(s slot.State) *past {
	if k.By != "" && k.is(s.Good, s.Of(s.Good)) {
		return &past{k.Image, k.By}
	}
	return k.Past
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
